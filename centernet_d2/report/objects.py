"""The objects of an evaluated dataset, predicted and true, as arrays in one file."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class ImageObjects:
    """The objects of one image, boxes as x1, y1, x2, y2 in its pixels.

    Attributes:
        pred_boxes, pred_scores, pred_classes: (D, 4), (D,), (D,), by descending score.
        true_boxes, true_classes: (G, 4), (G,).
        true_ignored: (G,) bool: crowds and difficult objects. Finding one is neither right nor wrong.
    """

    pred_boxes: np.ndarray
    pred_scores: np.ndarray
    pred_classes: np.ndarray
    true_boxes: np.ndarray
    true_classes: np.ndarray
    true_ignored: np.ndarray


@dataclass(frozen=True)
class EvaluatedObjects:
    """Of all images. Rows of ``pred_*`` and ``true_*`` are sorted by image.

    Attributes:
        class_names: (C,) str.
        file_names: (I,) str.
        pred_image, true_image: (D,), (G,) int64, index of the image.
        pred_boxes, pred_scores, pred_classes, true_boxes, true_classes, true_ignored: as of :class:`ImageObjects`.
        keypoint_names: (K,) str; empty where the model has no keypoints.
        keypoint_errors: (G, K) float32, distance from the true keypoint divided by the square root of the true box's
            area; NaN where it is not labeled or the object was not detected.
    """

    class_names: np.ndarray
    file_names: np.ndarray
    pred_image: np.ndarray
    pred_boxes: np.ndarray
    pred_scores: np.ndarray
    pred_classes: np.ndarray
    true_image: np.ndarray
    true_boxes: np.ndarray
    true_classes: np.ndarray
    true_ignored: np.ndarray
    keypoint_names: np.ndarray
    keypoint_errors: np.ndarray

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.file_names)

    def iterate_images(self) -> Iterator[ImageObjects]:
        """Yield the objects of each image, in order."""
        edges = np.arange(len(self) + 1)
        predicted, true = np.searchsorted(self.pred_image, edges), np.searchsorted(self.true_image, edges)
        for i in range(len(self)):
            mine, its = slice(predicted[i], predicted[i + 1]), slice(true[i], true[i + 1])
            yield ImageObjects(
                *(self.pred_boxes[mine], self.pred_scores[mine], self.pred_classes[mine]),
                *(self.true_boxes[its], self.true_classes[its], self.true_ignored[its]),
            )

    def save(self, path: Path) -> None:
        """Write a file for :meth:`load`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> EvaluatedObjects:
        """
        Raises:
            ValueError: not a file of :meth:`save`.
            FileNotFoundError: no such file.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                return cls(**{field.name: file[field.name] for field in fields(cls)})
        except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is not a file of evaluated objects: {error}") from None
