"""The CenterNet family on Detectron2. Importing this registers every model and dataset, and reads no file."""

import logging

# Without a GPU, PyTorch's builder of extensions warns of CUDA_HOME when it is imported; nothing is built here.
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)

from centernet_d2 import data, modeling  # noqa: E402
from centernet_d2.config import add_centernet_config, get_cfg  # noqa: E402

__all__ = ["add_centernet_config", "data", "get_cfg", "modeling"]
__version__ = "0.1.0"
