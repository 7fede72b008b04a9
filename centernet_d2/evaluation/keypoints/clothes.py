"""DeepFashion2's measures: box AP, and AP of clothes landmarks against the visible ones and against all labeled ones.

The similarity of landmarks is COCO's: the mean of exp(-d^2 / (2 a (2 s)^2)) over the true object's labeled landmarks,
d the distance, a the true object's area, s the landmark's sigma. pycocotools matches and averages, one category at a
time and with its own landmarks: 294 of every detection in 32,153 images would not fit into memory. The numbers are
those of all 294, with one exception: objects without labeled landmarks are ignored, and so are detections whose
landmarks lie about their boxes. Here a detection's own landmarks decide that, not zeros for those it does not have.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import logging
import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import BoxMode, Instances
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tabulate import tabulate

from centernet_d2.data.catalog import load_dataset_dicts
from centernet_d2.data.image_io import DatasetDict
from centernet_d2.data.schemas import SCHEMAS
from centernet_d2.evaluation.coco import get_max_detections
from centernet_d2.evaluation.common import gather_arrays
from centernet_d2.geometry import to_pixel_index

_logger = logging.getLogger(__name__)

#: Task -> the minimum visibility that counts: DeepFashion2's 2 is visible, 1 occluded, 0 not labeled.
KEYPOINT_TASKS = {"keypoints_visible": 2, "keypoints_visible_and_occluded": 1}
# COCO's names of the area ranges after "all".
_AREAS = {"bbox": ("s", "m", "l"), "keypoints": ("m", "l")}

CocoEntry = dict[str, Any]


class _ImagePredictions(NamedTuple):
    """The predictions in one image: boxes (P, 4) x, y, width, height, float64, and scores and classes (P,).

    ``landmarks`` has, for each object, those of its own class: (n, 3) x, y, score, float32, in continuous image
    coordinates; it is None where the model predicts boxes only.
    """

    image_id: int
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    landmarks: list[np.ndarray] | None


class ClothesLandmarkEvaluator(DatasetEvaluator):
    """AP in percent, 0 to 100, NaN without ground truth.

    Results are ``bbox`` (AP, AP50, AP75, APs, APm, APl, and AP-<category> of each), ``keypoints_visible`` and
    ``keypoints_visible_and_occluded`` (AP, AP50, AP75, APm, APl, AP-<category>); the main ones are the three AP.
    Objects marked ``iscrowd`` and, for landmarks, those without any that counts are ignored as in COCO. An object's
    area is the annotation's ``area``, without one that of its box. Images that were not processed count as having no
    predictions.
    """

    def __init__(self, dataset_name: str, output_dir: str | None = None, detections_per_image: int = 100) -> None:
        """
        Args:
            dataset_name: registered, with a ``keypoint_schema`` that has sigmas.
            output_dir: gets ``coco_instances_results.json``, COCO's format for results; None writes nothing.
            detections_per_image: what the model gives; more than 100 make more count than in COCO.

        Raises:
            ValueError: the dataset's schema has no sigmas.
        """
        self._dataset_name = dataset_name
        self._output_dir = output_dir
        self._limit = detections_per_image
        self._schema = SCHEMAS[MetadataCatalog.get(dataset_name).keypoint_schema]
        if self._schema.sigmas is None:
            raise ValueError(f"dataset {dataset_name!r}: its landmarks ({self._schema.name}) have no sigmas")
        self._sigmas = np.array(self._schema.sigmas)
        self.reset()

    def reset(self) -> None:
        self._predictions: list[_ImagePredictions] = []

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Store the predictions. ``outputs`` have ``instances`` in pixels of the image.

        Raises:
            ValueError: the instances have another number of landmarks than the dataset.
        """
        for sample, output in zip(inputs, outputs, strict=True):
            self._predictions.append(self._select_predictions(sample["image_id"], output["instances"].to("cpu")))

    def _select_predictions(self, image_id: int, instances: Instances) -> _ImagePredictions:
        boxes = BoxMode.convert(instances.pred_boxes.tensor.double(), BoxMode.XYXY_ABS, BoxMode.XYWH_ABS).numpy()
        classes = instances.pred_classes.numpy()
        landmarks = None
        if instances.has("pred_keypoints"):
            points = instances.pred_keypoints.float().numpy()
            if points.shape[1] != len(self._schema):
                name, count = self._dataset_name, len(self._schema)
                raise ValueError(f"{points.shape[1]} landmarks are predicted, but dataset {name!r} has {count}")
            ranges = (self._schema.ranges[number] for number in classes)
            landmarks = [one[first:end].copy() for one, (first, end) in zip(points, ranges, strict=True)]
        return _ImagePredictions(image_id, boxes, instances.scores.double().numpy(), classes, landmarks)

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Return the results over the detections of all processes in the main process, {} in the others.

        Raises:
            ValueError: detections in an image that the dataset does not have.
        """
        gathered = gather_arrays(self._predictions)
        if not comm.is_main_process():
            return {}
        predictions = list({entry.image_id: entry for entry in itertools.chain(*gathered)}.values())
        dataset_dicts = load_dataset_dicts(self._dataset_name)
        unknown = {entry.image_id for entry in predictions} - {
            dataset_dict["image_id"] for dataset_dict in dataset_dicts
        }
        if unknown:
            raise ValueError(f"dataset {self._dataset_name!r} has no image with the id {min(unknown)}")
        if self._output_dir:
            self._save(predictions, self._output_dir)
        gt = self._read_gt(dataset_dicts)
        results = {"bbox": self._compute_results(gt, predictions, "bbox")}
        if all(entry.landmarks is not None for entry in predictions):
            for task, visibility in KEYPOINT_TASKS.items():
                results[task] = self._compute_results(gt, predictions, "keypoints", visibility)
        _log(results, self._schema.class_names)
        return results

    def _read_gt(self, dataset_dicts: list[DatasetDict]) -> list[list[CocoEntry]]:
        """Return the true objects of each class; landmarks are those of the class, (n, 3) x, y, visibility, pixel
        indices."""
        gt: list[list[CocoEntry]] = [[] for _ in self._schema.class_names]
        for dataset_dict in dataset_dicts:
            for annotation in dataset_dict["annotations"]:
                box = BoxMode.convert(list(annotation["bbox"]), annotation["bbox_mode"], BoxMode.XYWH_ABS)
                points = np.array(annotation.get("keypoints", [0] * 3 * len(self._schema)), dtype=np.float64)
                first, end = self._schema.ranges[annotation["category_id"]]
                gt[annotation["category_id"]].append(
                    {
                        "image_id": dataset_dict["image_id"],
                        "bbox": box,
                        "area": annotation.get("area", box[2] * box[3]),
                        "iscrowd": annotation.get("iscrowd", 0),
                        "keypoints": _to_coco(points.reshape(-1, 3)[first:end]),
                    }
                )
        return gt

    def _compute_results(
        self, gt: list[list[CocoEntry]], predictions: list[_ImagePredictions], iou_type: str, visibility: int = 0
    ) -> dict[str, float]:
        """Return the metrics of one task; landmarks below ``visibility`` count as not labeled."""
        precisions = []
        for number, (first, end) in enumerate(self._schema.ranges):
            objects = [_drop_landmarks_below(entry, visibility) for entry in gt[number]]
            detections = [
                _convert_detection(entry, k)
                for entry in predictions
                for k in np.flatnonzero(entry.classes == number).tolist()
            ]
            limit = get_max_detections(iou_type, self._limit)
            precisions.append(_compute_precision(objects, detections, iou_type, self._sigmas[first:end], limit))
        return _compute_metrics(np.stack(precisions), _AREAS[iou_type], self._schema.class_names)

    def _save(self, predictions: list[_ImagePredictions], output_dir: str) -> None:
        """Write COCO's format: pixel indices, zeros for the landmarks of other categories.

        Entry by entry, because as one string the results of the validation set would be gigabytes.
        """
        PathManager.mkdirs(output_dir)
        with PathManager.open(os.path.join(output_dir, "coco_instances_results.json"), "w") as file:
            separator = "["
            for image in predictions:
                for k, number in enumerate(image.classes.tolist()):
                    entry = {**_convert_detection(image, k), "category_id": number + 1}
                    if image.landmarks is not None:
                        points = np.zeros(3 * len(self._schema))
                        first, end = self._schema.ranges[number]
                        points[3 * first : 3 * end] = entry["keypoints"]
                        entry["keypoints"] = points.tolist()
                    file.write(separator + json.dumps(entry))
                    separator = ",\n"
            file.write("]" if separator != "[" else "[]")


def _convert_detection(predictions: _ImagePredictions, k: int) -> CocoEntry:
    """Return a detected object; landmarks are those of its class, 3 n values, pixel indices as in COCO files."""
    entry = {
        "image_id": predictions.image_id,
        "bbox": predictions.boxes[k].tolist(),
        "score": float(predictions.scores[k]),
    }
    if predictions.landmarks is not None:
        entry["keypoints"] = _to_coco(predictions.landmarks[k]).ravel()
    return entry


def _drop_landmarks_below(entry: CocoEntry, visibility: int) -> CocoEntry:
    """Return a true object, as pycocotools takes it, whose landmarks below ``visibility`` are not labeled."""
    points = entry["keypoints"].copy()
    points[points[:, 2] < visibility, 2] = 0
    return {**entry, "keypoints": points.ravel(), "num_keypoints": np.count_nonzero(points[:, 2])}


def _compute_precision(
    gt: list[CocoEntry], predictions: list[CocoEntry], iou_type: str, sigmas: np.ndarray, limit: int
) -> np.ndarray:
    """Return pycocotools' precision of one category: (T, R, A) for similarity threshold,
    recall and area; -1 for none."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(_build_coco(gt), _build_coco(predictions), iou_type)
        evaluation.params.imgIds = sorted({entry["image_id"] for entry in (*gt, *predictions)})
        evaluation.params.catIds = [1]
        evaluation.params.maxDets = [limit]
        if iou_type == "keypoints":
            evaluation.params.kpt_oks_sigmas = sigmas
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][:, :, 0, :, 0]


def _build_coco(entries: list[CocoEntry]) -> COCO:
    """Return objects of one category, 1. Ids count from 1, since pycocotools takes the id 0 for no match."""
    coco = COCO()
    annotations = [
        {"area": entry["bbox"][2] * entry["bbox"][3], **entry, "id": number, "category_id": 1}
        for number, entry in enumerate(entries, start=1)
    ]
    coco.dataset = {"categories": [{"id": 1}], "annotations": annotations}
    coco.createIndex()
    return coco


def _compute_metrics(precision: np.ndarray, areas: Sequence[str], class_names: Sequence[str]) -> dict[str, float]:
    """Return COCO's averages, in percent, of ``precision`` (C, T, R, A); T counts from 0.50 in steps of 0.05."""

    def mean(values: np.ndarray) -> float:
        valid = values[values > -1]
        return 100 * float(valid.mean()) if valid.size else math.nan

    everywhere = precision[..., 0]
    results = {"AP": mean(everywhere), "AP50": mean(everywhere[:, 0]), "AP75": mean(everywhere[:, 5])}
    results |= {f"AP{area}": mean(precision[..., k]) for k, area in enumerate(areas, start=1)}
    return results | {f"AP-{name}": mean(values) for name, values in zip(class_names, everywhere, strict=True)}


def _log(results: dict[str, dict[str, float]], class_names: Sequence[str]) -> None:
    rows = [["all", *(metrics["AP"] for metrics in results.values())]]
    rows += [[name, *(metrics[f"AP-{name}"] for metrics in results.values())] for name in class_names]
    table = tabulate(rows, headers=["AP", *results], floatfmt=".2f", tablefmt="pipe")
    _logger.info("Evaluation of clothes landmarks:\n%s", table)


def _to_coco(landmarks: np.ndarray) -> np.ndarray:
    """Convert continuous coordinates to COCO's pixel indices: (n, 3) x, y, score or visibility."""
    values = landmarks.astype(np.float64)
    return np.concatenate([to_pixel_index(values[:, :2]), values[:, 2:]], axis=1)
