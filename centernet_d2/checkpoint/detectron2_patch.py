"""The two changes to Detectron2, for models of this project alone: its checkpointer becomes ours, and its predictor
checks images."""

from __future__ import annotations

from typing import Any, TypeVar

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine.defaults import DefaultPredictor
from torch import nn

from centernet_d2.checkpoint.checkpointer import SafeCheckpointer
from centernet_d2.runtime.images import check_image

_Model = TypeVar("_Model", bound=type[nn.Module])
_model_classes: list[type[nn.Module]] = []


def load_safely(model_class: _Model) -> _Model:
    """Decorate a class: ``DetectionCheckpointer(model)`` then gives a :class:`SafeCheckpointer` for its models.

    ``DefaultPredictor`` calls ``check_image`` first, because it casts pixels to float32 before the model sees them.

    So does what Detectron2 itself makes (``DefaultPredictor``, ``DefaultTrainer``). Nothing on the model could do that:
    Detectron2's own unpickles freely, and gives up on reference files (they hold an epoch) before it asks the model.
    """
    _model_classes.append(model_class)
    return model_class


def _is_ours(model: nn.Module | None) -> bool:
    return isinstance(getattr(model, "module", model), tuple(_model_classes))


def _create(
    cls: type[DetectionCheckpointer], model: nn.Module | None = None, *_: Any, **__: Any
) -> DetectionCheckpointer:
    return object.__new__(SafeCheckpointer if _is_ours(model) and cls is DetectionCheckpointer else cls)


DetectionCheckpointer.__new__ = staticmethod(_create)  # type: ignore[method-assign,assignment]
_predict = DefaultPredictor.__call__


def _check_and_predict(self: DefaultPredictor, original_image: Any) -> Any:
    return _predict(self, check_image(original_image) if _is_ours(self.model) else original_image)


DefaultPredictor.__call__ = _check_and_predict
