"""Datasets, one file for each format; importing this registers the built-in ones and reads no file."""

from centernet_d2.data.datasets import builtin  # noqa: F401
from centernet_d2.data.synthetic import registration  # noqa: F401  (the synthetic datasets)
