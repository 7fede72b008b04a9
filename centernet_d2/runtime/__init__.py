"""Prediction with an exported model, in NumPy alone. This folder can be copied out and used without the package."""
