"""Pascal VOC's mean average precision (Everingham et al. 2010), for the dataset dicts of any dataset.

Boxes are edges in continuous coordinates, which gives the overlaps of the development kit, which counts
both end pixels. A detection is matched to the object of its class with the highest IoU, if that is above the threshold,
even if another detection has it already. Of several on one object all but the best are false positives; those on
difficult objects are ignored.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances

from centernet_d2.data.annotations import convert_to_corner_boxes
from centernet_d2.data.catalog import get_class_names, load_dataset_dicts
from centernet_d2.data.image_io import DatasetDict
from centernet_d2.evaluation.average_precision import (
    compute_area_under_curve,
    compute_box_iou,
    compute_eleven_point_average,
    mark_first_of_each,
)
from centernet_d2.evaluation.common import gather_predictions, select_finite_detections

_logger = logging.getLogger(__name__)

#: IoU thresholds in percent.
_LEVELS = range(50, 100, 5)


class Objects(NamedTuple):
    """Of an image: ``boxes`` (P, 4) float64 x1, y1, x2, y2, ``classes`` (P,) int64, and (P,) float64 ``values``: of
    detections the scores, of true objects 1 where difficult."""

    boxes: np.ndarray
    classes: np.ndarray
    values: np.ndarray

    def select_class(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes and values."""
        chosen = self.classes == number
        return self.boxes[chosen], self.values[chosen]


class VocEvaluator(DatasetEvaluator):
    """Mean AP in percent, 0 to 100, over the classes with ground truth; NaN without any.

    ``evaluate`` returns, in the main process and {} in others, ``{"bbox": ...}`` with ``AP50``, ``AP75`` and ``AP``,
    the mean from 50 to 95, by the measure of the dataset's ``year``: eleven points for 2007, else the area;
    ``AP50-07`` and ``AP50-area`` by both; and ``AP50-<class>``. Objects of images that were not processed are missed.
    Predictions are ``Instances`` with ``pred_boxes`` (image pixels), ``scores`` and ``pred_classes``. Difficult
    objects are those with "difficult" or, without that field, "iscrowd".
    """

    def __init__(self, dataset_name: str) -> None:
        self._dataset_name = dataset_name
        self._gt = {
            dataset_dict["image_id"]: _read_gt(dataset_dict["annotations"])
            for dataset_dict in load_dataset_dicts(dataset_name)
        }
        self._class_names = get_class_names(dataset_name)
        self._is_2007 = MetadataCatalog.get(dataset_name).get("year") == 2007
        self.reset()

    def reset(self) -> None:
        self._predictions: dict[Any, Objects] = {}

    def process(self, inputs: list[DatasetDict], outputs: list[dict[str, Instances]]) -> None:
        """Keep boxes, scores and classes; non-finite detections are dropped."""
        for sample, output in zip(inputs, outputs, strict=True):
            boxes, scores, classes = select_finite_detections(output["instances"])
            self._predictions[sample["image_id"]] = Objects(boxes, classes, scores)

    def evaluate(self) -> dict[str, dict[str, float]]:
        """
        Raises:
            KeyError: detections in an image that the dataset does not have.
        """
        predictions = gather_predictions(self._predictions, self._dataset_name, len(self._gt))
        if predictions is None:
            return {}
        # (classes, levels, 2).
        table = np.array([average_precisions(self._gt, predictions, k) for k in range(len(self._class_names))])
        eleven, area = np.moveaxis(table, 2, 0)
        chosen = eleven if self._is_2007 else area
        means = {level: _compute_mean(chosen[:, k]) for k, level in enumerate(_LEVELS)}
        results = {
            "AP": float(np.mean(list(means.values()))),
            "AP50": means[50],
            "AP75": means[75],
            "AP50-07": _compute_mean(eleven[:, 0]),
            "AP50-area": _compute_mean(area[:, 0]),
            **{f"AP50-{name}": float(value) for name, value in zip(self._class_names, chosen[:, 0], strict=True)},
        }
        _logger.info("Pascal VOC: %s", ", ".join(f"{name} {value:.2f}" for name, value in results.items()))
        return {"bbox": results}


def average_precisions(
    gt: Mapping[Any, Objects], predictions: Mapping[Any, Objects], number: int
) -> list[tuple[float, float]]:
    """Return AP in percent of class ``number`` at overlaps of 50, 55, ..., 95 percent: by eleven points, by area.

    NaN without ground truth.

    Args:
        gt: by image.
        predictions: by image; images without predictions may be missing.

    Raises:
        KeyError: an image of ``predictions`` is not in ``gt``.
    """
    curves = _compute_curves(gt, predictions, number)
    return [(100 * compute_eleven_point_average(*curve), 100 * compute_area_under_curve(*curve)) for curve in curves]


def _compute_curves(
    gt: Mapping[Any, Objects], predictions: Mapping[Any, Objects], number: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield for each overlap recall and precision, (D,) each, with the 1, 2, ..., D best detections."""
    true = {key: one.select_class(number) for key, one in gt.items()}
    starts = dict(zip(true, np.cumsum([0, *(len(boxes) for boxes, _ in true.values())]), strict=False))
    difficult = np.concatenate([values for _, values in true.values()]) > 0 if true else np.zeros(0, dtype=bool)
    columns = [np.zeros((3, 0))]
    for key, one in predictions.items():
        boxes, scores = one.select_class(number)
        # The padding column has IoU 0 and is never matched.
        overlaps = np.pad(compute_box_iou(boxes, true[key][0]), ((0, 0), (0, 1)))
        columns.append(np.stack([scores, overlaps.max(axis=1), overlaps.argmax(axis=1) + starts[key]]))
    scores, overlaps, nearest = np.concatenate(columns, axis=1)
    order = np.argsort(-scores, kind="stable")
    overlaps, nearest = overlaps[order], nearest[order].astype(np.int64)
    total = int((~difficult).sum())
    for level in _LEVELS:
        matched = overlaps > level / 100
        excused = np.zeros(len(matched), dtype=bool)
        excused[matched] = difficult[nearest[matched]]
        hits = mark_first_of_each(np.where(matched & ~excused, nearest, -1))
        hits_so_far, counted = np.cumsum(hits), np.cumsum(~excused)
        recall = hits_so_far / total if total else np.full(max(len(hits), 1), np.nan)
        yield recall, hits_so_far / np.maximum(counted, 1) if total else np.zeros(len(recall))


def _read_gt(annotations: list[dict[str, Any]]) -> Objects:
    classes = np.array([one["category_id"] for one in annotations], dtype=np.int64)
    difficult = np.array([one.get("difficult", one.get("iscrowd", 0)) for one in annotations], dtype=np.float64)
    return Objects(convert_to_corner_boxes(annotations), classes, difficult)


def _compute_mean(values: np.ndarray) -> float:
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else float("nan")
