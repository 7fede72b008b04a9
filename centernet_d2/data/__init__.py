"""From files and records to the network's input; importing this registers the built-in data sets."""

from centernet_d2.data import datasets  # noqa: F401
