"""Keeps the predictions of an evaluation, and draws its best and worst images."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances
from detectron2.utils import comm

from centernet_d2.data.annotations import convert_to_corner_boxes
from centernet_d2.data.catalog import get_class_names, load_dataset_dicts
from centernet_d2.data.image_io import DatasetDict, read_image
from centernet_d2.evaluation.average_precision import compute_box_iou
from centernet_d2.evaluation.common import gather_predictions, select_finite_detections
from centernet_d2.evaluation.keypoints.metrics import compute_landmark_distances
from centernet_d2.report.matching import MIN_IOU, MIN_SCORE, match_one_to_one, measure_image
from centernet_d2.report.objects import EvaluatedObjects, ImageObjects
from centernet_d2.visualization.dataset import convert_annotations
from centernet_d2.visualization.visualizer import Visualizer, join_side_by_side

OBJECTS_FILE, IMAGES_FILE = "objects.npz", "images.json"
_NUM_BEST, _NUM_WORST = 4, 8
# Pixels of two images side by side.
_MAX_WIDTH = 1200


@dataclass(frozen=True)
class _ImageResult:
    """Of one image; ``keypoint_errors`` (G, K), ``quality`` as ``measure_image`` gives it."""

    objects: ImageObjects
    keypoint_errors: np.ndarray
    quality: float


class ObjectRecorder(DatasetEvaluator):
    """Writes ``objects.npz`` (:class:`EvaluatedObjects`), and the images with the highest and lowest ``measure_image``
    with their true objects (left) and detections (right). It gives no results.

    Predictions are ``Instances`` with ``pred_boxes`` (image pixels), ``scores``, ``pred_classes`` and, perhaps,
    ``pred_keypoints`` (M, K, 3).

    Args:
        folder: that is written to.
    """

    def __init__(self, cfg: CfgNode, dataset_name: str, folder: Path) -> None:
        self._cfg, self._name, self._folder = cfg, dataset_name, folder
        self._dicts = {one["image_id"]: one for one in load_dataset_dicts(dataset_name)}
        self._class_names = get_class_names(dataset_name)
        self.reset()

    def reset(self) -> None:
        self._results: dict[Any, _ImageResult] = {}
        self._kept: dict[Any, Instances] = {}

    def process(self, inputs: list[DatasetDict], outputs: list[dict[str, Any]]) -> None:
        for sample, output in zip(inputs, outputs, strict=True):
            key, instances = sample["image_id"], output["instances"].to("cpu")
            annotations = self._dicts[key]["annotations"]
            instances = instances[instances.pred_classes < len(self._class_names)]
            objects = _collect_objects(instances, annotations)
            quality = measure_image(objects)
            self._results[key] = _ImageResult(objects, _measure_keypoints(instances, objects, annotations), quality)
            if not math.isnan(quality):
                self._kept[key] = instances[instances.scores >= MIN_SCORE]
                self._kept = self._select_extremes(self._kept)

    def evaluate(self) -> dict[str, Any]:
        kept = comm.gather(self._kept)
        results = gather_predictions(self._results, self._name, len(self._dicts))
        if results is None:
            return {}
        self._results = results
        self._join(results).save(self._folder / OBJECTS_FILE)
        self._draw({key: one for part in kept for key, one in part.items()})
        return {}

    def _select_extremes(self, kept: dict[Any, Instances]) -> dict[Any, Instances]:
        """Return the images that may be drawn."""
        if len(kept) <= _NUM_BEST + _NUM_WORST:
            return kept
        order = sorted(kept, key=lambda key: self._results[key].quality)
        return {key: kept[key] for key in [*order[:_NUM_WORST], *order[-_NUM_BEST:]]}

    def _join(self, results: dict[Any, _ImageResult]) -> EvaluatedObjects:
        keys = [key for key in self._dicts if key in results]
        images = [results[key].objects for key in keys]
        num_keypoints = max((results[key].keypoint_errors.shape[1] for key in keys), default=0)
        names = MetadataCatalog.get(self._name).get("keypoint_names") or [str(k) for k in range(num_keypoints)]

        def join(name: str, *shape: int) -> np.ndarray:
            return np.concatenate([np.zeros((0, *shape)), *(getattr(image, name) for image in images)])

        def number(name: str) -> np.ndarray:
            return np.repeat(np.arange(len(images)), [len(getattr(image, name)) for image in images])

        errors = [results[key].keypoint_errors for key in keys if results[key].keypoint_errors.shape[1]]
        return EvaluatedObjects(
            class_names=np.array(self._class_names, dtype=str),
            file_names=np.array([Path(self._dicts[key]["file_name"]).name for key in keys], dtype=str),
            pred_image=number("pred_boxes"),
            pred_boxes=join("pred_boxes", 4).astype(np.float32),
            pred_scores=join("pred_scores").astype(np.float32),
            pred_classes=join("pred_classes").astype(np.int64),
            true_image=number("true_boxes"),
            true_boxes=join("true_boxes", 4).astype(np.float32),
            true_classes=join("true_classes").astype(np.int64),
            true_ignored=join("true_ignored").astype(bool),
            keypoint_names=np.array(names[:num_keypoints], dtype=str),
            keypoint_errors=np.concatenate([np.zeros((0, num_keypoints)), *errors]).astype(np.float32),
        )

    def _draw(self, kept: dict[Any, Instances]) -> None:
        """Write the worst and the best images, and what they are to ``images.json``."""
        kept = self._select_extremes(kept)
        order = sorted(kept, key=lambda key: self._results[key].quality)
        num_best = min(_NUM_BEST, len(order) // 2)
        groups = {"best": order[::-1][:num_best], "worst": order[: len(order) - num_best][:_NUM_WORST]}
        visualizer, entries = Visualizer.from_config(self._cfg, threshold=0.0), []
        for group, keys in groups.items():
            for i, key in enumerate(keys):
                dataset_dict = self._dicts[key]
                image = read_image(dataset_dict)
                true = convert_annotations(self._cfg, dataset_dict, image.shape[:2])
                panels = [visualizer.draw(image, one, dataset_dict) for one in (true, kept[key])]
                name = f"{group}_{i}.jpg"
                write_jpeg(self._folder / name, join_side_by_side(panels), _MAX_WIDTH)
                file_name = Path(dataset_dict["file_name"]).name
                entries.append(
                    {"group": group, "file": name, "image": file_name, "quality": self._results[key].quality}
                )
        (self._folder / IMAGES_FILE).write_text(json.dumps(entries, indent=1), encoding="utf-8")


def write_jpeg(path: Path, image: np.ndarray, max_width: int) -> None:
    """Write an image (H, W, 3), reduced to ``max_width``."""
    scale = min(1.0, max_width / image.shape[1])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes())


def _collect_objects(instances: Instances, annotations: list[dict[str, Any]]) -> ImageObjects:
    boxes, scores, classes = select_finite_detections(instances)
    order = np.argsort(-scores, kind="stable")
    ignored = [bool(one.get("iscrowd", 0) or one.get("difficult", 0)) for one in annotations]
    return ImageObjects(
        *(boxes[order], scores[order], classes[order], convert_to_corner_boxes(annotations)),
        np.array([one["category_id"] for one in annotations], dtype=np.int64),
        np.array(ignored, dtype=bool),
    )


def _measure_keypoints(instances: Instances, objects: ImageObjects, annotations: list[dict[str, Any]]) -> np.ndarray:
    """Return (G, K) errors as of ``EvaluatedObjects.keypoint_errors``; K is 0 without keypoints.

    An object has the detection that overlaps it most, whatever its score.
    """
    num_keypoints = instances.pred_keypoints.shape[1] if instances.has("pred_keypoints") else 0
    errors = np.full((len(annotations), num_keypoints), np.nan)
    if not num_keypoints:
        return errors
    boxes = instances.pred_boxes.tensor.double().numpy()
    usable = np.isfinite(boxes).all(axis=1)
    predicted = instances.pred_keypoints.double().numpy()[usable]
    matched = match_one_to_one(compute_box_iou(boxes[usable], objects.true_boxes), MIN_IOU)
    for d, g in enumerate(matched):
        true = np.array(annotations[g].get("keypoints", []), dtype=np.float64).reshape(-1, 3)
        if g >= 0 and len(true) == num_keypoints:
            size = math.sqrt(np.prod(objects.true_boxes[g, 2:] - objects.true_boxes[g, :2]))
            errors[g] = compute_landmark_distances(predicted[d], true) / size if size > 0 else np.nan
    return errors
