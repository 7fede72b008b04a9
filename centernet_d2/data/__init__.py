"""From files and records to the network's input; importing this registers the built-in datasets."""

from centernet_d2.data import datasets  # noqa: F401
