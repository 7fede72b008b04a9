"""Errors of a dataset's own keypoints: in pixels, relative to the object, PCK, and where each keypoint errs."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances
from matplotlib.figure import Figure
from tabulate import tabulate

from centernet_d2.data.annotations import convert_to_corner_boxes
from centernet_d2.data.catalog import load_dataset_dicts
from centernet_d2.data.image_io import DatasetDict
from centernet_d2.evaluation.common import gather_predictions
from centernet_d2.evaluation.keypoints.calibration import (
    UNCALIBRATED,
    fit_calibration,
    measure_calibration,
    measure_reliability,
    plot_calibration,
)
from centernet_d2.evaluation.keypoints.metrics import assign
from centernet_d2.evaluation.keypoints.shift import describe_shift
from centernet_d2.structures.keypoint_schema import KeypointSchema, get_schema

_logger = logging.getLogger(__name__)
#: Of PCK: errors of at most this fraction of the box's longer side are right (PCK of Yang and Ramanan 2013).
FRACTIONS = (0.05, 0.1, 0.2)


class OwnKeypointEvaluator(DatasetEvaluator):
    """``evaluate`` returns ``{"keypoint_errors": {...}}`` in the main process (:func:`summarize_errors`), and {} in
    others. ``output_dir`` gets ``keypoint_errors.json`` and ``keypoint_errors.png``.

    With covariances, also ``keypoint_calibration.json`` and ``keypoint_calibration.png``.

    Args:
        dataset_name: a registered set with ``keypoint_schema`` in its metadata.
        calibration: that of the model, ``MODEL.KEYPOINT.CALIBRATION``; if it is (0, 0, 1, 0), another one is fitted.
    """

    def __init__(self, dataset_name: str, output_dir: str | Path, calibration: Sequence[float] = ()) -> None:
        self._calibration = tuple(calibration)
        self._name, self._folder = dataset_name, Path(output_dir)
        self._images = {one["image_id"]: one for one in load_dataset_dicts(dataset_name)}
        self._schema: KeypointSchema = get_schema(MetadataCatalog.get(dataset_name).keypoint_schema)
        self.reset()

    def reset(self) -> None:
        self._predictions: dict[Any, np.ndarray] = {}

    def process(self, inputs: list[DatasetDict], outputs: list[dict[str, Instances]]) -> None:
        """
        Args:
            inputs: with ``image_id``.
            outputs: ``instances`` with ``scores`` (M,), ``pred_classes`` (M,) and ``pred_keypoints`` (M, K, 3).
        """
        for sample, output in zip(inputs, outputs, strict=True):
            annotations = self._images[sample["image_id"]].get("annotations", [])
            self._predictions[sample["image_id"]] = measure_errors(
                output["instances"].to("cpu"), annotations, self._schema
            )

    def evaluate(self) -> dict[str, dict[str, float]]:
        everything = gather_predictions(self._predictions, self._name, len(self._images))
        if not everything or not sum(map(len, everything.values())):
            return {}
        errors = np.concatenate(list(everything.values()))
        results = summarize_errors(errors)
        per_keypoint = {
            name: summarize_errors(errors[:, k : k + 1])
            for k, name in enumerate(self._schema.names)
            if not np.isnan(errors[:, k, 2]).all()
        }
        rows = [[name, *one.values()] for name, one in {**per_keypoint, "all": results}.items()]
        table = tabulate(rows, ["keypoint", *results], tablefmt="pipe", floatfmt=".2f")
        _logger.info("%s, errors of keypoints (PCK: fractions of the box's longer side)\n%s", self._name, table)
        detected = errors[~np.isinf(errors).any(axis=(1, 2))]
        shifts = 100 * np.nanmean(detected[..., :2] / detected[..., 2:3], axis=1)
        if shift := describe_shift(shifts, "the box's longer side"):
            _logger.warning("%s: %s", self._name, shift)
        self._folder.mkdir(parents=True, exist_ok=True)
        data = {"dataset": self._name, "all": results, "keypoints": per_keypoint}
        (self._folder / "keypoint_errors.json").write_text(json.dumps(data, indent=1), encoding="utf-8")
        plot_errors(self._folder / "keypoint_errors.png", errors, self._schema)
        return {"keypoint_errors": results} | self._report_calibration(errors)

    def _report_calibration(self, errors: np.ndarray) -> dict[str, dict[str, float]]:
        detected = errors[np.isfinite(errors).all(axis=-1)]
        if errors.shape[-1] < 7 or not len(detected):
            return {}
        results = measure_calibration(detected)
        words = ", ".join(f"{name} {value:.1f}" for name, value in results.items())
        _logger.info("%s, calibration of keypoints (39.3 and 86.5 %% are to be covered): %s", self._name, words)
        data = {"dataset": self._name, **results, "reliability": measure_reliability(detected).tolist()}
        if self._calibration == UNCALIBRATED:
            data["calibration"] = [round(value, 4) for value in fit_calibration(detected)]
            _logger.info("%s is fitted by MODEL.KEYPOINT.CALIBRATION='%s'", self._name, data["calibration"])
        (self._folder / "keypoint_calibration.json").write_text(json.dumps(data, indent=1), encoding="utf-8")
        plot_calibration(self._folder / "keypoint_calibration.png", detected)
        return {"keypoint_calibration": results}


def measure_errors(instances: Instances, annotations: list[dict[str, Any]], schema: KeypointSchema) -> np.ndarray:
    """Return (P, K, 3): predicted less true x and y in pixels, and the longer side of the true box; of the P objects
    with a labeled keypoint that are no crowds. With ``pred_keypoint_covariance`` (P, K, 7), further the keypoint's
    score and xx, xy, yy of its covariance. NaN where a keypoint is not labeled; infinite, but for the side, where the
    object was missed.

    An object has the highest-scoring detection of its class that belongs to it (``metrics.assign``).
    """
    predicted, scores = instances.pred_keypoints.double().numpy(), instances.scores.double().numpy()
    classes = instances.pred_classes.numpy()
    usable = np.isfinite(predicted).all(axis=(1, 2)) & np.isfinite(scores)
    kept = [a for a in annotations if not a.get("iscrowd") and any(a.get("keypoints", ())[2::3])]
    true = np.array([a["keypoints"] for a in kept], dtype=np.float64).reshape(len(kept), len(schema), 3)
    boxes, labels = convert_to_corner_boxes(kept), np.array([a["category_id"] for a in kept], dtype=int)
    sides = boxes[:, 2:] - boxes[:, :2]
    has_covariance = instances.has("pred_keypoint_covariance")
    result = np.full((len(kept), len(schema), 7 if has_covariance else 3), np.inf)
    for label in np.unique(labels):
        ours, theirs = labels == label, usable & (classes == label)
        chosen = assign(predicted[theirs], scores[theirs], true[ours], np.sqrt(sides[ours].prod(axis=1)))
        matched = np.flatnonzero(ours)[chosen >= 0]
        own = np.flatnonzero(theirs)[chosen[chosen >= 0]]
        result[matched, :, :2] = predicted[own, :, :2] - true[matched, :, :2]
        if has_covariance:
            covariance = instances.pred_keypoint_covariance.double().numpy()[own].reshape(len(own), len(schema), 4)
            result[matched, :, 3:] = np.concatenate([predicted[own, :, 2:], covariance[..., [0, 1, 3]]], axis=-1)
    result[..., 2] = sides.max(axis=1)[:, None]
    result[true[..., 2] == 0] = np.nan
    return result


def summarize_errors(errors: np.ndarray) -> dict[str, float]:
    """Return means over labeled keypoints: ``error_px`` and ``error`` (percent of the box's longer side) of those of
    detected objects, ``missed`` (percent), and ``PCK5``, ``PCK10``, ``PCK20`` (percent; missed ones are wrong).

    Args:
        errors: (P, K, 3) of :func:`measure_errors`.
    """
    labeled = errors[~np.isnan(errors[..., 2])]
    distances = np.hypot(labeled[:, 0], labeled[:, 1])
    relative, detected = distances / labeled[:, 2], np.isfinite(distances)

    def average(values: np.ndarray) -> float:
        return float(values.mean()) if len(values) else math.nan

    right = {f"PCK{100 * part:.0f}": 100 * average(relative <= part) for part in FRACTIONS}
    means = {"error_px": average(distances[detected]), "error": 100 * average(relative[detected])}
    return {**right, **means, "missed": 100 * average(~detected)}


def plot_errors(path: Path, errors: np.ndarray, schema: KeypointSchema) -> None:
    """Plot where each of the first 30 keypoints errs: predicted less true position, in percent of the box's longer
    side, with circles at the limits of PCK."""
    count = min(len(schema), 30)
    columns = min(count, 6)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(2.2 * columns, 2.4 * rows), layout="constrained")
    angles, limit = np.linspace(0, 2 * np.pi, 60), 100 * FRACTIONS[-1] * 1.1
    for k, axes in enumerate(np.atleast_1d(figure.subplots(rows, columns)).ravel()):
        if k >= count:
            axes.set_visible(False)
            continue
        own = errors[np.isfinite(errors[:, k]).all(axis=1), k]
        axes.scatter(*(100 * own[:, :2] / own[:, 2:3]).T, s=4, alpha=0.5)
        for part in FRACTIONS:
            axes.plot(100 * part * np.cos(angles), 100 * part * np.sin(angles), color="gray", linewidth=0.6)
        axes.set(xlim=(-limit, limit), ylim=(limit, -limit), aspect="equal")
        axes.set_title(schema.names[k], fontsize=8)
        axes.tick_params(labelsize=6)
    figure.savefig(path, dpi=110)
