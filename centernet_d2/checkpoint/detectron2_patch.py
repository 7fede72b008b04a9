"""The one change to Detectron2: its checkpointer becomes ours for models of this project."""

from __future__ import annotations

from typing import Any, TypeVar

from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from centernet_d2.checkpoint.checkpointer import SafeCheckpointer

_Model = TypeVar("_Model", bound=type[nn.Module])
_model_classes: list[type[nn.Module]] = []


def load_safely(model_class: _Model) -> _Model:
    """Class decorator: ``DetectionCheckpointer(model)`` gives a :class:`SafeCheckpointer` for models of this class.

    So does what Detectron2 itself makes (``DefaultPredictor``, ``DefaultTrainer``). Nothing on the model could do that:
    Detectron2's own unpickles freely, and gives up on published files (they hold an epoch) before it asks the model.
    """
    _model_classes.append(model_class)
    return model_class


def _new(cls: type[DetectionCheckpointer], model: nn.Module | None = None, *_: Any, **__: Any) -> DetectionCheckpointer:
    ours = isinstance(getattr(model, "module", model), tuple(_model_classes))
    return object.__new__(SafeCheckpointer if ours and cls is DetectionCheckpointer else cls)


DetectionCheckpointer.__new__ = staticmethod(_new)  # type: ignore[method-assign,assignment]
