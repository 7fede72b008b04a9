"""The CenterNet family on Detectron2. Importing this registers every model and dataset, and reads no file."""

from centernet_d2 import data, modeling
from centernet_d2.config import add_centernet_config, get_cfg

__all__ = ["add_centernet_config", "data", "get_cfg", "modeling"]
__version__ = "0.1.0"
