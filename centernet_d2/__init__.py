"""The CenterNet family on Detectron2.

Importing this is quick and needs neither PyTorch nor Detectron2. Its attributes load what they need: ``get_cfg`` and
``add_centernet_config`` register every model and dataset, and read no file; ``Detector`` is the library in a few lines.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from centernet_d2 import data, modeling
    from centernet_d2 import model_zoo as model_zoo
    from centernet_d2.api import Detector
    from centernet_d2.config import add_centernet_config, get_cfg

# Without a GPU, PyTorch's builder of extensions warns of CUDA_HOME when it is imported; nothing is built here.
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)

__all__ = ["Detector", "add_centernet_config", "data", "get_cfg", "model_zoo", "modeling"]
__version__ = "0.1.0"

_MODULES = ("data", "model_zoo", "modeling")
#: Attribute -> the module that has it, and modules that register what it needs.
_SOURCES = {
    "Detector": ("centernet_d2.api",),
    "add_centernet_config": ("centernet_d2.config", "centernet_d2.data", "centernet_d2.modeling"),
    "get_cfg": ("centernet_d2.config", "centernet_d2.data", "centernet_d2.modeling"),
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"centernet_d2.{name}")
    if name in _SOURCES:
        source, *_ = [importlib.import_module(module) for module in _SOURCES[name]]
        return getattr(source, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
