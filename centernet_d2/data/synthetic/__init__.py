"""Synthetic datasets: images drawn on demand with exact labels."""
