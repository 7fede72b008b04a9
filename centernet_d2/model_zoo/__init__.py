"""Configurations and trained models by name.

model_zoo.get_config_file("COCO-Detection/centernet_R_18_DCN_1pt.yaml")     # a path, as in Detectron2
model_zoo.get_config("COCO-Detection/centernet_R_18_DCN_1pt.yaml")          # a config
model_zoo.get_weights("centerface")                                         # a path; downloaded once, and checked
"""

from centernet_d2.checkpoint.download import DownloadError, fetch, get_cache_folder
from centernet_d2.model_zoo.catalog import Entry, find_model, get_weights, list_models, read_catalog
from centernet_d2.model_zoo.configs import find_config, get_config, get_config_file, list_configs

__all__ = [
    "DownloadError",
    "Entry",
    "fetch",
    "find_config",
    "find_model",
    "get_cache_folder",
    "get_config",
    "get_config_file",
    "get_weights",
    "list_configs",
    "list_models",
    "read_catalog",
]
