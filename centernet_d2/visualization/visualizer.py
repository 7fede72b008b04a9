"""Draws inputs, targets and predictions.

Images are (H, W, 3) uint8, BGR, as OpenCV has them.

It is not built on Detectron2's ``Visualizer``, which draws with Matplotlib: for 20 objects in 640 x 480 pixels that
takes 150 ms for boxes, 360 ms with masks and 3 s with 68 keypoints each, against 12, 23 and 46 ms here (one CPU core),
too slow for video; and its strokes of fixed width cover the keypoints of small objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.structures import Instances

from centernet_d2.data.datasets.custom import read_category_ids
from centernet_d2.structures.boxes3d import get_calibration
from centernet_d2.structures.model_metadata import ModelMetadata
from centernet_d2.visualization.canvas import Canvas, Memory, VisMetadata, get_class_color, get_opencv_color
from centernet_d2.visualization.draw_keypoints import find_schema
from centernet_d2.visualization.primitives import write_labels
from centernet_d2.visualization.renderers import find_renderers

# Small images are enlarged to this shorter side, so that text is readable.
_MIN_SIDE = 400
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Visualizer:
    """Draws predictions on images and videos, and describes them as JSON.

    It keeps the trails of tracked objects of the current video.

    Args:
        threshold: objects whose score is not above it are left out; objects without scores are always drawn.
    """

    def __init__(self, metadata: VisMetadata | None = None, threshold: float = 0.3) -> None:
        self.metadata, self.threshold = metadata or VisMetadata(), threshold
        self._memory = Memory()

    @classmethod
    def from_config(cls, cfg: CfgNode, threshold: float = 0.3, metadata: ModelMetadata | None = None) -> Visualizer:
        """Return a visualizer with ``MODEL.BOX3D.CALIBRATION``, and class names and keypoints of the model.

        Args:
            metadata: ``model.metadata``; None takes ``MODEL.METADATA``, or what the datasets say.
        """
        schema = metadata.schema if metadata else find_schema(cfg)
        names, ids = _find_names_and_ids(cfg, metadata)
        if names is None and schema and schema.class_names:
            names = list(schema.class_names)
        calibration = torch.tensor(cfg.MODEL.BOX3D.CALIBRATION, dtype=torch.float64).reshape(3, 4)
        return cls(VisMetadata(names, schema, calibration, ids), threshold)

    def draw(
        self, image: np.ndarray, predictions: Instances, dataset_dict: Mapping[str, Any] = _NOTHING, starts: bool = True
    ) -> np.ndarray:
        """Return the image with its predictions, and extra views beside it; small images are enlarged.

        The result has the same size for all images of a video.

        Args:
            predictions: in pixels of ``image``.
            dataset_dict: of the image; "calib", where it has one, is its calibration.
            starts: whether a video (or a single image) begins.

        Raises:
            ValueError: "calib" is not a 3x4 matrix, or 3D boxes have no calibration.
        """
        if starts:
            self._memory = Memory()
        shown, height, width = self._select_shown(predictions), *image.shape[:2]
        scale = max(1.0, _MIN_SIDE / min(height, width))
        size = (round(width * scale), round(height * scale))
        canvas = Canvas(
            image=cv2.resize(image, size, interpolation=cv2.INTER_LINEAR) if scale > 1 else image.copy(),
            scale=scale,
            metadata=self.metadata,
            calibration=self.metadata.calibration
            if dataset_dict.get("calib") is None
            else get_calibration(dict(dataset_dict)),
            memory=self._memory,
            colors=[get_opencv_color(index) for index in shown.pred_classes.tolist()],
            words=[[] for _ in range(len(shown))],
        )
        for renderer in find_renderers(shown):
            renderer.draw(canvas, shown)
        texts, boxes = [" ".join(words) for words in canvas.words], shown.pred_boxes.tensor.double().numpy() * scale
        write_labels(canvas.image, texts, boxes, canvas.colors, max(12, min(size) // 40))
        self._memory.frame += 1
        return join_side_by_side([canvas.image, *canvas.beside])

    def describe(self, predictions: Instances) -> list[dict[str, Any]]:
        """Return entries for JSON, one per object above the threshold, highest-scoring first."""
        shown = self._select_shown(predictions)
        entries: list[dict[str, Any]] = [{} for _ in range(len(shown))]
        for renderer in find_renderers(shown):
            for entry, extra in zip(entries, renderer.describe(self.metadata, shown), strict=True):
                entry.update(extra)
        return entries

    def _select_shown(self, predictions: Instances) -> Instances:
        return (predictions[predictions.scores > self.threshold] if predictions.has("scores") else predictions).to(
            "cpu"
        )


def _find_names_and_ids(
    cfg: CfgNode, metadata: ModelMetadata | None
) -> tuple[Sequence[str] | None, Sequence[int] | None]:
    """Return class names and category ids of the model, or of the config's first dataset
    that has any; None if unknown."""
    if metadata and metadata.class_names:
        return metadata.class_names, metadata.category_ids
    if cfg.MODEL.METADATA.CLASS_NAMES:
        return cfg.MODEL.METADATA.CLASS_NAMES, cfg.MODEL.METADATA.CATEGORY_IDS or None
    for name in (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN):
        if names := MetadataCatalog.get(name).get("thing_classes"):
            return names, read_category_ids(name) or None
    return None, None


def blend_heatmap(image: np.ndarray, heatmap: np.ndarray, strength: float = 0.7) -> np.ndarray:
    """Draw class heatmaps over an image; each cell has the color of its highest class.

    Args:
        heatmap: (C, h, w) float in 0..1, covering the whole of ``image``.
        strength: fraction of the color where the heatmap is 1.
    """
    size = (image.shape[1], image.shape[0])
    palette = np.array([get_class_color(i)[::-1] for i in range(len(heatmap))], dtype=np.float32) * 255
    fraction = strength * heatmap.max(axis=0)[..., None].astype(np.float32)
    color = cv2.resize(palette[heatmap.argmax(axis=0)] * fraction, size, interpolation=cv2.INTER_LINEAR)
    fraction = cv2.resize(fraction, size, interpolation=cv2.INTER_LINEAR)[..., None]
    return np.rint(image * (1 - fraction) + color).astype(np.uint8)


def join_side_by_side(images: Sequence[np.ndarray]) -> np.ndarray:
    """Return images in a row, resized to the height of the first."""
    height = images[0].shape[0]
    return np.hstack([cv2.resize(x, (round(x.shape[1] * height / x.shape[0]), height)) for x in images])
