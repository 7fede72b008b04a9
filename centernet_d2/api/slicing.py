"""Sliced prediction with any model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from centernet_d2.api.models import Model
from centernet_d2.api.result import to_numpy
from centernet_d2.runtime.objects import Objects
from centernet_d2.runtime.slicing import predict_in_tiles
from centernet_d2.video import Frame

# Values that do not survive being seen in a part of the image: they depend on the camera, or on previous frames.
_OF_WHOLE_IMAGES = ("pred_locations", "pred_track_ids")


def predict_sliced(model: Model, frame: Frame, side: int, overlap: int) -> Any:
    """Predict on tiles of the frame and on the whole of it, see ``runtime.slicing.predict_in_tiles``.

    Raises:
        ValueError: the model places 3D boxes or follows objects, which takes the whole image.
    """
    last: list[Any] = []

    def predict(images: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        predictions = model.predict([replace(frame, image=image) for image in images])
        last[:] = predictions
        if any(one.has(name) for one in predictions for name in _OF_WHOLE_IMAGES):
            raise ValueError("3D boxes and tracks need whole images: leave out the slices")
        return [{name: to_numpy(values) for name, values in one.get_fields().items()} for one in predictions]

    return _rebuild(predict_in_tiles(predict, frame.image, side, overlap), last[0], frame.image.shape[:2])


def _rebuild(fields: dict[str, np.ndarray], like: Any, size: tuple[int, ...]) -> Any:
    """Objects of the kind of ``like``, Detectron2's or NumPy's."""
    if isinstance(like, Objects):
        return Objects((size[0], size[1]), fields)
    import torch
    from detectron2.structures import Boxes, RotatedBoxes

    result = type(like)((size[0], size[1]))
    for name, values in fields.items():
        tensor, kind = torch.from_numpy(values), type(like.get(name))
        result.set(name, kind(tensor) if kind in (Boxes, RotatedBoxes) else tensor)
    return result
