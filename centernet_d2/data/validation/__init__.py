"""Checks of annotations, and reports about datasets."""
