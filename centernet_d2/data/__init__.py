"""From files and dataset dicts to the network's input.

Importing this registers the built-in datasets, the fields that tasks may require, and what fills in dataset-dependent
config values. It reads no file.
"""

from centernet_d2.data import datasets, fields_3d, model_metadata  # noqa: F401
