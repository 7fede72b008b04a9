"""Datasets of clothes with landmarks, detections near them, and pycocotools on both."""

from __future__ import annotations

import contextlib
import copy
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.structures import Boxes, BoxMode, Instances
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from centernet_d2.data.schemas import CLOTHES294
from centernet_d2.evaluation.keypoints.clothes import ClothesLandmarkEvaluator

NAME = "test_clothes_landmarks"
SKIRT = CLOTHES294.class_names.index("skirt")
FIRST, END = CLOTHES294.ranges[SKIRT]
TASKS = ("bbox", "keypoints_visible", "keypoints_visible_and_occluded")
Records = list[dict[str, Any]]


def clothing_item(category: int, box: Any, points: Any, **more: Any) -> dict[str, Any]:
    """An annotation; ``points`` (n, 3) are the category's own."""
    keypoints = np.zeros((294, 3))
    keypoints[:, :2] = 0.5
    keypoints[slice(*CLOTHES294.ranges[category])] = points
    box = [float(value) for value in box]
    return {
        "category_id": category,
        "bbox": box,
        "bbox_mode": BoxMode.XYWH_ABS,
        "iscrowd": 0,
        "keypoints": keypoints.ravel().tolist(),
        **more,
    }


def dataset_dict(image_id: int, *annotations: dict[str, Any]) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "file_name": f"{image_id}.jpg",
        "height": 400,
        "width": 400,
        "annotations": list(annotations),
    }


def random_dataset_dicts(count: int = 30, seed: int = 0, unlabelled: float = 0.15) -> Records:
    """Up to 4 clothing items an image of five categories; crowds and occluded landmarks among them.

    The fraction ``unlabeled`` of the clothing items has no labeled landmark; all others have a visible one.
    """
    rng = np.random.default_rng(seed)
    predictions = []
    for image_id in rng.permutation(count * 3)[:count]:
        annotations = []
        for _ in range(rng.integers(0, 5)):
            category = int(rng.choice([0, 3, 6, 8, 12]))
            size = np.exp(rng.uniform(np.log(15), np.log(300), 2))
            corner = rng.uniform(0, 400 - size)
            first, end = CLOTHES294.ranges[category]
            points = np.column_stack([corner + size * rng.random((end - first, 2)), rng.integers(0, 3, end - first)])
            points[0, 2] = 2
            points[:, 2] *= rng.random() >= unlabelled
            area = {"area": float(size.prod() * 0.6)} if rng.random() < 0.5 else {}
            crowd = int(rng.random() < 0.1)
            annotations.append(clothing_item(category, [*corner, *size], points, iscrowd=crowd, **area))
        predictions.append(dataset_dict(int(image_id), *annotations))
    return predictions


def instances(
    annotations: Records, scores: Any = None, noise: float = 0.0, rng: np.random.Generator | None = None
) -> Instances:
    """The annotations as they are predicted, moved by ``noise`` of the box."""
    predictions = Instances((400, 400))
    boxes = np.array([a["bbox"] for a in annotations]).reshape(-1, 4)
    points = np.array([a["keypoints"] for a in annotations]).reshape(-1, 294, 3)
    classes = [a["category_id"] for a in annotations]
    if rng is not None:
        points[..., :2] += noise * boxes[:, None, 2:] * rng.normal(size=points[..., :2].shape)
        boxes = boxes + noise * np.tile(boxes[:, 2:], 2) * rng.normal(size=boxes.shape)
    own = np.zeros((len(boxes), 294, 1), dtype=bool)
    for k, category in enumerate(classes):
        own[k, slice(*CLOTHES294.ranges[category])] = True
    points[..., 2] = 0.9
    corners = np.column_stack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
    predictions.pred_boxes = Boxes(torch.tensor(corners, dtype=torch.float32))
    predictions.scores = torch.tensor(np.ones(len(boxes)) if scores is None else scores, dtype=torch.float32)
    predictions.pred_classes = torch.tensor(classes, dtype=torch.int64)
    predictions.pred_keypoints = torch.tensor(points * own, dtype=torch.float32)
    return predictions


def noisy_detections(dataset_dicts: Records, seed: int = 1) -> list[Instances]:
    """Each clothing item found up to 8 times, at first closely; some as another category, some far away; scores
    repeat."""
    rng = np.random.default_rng(seed)
    predictions = []
    for entry in dataset_dicts:
        parts = [instances([])]
        for annotation in entry["annotations"]:
            for copies in range(rng.integers(0, 9)):
                seen = annotation
                if rng.random() < 0.2:
                    category = int(rng.choice([0, 3, 6, 8, 11]))
                    count = len(range(*CLOTHES294.ranges[category]))
                    seen = clothing_item(category, annotation["bbox"], rng.uniform(0, 400, (count, 3)))
                score = round(rng.random(), 2)
                parts.append(instances([seen], [score], 0.01 * (1 + 2 * copies), rng))
        predictions.append(Instances.cat(parts))
    return predictions


def evaluate(
    dataset_dicts: Records, predictions: list[Instances], output_dir: Path | None = None
) -> dict[str, dict[str, float]]:
    evaluator = ClothesLandmarkEvaluator(NAME, None if output_dir is None else str(output_dir))
    for entry, one in zip(dataset_dicts, predictions, strict=True):
        evaluator.process([entry], [{"instances": one}])
    return evaluator.evaluate()


def gt_file(dataset_dicts: Records, min_visibility: int) -> dict[str, Any]:
    """The COCO file of the dataset dicts, as the challenge has them: landmarks that do not count are zero."""
    annotations = []
    for entry in dataset_dicts:
        for annotation in entry["annotations"]:
            points = np.array(annotation["keypoints"]).reshape(-1, 3) - (0.5, 0.5, 0)
            points[points[:, 2] < min_visibility] = 0
            box = annotation["bbox"]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": entry["image_id"],
                    "category_id": annotation["category_id"] + 1,
                    "bbox": box,
                    "area": annotation.get("area", box[2] * box[3]),
                    "iscrowd": annotation["iscrowd"],
                    "keypoints": points.ravel().tolist(),
                    "num_keypoints": int((points[:, 2] > 0).sum()),
                }
            )
    images = [{"id": entry["image_id"]} for entry in dataset_dicts]
    return {"images": images, "annotations": annotations, "categories": CLOTHES294.to_coco_categories()}


def results_by_hand(dataset_dicts: Records, predictions: list[Instances]) -> list[dict[str, Any]]:
    results = []
    for entry, one in zip(dataset_dicts, predictions, strict=True):
        for box, score, category, points in zip(
            one.pred_boxes.tensor.tolist(),
            one.scores.tolist(),
            one.pred_classes.tolist(),
            one.pred_keypoints.double().numpy(),
            strict=True,
        ):
            shifted = points.copy()
            shifted[slice(*CLOTHES294.ranges[category]), :2] -= 0.5
            results.append(
                {
                    "image_id": entry["image_id"],
                    "category_id": category + 1,
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    "score": score,
                    "keypoints": shifted.ravel().tolist(),
                }
            )
    return results


def plain_pycocotools(gt: dict[str, Any], results: Records, iou_type: str, sigmas: Any) -> dict[str, float]:
    coco = COCO()
    coco.dataset = copy.deepcopy(gt)
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(copy.deepcopy(results)), iou_type)
        evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = ["AP", "AP50", "AP75", *(["APs"] if iou_type == "bbox" else []), "APm", "APl"]
    metrics = dict(zip(names, evaluation.stats, strict=False))
    for k, category in enumerate(gt["categories"]):
        precision = evaluation.eval["precision"][:, :, k, 0, -1]
        metrics[f"AP-{category['name']}"] = precision[precision > -1].mean() if (precision > -1).any() else -1
    return {name: math.nan if value == -1 else 100 * value for name, value in metrics.items()}
