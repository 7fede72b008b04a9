"""Evaluation of face and clothes landmarks."""
