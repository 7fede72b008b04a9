"""Drawing of boxes and keypoints in NumPy, where there is no PyTorch."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import cv2
import numpy as np

from centernet_d2.runtime.objects import Objects
from centernet_d2.visualization.primitives import compute_line_width, draw_dot, draw_line, write_labels

_MIN_SIDE = 400


class PlainVisualizer:
    """Draws and describes :class:`Objects` as ``Visualizer`` does ``Instances``: boxes, labels, and dots of keypoints.

    Args:
        class_names: empty: classes are numbers.
        category_ids: of the classes, for JSON.
    """

    def __init__(self, class_names: Sequence[str], category_ids: Sequence[int]) -> None:
        self.class_names, self.category_ids = class_names, category_ids

    def draw(self, image: np.ndarray, predictions: Objects, *_: Any) -> np.ndarray:
        """``image`` (H, W, 3) uint8, BGR, with the predictions; small images are enlarged."""
        scale = max(1.0, _MIN_SIDE / min(image.shape[:2]))
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR) if scale > 1 else image.copy()
        width, boxes = compute_line_width(image), predictions.pred_boxes.astype(np.float64) * scale
        colors = [_color(label) for label in predictions.pred_classes.tolist()]
        for color, (x1, y1, x2, y2) in zip(colors, boxes, strict=True):
            for start, end in pairwise([(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]):
                draw_line(image, start, end, color, width)
        if predictions.has("pred_keypoints"):
            for color, points in zip(colors, predictions.pred_keypoints, strict=True):
                for x, y, _score in points[points[:, 2] > 0]:
                    draw_dot(image, (x * scale, y * scale), 1.5 * width, color)
        scores = predictions.scores.tolist()
        labels = predictions.pred_classes.tolist()
        texts = [f"{self._name(label)} {score:.0%}" for label, score in zip(labels, scores, strict=True)]
        write_labels(image, texts, boxes, colors, max(12, min(size) // 40))
        return image

    def describe(self, predictions: Objects) -> list[dict[str, Any]]:
        """Entries for JSON, one per object, with the keys of ``Visualizer.describe``."""
        entries = []
        others = {name: x for name, x in predictions.get_fields().items() if name not in _DESCRIBED}
        for i, label in enumerate(predictions.pred_classes.tolist()):
            name = self._name(label)
            entry: dict[str, Any] = {
                "category_id": self.category_ids[label] if self.category_ids else label,
                "category_name": name,
                "category": name,
                "score": round(float(predictions.scores[i]), 4),
                "box": [round(x, 2) for x in predictions.pred_boxes[i].tolist()],
            }
            entry |= _convert_to_lists({name.removeprefix("pred_"): values[i] for name, values in others.items()})
            entries.append(entry)
        return entries

    def _name(self, label: int) -> str:
        return self.class_names[label] if label < len(self.class_names) else f"class {label}"


_DESCRIBED = ("pred_boxes", "scores", "pred_classes")


def _convert_to_lists(values: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {name: np.asarray(value).round(4).tolist() for name, value in values.items()}


def _color(index: int) -> tuple[int, int, int]:
    """As ``renderers.color_of``."""
    red, green, blue = colorsys.hsv_to_rgb((index * 0.618034) % 1.0, 0.55 + 0.4 * (index % 2), 1.0)
    return round(255 * blue), round(255 * green), round(255 * red)
