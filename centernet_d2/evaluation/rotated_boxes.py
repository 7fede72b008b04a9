"""COCO's metrics over the IoU of rotated boxes, and how far angles are off."""

from __future__ import annotations

import contextlib
import io
import logging
import math
from typing import Any

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tabulate import tabulate

from centernet_d2.data.annotations import convert_to_corner_boxes
from centernet_d2.data.catalog import get_class_names, load_dataset_dicts
from centernet_d2.data.fields_masks import locate_corners
from centernet_d2.data.image_io import DatasetDict
from centernet_d2.evaluation.common import convert_to_columns, convert_to_entries, gather_predictions
from centernet_d2.ops.rotated_boxes import compute_rotated_iou, compute_shared_area, convert_corners, wrap_half_turn

_logger = logging.getLogger(__name__)
# Ratio of the sides below which a box has no clear direction.
_ELONGATED = 1.25


class RotatedBoxEvaluator(DatasetEvaluator):
    """``evaluate`` returns ``{"rotated": {...}}`` in the main process, and {} in others: "AP", "AP50", "AP75", "AP" of
    each class, in percent, and "angle_error", the mean of the objects found at an IoU of 0.5 whose sides have a ratio
    of 1.25 or more, in degrees.

    Crowds are neither missed nor matched. An object without an outline has its upright box.

    Args:
        limit: detections of an image that count.
    """

    def __init__(self, dataset_name: str, limit: int = 100) -> None:
        self._name, self._limit = dataset_name, limit
        self._images = {one["image_id"]: one for one in load_dataset_dicts(dataset_name)}
        get_class_names(dataset_name)
        self._classes: list[str] = list(MetadataCatalog.get(dataset_name).thing_classes)
        self.reset()

    def reset(self) -> None:
        self._predictions: dict[Any, dict[str, Any]] = {}

    def process(self, inputs: list[DatasetDict], outputs: list[dict[str, Instances]]) -> None:
        """
        Args:
            inputs: with ``image_id``.
            outputs: ``instances`` with ``scores`` (M,), ``pred_classes`` (M,) and ``pred_rotated_boxes``.
        """
        for sample, output in zip(inputs, outputs, strict=True):
            instances = output["instances"].to("cpu")
            boxes, scores = instances.pred_rotated_boxes.tensor.double(), instances.scores.double()
            usable = (boxes.isfinite().all(dim=1) & scores.isfinite()).tolist()
            rows = zip(boxes.tolist(), scores.tolist(), instances.pred_classes.tolist(), usable, strict=True)
            entries = [_make_entry(box, k) | {"score": score} for box, score, k, ok in rows if ok]
            self._predictions[sample["image_id"]] = convert_to_columns(entries)

    def evaluate(self) -> dict[str, dict[str, float]]:
        gathered = gather_predictions(self._predictions, self._name, len(self._images))
        if gathered is None:
            return {}
        predictions = {key: convert_to_entries(one) for key, one in gathered.items()}
        truth = {key: read_rotated_boxes(one) for key, one in self._images.items()}
        evaluation = evaluate_rotated(truth, predictions, self._limit, len(self._classes))
        results = _summarize(evaluation, self._classes)
        table = tabulate([list(results.values())], list(results), tablefmt="pipe", floatfmt=".2f")
        _logger.info("%s, rotated boxes (angle_error in degrees)\n%s", self._name, table)
        return {"rotated": results}


def read_rotated_boxes(dataset_dict: DatasetDict) -> list[dict[str, Any]]:
    """Return the true boxes of an image as :func:`evaluate_rotated` takes them."""
    annotations, size = dataset_dict.get("annotations", []), (dataset_dict["height"], dataset_dict["width"])
    entries = []
    for one, box in zip(annotations, convert_to_corner_boxes(annotations), strict=True):
        crowd = bool(one.get("iscrowd"))
        # The outline of a crowd says nothing of single objects.
        corners = locate_corners({} if crowd else one, box, size)
        rotated = convert_corners(torch.from_numpy(corners)).tolist()
        entries.append(_make_entry(rotated, one["category_id"]) | {"iscrowd": int(crowd)})
    return entries


def _make_entry(box: list[float], category: int) -> dict[str, Any]:
    return {"bbox": box, "category_id": category, "area": box[2] * box[3]}


class _RotatedCocoEval(COCOeval):
    def computeIoU(self, imgId: int, catId: int) -> Any:
        truth, predictions = self._gts[imgId, catId], self._dts[imgId, catId]
        if not truth or not predictions:
            return []
        order = np.argsort([-one["score"] for one in predictions], kind="mergesort")[: self.params.maxDets[-1]]
        ours = torch.tensor([predictions[k]["bbox"] for k in order], dtype=torch.float64)[:, None]
        theirs = torch.tensor([one["bbox"] for one in truth], dtype=torch.float64)[None]
        overlaps = compute_rotated_iou(ours, theirs)
        # As in COCO, a detection inside a crowd overlaps it fully.
        inside = compute_shared_area(ours, theirs) / ours[..., 2:4].prod(dim=-1).clamp(min=1e-12)
        return torch.where(torch.tensor([bool(one["iscrowd"]) for one in truth]), inside, overlaps).numpy()


def evaluate_rotated(
    truth: dict[Any, list[dict[str, Any]]], predictions: dict[Any, list[dict[str, Any]]], limit: int, num_classes: int
) -> COCOeval:
    """Return COCO's evaluation, accumulated, of entries by image: "bbox" x, y, width, height, angle (as in
    ``ops.rotated_boxes``), "category_id", "area", the "iscrowd" of true ones, and the "score" of predictions."""
    apis = []
    for entries in (truth, predictions):
        rows = [{**one, "image_id": k} for k, key in enumerate(truth, start=1) for one in entries.get(key, ())]
        api = COCO()
        api.dataset = {
            "images": [{"id": k} for k in range(1, len(truth) + 1)],
            "categories": [{"id": k} for k in range(num_classes)],
            "annotations": [{**one, "id": k} for k, one in enumerate(rows, start=1)],
        }
        apis.append(api)
    with contextlib.redirect_stdout(io.StringIO()):
        for api in apis:
            api.createIndex()
        evaluation = _RotatedCocoEval(*apis, "bbox")
        evaluation.params.maxDets = [limit]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def list_angle_errors(evaluation: COCOeval) -> np.ndarray:
    """Return (n, 2): the true angle in [-90, 90) and the error in [0, 90], degrees, of each elongated object that was
    found at an IoU of 0.5."""
    pairs = []
    for image in filter(None, evaluation.evalImgs):
        for own, match in zip(image["dtIds"], image["dtMatches"][0], strict=True):
            truth = evaluation.cocoGt.anns.get(int(match))
            if truth is not None and not truth["iscrowd"] and truth["bbox"][2] >= _ELONGATED * truth["bbox"][3]:
                pairs.append((truth["bbox"][4], evaluation.cocoDt.anns[own]["bbox"][4]))
    angles = torch.tensor(pairs, dtype=torch.float64).reshape(-1, 2)
    return torch.stack([angles[:, 0], wrap_half_turn(angles[:, 1] - angles[:, 0]).abs()], dim=1).numpy()


def _summarize(evaluation: COCOeval, class_names: list[str]) -> dict[str, float]:
    precision = evaluation.eval["precision"][..., 0, 0]  # (IoU, recall, class); -1 without ground truth

    def average(values: np.ndarray) -> float:
        known = values[values > -1]
        return 100 * float(known.mean()) if known.size else math.nan

    means = {"AP": average(precision), "AP50": average(precision[0]), "AP75": average(precision[5])}
    per_class = {f"AP-{name}": average(precision[..., k]) for k, name in enumerate(class_names)}
    errors = list_angle_errors(evaluation)[:, 1]
    return {**means, "angle_error": float(errors.mean()) if len(errors) else math.nan, **per_class}
