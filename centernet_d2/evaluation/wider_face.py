"""WIDER FACE's average precision, as its published tool counts it (Yang et al. 2016).

Differences from other benchmarks:

* Scores are stretched to 0 to 1 over the whole set; the curve has their 1000 thresholds 0.999, 0.998, ..., 0, so what
  lies between two of them is counted together.
* A detection belongs to the face that it overlaps most, if by at least a half, of *all* faces, whether another has
  taken it or not. Faces that a difficulty does not count take detections, which are then no errors; of several on a
  counted face all but the first are errors.
* Widths and heights are one pixel larger than the differences of edges when overlaps are computed.
* Detections in images without any face are no errors.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances

from centernet_d2.data.annotations import convert_to_corner_boxes
from centernet_d2.data.catalog import load_dataset_dicts
from centernet_d2.data.image_io import DatasetDict
from centernet_d2.data.preparation.wider_face import DIFFICULTIES
from centernet_d2.data.validation.object_boxes import list_scored_objects
from centernet_d2.evaluation.average_precision import compute_area_under_curve, compute_box_iou, mark_first_of_each
from centernet_d2.evaluation.common import gather_predictions, select_finite_detections

_logger = logging.getLogger(__name__)

_NUM_THRESHOLDS = 1000
_MIN_OVERLAP = 0.5


class Faces(NamedTuple):
    """True faces of an image: ``boxes`` (G, 4) float64 x1, y1, x2, y2 and, by difficulty, (G,) bool: it counts."""

    boxes: np.ndarray
    counts: dict[str, np.ndarray]


class Detections(NamedTuple):
    """Detections of an image by descending score: (D, 4) float64 x1, y1, x2, y2 and (D,) float64."""

    boxes: np.ndarray
    scores: np.ndarray


class WiderFaceEvaluator(DatasetEvaluator):
    """AP in percent, 0 to 100, NaN where a difficulty counts no face.

    ``evaluate`` returns, in the main process and {} in others, ``{"wider_face": {"AP-easy", "AP-medium", "AP-hard"}}``.
    Faces of images that were not processed are missed. Predictions are ``Instances`` with ``pred_boxes`` (image
    pixels) and ``scores``; of several classes all are faces.

    ``output_dir`` gets ``<event>/<image>.txt`` in the format of the benchmark.
    """

    def __init__(self, dataset_name: str, output_dir: str | Path | None = None) -> None:
        """
        Args:
            dataset_name: registered, of a file of ``data.preparation.wider_face``.

        Raises:
            ValueError: its faces have no difficulties.
        """
        self._dataset_name = dataset_name
        self._output_dir = None if output_dir is None else Path(output_dir)
        self._dataset_dicts = {
            dataset_dict["image_id"]: dataset_dict for dataset_dict in load_dataset_dicts(dataset_name)
        }
        self._gt = read_gt(self._dataset_dicts.values(), dataset_name)
        if not any(any(faces.counts) for faces in self._gt.values()):
            problem = "have no difficulties: prepare it with eval_tools.zip in its folder, or score it in COCO's way"
            raise ValueError(f"dataset {dataset_name}: the faces {problem}")
        self.reset()

    def reset(self) -> None:
        self._predictions: dict[Any, Detections] = {}

    def process(self, inputs: list[DatasetDict], outputs: list[dict[str, Instances]]) -> None:
        """Keep boxes and scores; non-finite detections are dropped."""
        for sample, output in zip(inputs, outputs, strict=True):
            boxes, scores, _ = select_finite_detections(output["instances"])
            order = np.argsort(-scores, kind="stable")
            self._predictions[sample["image_id"]] = Detections(boxes[order], scores[order])

    def evaluate(self) -> dict[str, dict[str, float]]:
        """
        Raises:
            KeyError: detections in an image that the dataset does not have.
        """
        predictions = gather_predictions(self._predictions, self._dataset_name, len(self._gt))
        if predictions is None:
            return {}
        if self._output_dir:
            for key, one in predictions.items():
                _save(one, self._output_dir, Path(self._dataset_dicts[key]["file_name"]))
        results = {f"AP-{name}": value for name, value in average_precisions(self._gt, predictions).items()}
        _logger.info("WIDER FACE: %s", ", ".join(f"{name} {value:.2f}" for name, value in results.items()))
        return {"wider_face": results}


def read_gt(dataset_dicts: Iterable[DatasetDict], dataset_name: str) -> dict[Any, Faces]:
    """Return image id -> its faces with the crowds, of the dataset dicts of a file of
    ``data.preparation.wider_face``."""
    gt = {}
    for dataset_dict in dataset_dicts:
        faces = list_scored_objects(dataset_dict["annotations"], dataset_name)
        named = [face.get("difficulties", ()) for face in faces]
        known = DIFFICULTIES if any("difficulties" in face for face in faces) else ()
        counts = {name: np.array([name in names for names in named]) for name in known}
        gt[dataset_dict["image_id"]] = Faces(convert_to_corner_boxes(faces), counts)
    return gt


def average_precisions(gt: dict[Any, Faces], predictions: dict[Any, Detections]) -> dict[str, float]:
    """Return difficulty -> AP in percent; NaN if no face counts.

    Args:
        gt: by image.
        predictions: by image, of which some may be missing; scores of any range.
    """
    low, high = _find_score_range(predictions)
    thresholds = 1 - np.arange(1, _NUM_THRESHOLDS + 1) / _NUM_THRESHOLDS
    curves = {name: np.zeros((2, _NUM_THRESHOLDS)) for name in DIFFICULTIES}
    for key, one in predictions.items():
        faces = gt[key]
        if not len(faces.boxes) or not len(one.boxes):
            continue
        # Detections of equal score are counted together.
        scores = (one.scores - low) / (high - low) if high > low else np.ones_like(one.scores)
        above = np.searchsorted(-scores, -thresholds, side="right")
        overlaps = compute_box_iou(one.boxes, faces.boxes, margin=1)
        nearest = np.where(overlaps.max(axis=1) >= _MIN_OVERLAP, overlaps.argmax(axis=1), -1)
        for name, counts in faces.counts.items():
            curves[name] += count(nearest, counts)[:, above]
    totals = {name: sum(int(faces.counts[name].sum()) for faces in gt.values() if faces.counts) for name in curves}
    return {name: _average_precision(curve[0], curve[1], totals[name]) for name, curve in curves.items()}


def count(nearest: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return (2, D + 1): detections that are hits or errors, and hits, among the first 0, 1, ..., D.

    Args:
        nearest: (D,) face of each detection, -1 for none, by descending score.
        counts: (G,) bool.
    """
    matched = nearest >= 0
    ignored = matched & ~counts[nearest]
    hits = mark_first_of_each(np.where(ignored, -1, nearest))
    return np.pad(np.cumsum([~ignored, hits], axis=1), ((0, 0), (1, 0)))


def _average_precision(detections: np.ndarray, hits: np.ndarray, total: int) -> float:
    if not total:
        return math.nan
    precision = np.divide(hits, detections, out=np.zeros(len(hits)), where=detections > 0)
    return 100 * compute_area_under_curve(hits / total, precision)


def _find_score_range(predictions: dict[Any, Detections]) -> tuple[float, float]:
    scores = [(one.scores[-1], one.scores[0]) for one in predictions.values() if len(one.scores)]
    return (float(min(low for low, _ in scores)), float(max(high for _, high in scores))) if scores else (0.0, 0.0)


def _save(predictions: Detections, output_dir: Path, file_name: Path) -> None:
    """Write the image's name, the number of detections, and x, y, width, height, score of each."""
    folder = output_dir / file_name.parent.name
    folder.mkdir(parents=True, exist_ok=True)
    sizes = np.hstack(
        [predictions.boxes[:, :2], predictions.boxes[:, 2:] - predictions.boxes[:, :2], predictions.scores[:, None]]
    )
    rows = [" ".join(f"{value:.9g}" for value in row) for row in sizes.tolist()]
    (folder / f"{file_name.stem}.txt").write_text("\n".join([file_name.name, str(len(rows)), *rows, ""]))
