"""What renderers draw on and what they know: the canvas of one image, the state of a video, facts about the model."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from detectron2.structures import Instances
from torch import Tensor

from centernet_d2.data.schemas import KeypointSchema
from centernet_d2.visualization.primitives import Color


def get_class_color(index: int) -> tuple[float, float, float]:
    """Return a color (RGB, 0..1) that differs clearly from those of neighboring classes."""
    return colorsys.hsv_to_rgb((index * 0.618034) % 1.0, 0.55 + 0.4 * (index % 2), 1.0)


@dataclass(frozen=True)
class VisMetadata:
    """What drawing needs to know about the model.

    Attributes:
        names: of the classes.
        schema: of "pred_keypoints"; gives the lines; only keypoints of the object's class are drawn.
        calibration: (3, 4), for images without one.
        category_ids: of the classes in their dataset; None: 0, 1, ...
    """

    names: Sequence[str] | None = None
    schema: KeypointSchema | None = None
    calibration: Tensor | None = None
    category_ids: Sequence[int] | None = None


@dataclass
class Memory:
    """State of one video.

    Attributes:
        frame: number of the current frame.
        trails: by track id, frames and centers (x, y) of its boxes, image pixels.
        reach: side of the bird's eye view, meters; never shrinks.
    """

    frame: int = 0
    trails: dict[int, list[tuple[int, float, float]]] = field(default_factory=dict)
    reach: float = 0.0


@dataclass
class Canvas:
    """An image that P objects are drawn on.

    Attributes:
        image: (H, W, 3) uint8, BGR, ``scale`` times as large as the frame of the objects.
        calibration: (3, 4) of the frame of the objects.
        colors: of each object.
        words: text of each object, written last.
        beside: extra images, placed at the right.
    """

    image: np.ndarray
    scale: float
    metadata: VisMetadata
    calibration: Tensor | None
    memory: Memory
    colors: list[Color]
    words: list[list[str]]
    beside: list[np.ndarray] = field(default_factory=list)


@dataclass(frozen=True)
class Renderer:
    """Draws and describes one field of predictions.

    Attributes:
        field: of ``Instances``.
        draw: on a canvas.
        describe: each object's entries in JSON.
        uses: extra fields that are drawn or described together with this one.
    """

    field: str
    draw: Callable[[Canvas, Instances], None]
    describe: Callable[[VisMetadata, Instances], list[dict[str, Any]]]
    uses: tuple[str, ...] = ()


def get_opencv_color(index: int) -> Color:
    """Return ``get_class_color`` as OpenCV takes it."""
    red, green, blue = (round(255 * value) for value in get_class_color(index))
    return blue, green, red


def get_class_name(names: Sequence[str] | None, index: int) -> str:
    """Return the name of a class, "class 7" if it has none."""
    return names[index] if names is not None and index < len(names) else f"class {index}"
