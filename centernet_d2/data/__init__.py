"""Datasets and loaders: from files to the network's input.

Importing this registers the built-in datasets, the fields that tasks may require, and the resolver of config values
that depend on datasets. It reads no file.
"""

from centernet_d2.data import datasets, fields_3d, fields_masks, model_metadata  # noqa: F401
