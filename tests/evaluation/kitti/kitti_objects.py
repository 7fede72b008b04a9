"""KITTI objects and images for tests, and the evaluator's figures of them."""

from __future__ import annotations

import math
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances

from centernet_d2.data.datasets.kitti import CLASS_NAMES, KITTI_METADATA
from centernet_d2.evaluation.kitti.evaluator import KittiEvaluator

# At least as many objects as there are recalls: with fewer, nothing reaches 100.
COUNT = 41
CAR = {
    "type": "car", "box": [100.0, 100, 160, 150], "alpha": 0.5, "size": [1.5, 1.6, 4.0], "place": [2.0, 1.5, 20],
    "ry": 0.6, "occluded": 0, "truncated": 0.0,
}  # fmt: skip
Kitti = dict[str, Any]


def predictions(one: Kitti, score: float = 0.9, **changes: Any) -> Kitti:
    return {**one, "score": score, **changes}


def shifted(box: list[float], x: float) -> list[float]:
    return [box[0] + x, box[1], box[2] + x, box[3]]


def along(one: Kitti, meters: float) -> list[float]:
    x, y, z = one["place"]
    return [x + meters * math.cos(one["ry"]), y, z - meters * math.sin(one["ry"])]


def dataset_dict(number: int, true: list[Kitti]) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    ignored: list[dict[str, Any]] = []
    for line, one in enumerate(true, start=1):
        entry = {"line": line, "bbox": one["box"], "bbox_mode": BoxMode.XYXY_ABS}
        if one["type"] != "dontcare":
            entry |= {"dim": one["size"], "location": one["place"], "rotation_y": one["ry"], "alpha": one["alpha"]}
            entry |= {"occluded": one["occluded"], "truncated": one["truncated"]}
        if one["type"] in CLASS_NAMES:
            annotations.append({**entry, "category_id": CLASS_NAMES.index(one["type"])})
        else:
            ignored.append({**entry, "type": one["type"].capitalize()})
    # The order of the label file is in "line" alone.
    ignored.reverse()
    return {"file_name": f"{number:06d}.png", "image_id": number, "annotations": annotations, "ignored": ignored}


def instances(objects: list[Kitti]) -> Instances:
    result = Instances((375, 1242))

    def table(field: str, *shape: int) -> torch.Tensor:
        return torch.tensor([one[field] for one in objects], dtype=torch.float64).reshape(-1, *shape)

    result.pred_boxes = Boxes(table("box", 4))
    result.scores, result.pred_alpha, result.pred_rotation_y = table("score"), table("alpha"), table("ry")
    result.pred_classes = torch.tensor([CLASS_NAMES.index(one["type"]) for one in objects], dtype=torch.int64)
    result.pred_dimensions, result.pred_locations = table("size", 3), table("place", 3)
    return result


def evaluator(images: list[list[Kitti]], output_dir: Path | None = None) -> KittiEvaluator:
    name = f"kitti_{uuid.uuid4().hex}"
    dataset_dicts = [dataset_dict(number, true) for number, true in enumerate(images)]
    DatasetCatalog.register(name, lambda: dataset_dicts)
    MetadataCatalog.get(name).set(**KITTI_METADATA)
    return KittiEvaluator(name, output_dir)


def evaluated(images: list[tuple[list[Kitti], list[Kitti]]]) -> dict[str, dict[str, float]]:
    one = evaluator([true for true, _ in images])
    for number, (_, objects) in enumerate(images):
        one.process([{"image_id": number}], [{"instances": instances(objects)}])
    return one.evaluate()


def repeated(true: list[Kitti], objects: list[Kitti]) -> dict[str, dict[str, float]]:
    """Of the same image 41 times."""
    return evaluated([(true, objects)] * COUNT)


def eighths(values: np.ndarray) -> list[float]:
    return (np.round(8 * values) / 8).tolist()


def random_object(rng: np.random.Generator, kind: str) -> Kitti:
    # Eighths, as Detectron2's boxes are float32 and heights are compared with 25 and 40.
    x, y, width = eighths(rng.uniform([0, 100, 30], [400, 200, 90]))
    height = rng.choice([20, 24.875, 25, 30, 39.875, 40, 45, 60])
    return {
        "type": kind,
        "box": [x, y, x + width, y + height],
        "alpha": rng.uniform(-math.pi, math.pi),
        "size": rng.uniform([1.2, 0.6, 0.8], [2, 2, 4.5]).tolist(),
        "place": rng.uniform([-10, 1, 5], [10, 2, 40]).tolist(),
        "ry": rng.uniform(-math.pi, math.pi),
        "occluded": int(rng.choice(4, p=[0.55, 0.2, 0.15, 0.1])),
        "truncated": float(rng.choice([0, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6], p=[0.5, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05])),
    }


def random_images(seed: int, count: int) -> list[tuple[list[Kitti], list[Kitti]]]:
    """Objects of all kinds close to each other; near ones are found, often twice and as something else."""
    rng = np.random.default_rng(seed)
    kinds = ("car", "car", "pedestrian", "cyclist", "van", "person_sitting", "truck", "dontcare")
    images = []
    for _ in range(count):
        true = [random_object(rng, str(rng.choice(kinds))) for _ in range(rng.integers(1, 7))]
        objects = []
        for one in true * 2:
            if rng.random() < 0.3:
                continue
            guess = dict(one, box=eighths(one["box"] + rng.normal(0, 3, 4)))
            guess["size"] = (np.array(one["size"]) * rng.uniform(0.9, 1.1, 3)).tolist()
            guess["place"] = (np.array(one["place"]) + rng.normal(0, 0.15, 3)).tolist()
            guess["ry"], guess["alpha"] = one["ry"] + rng.normal(0, 0.2), one["alpha"] + rng.normal(0, 0.5)
            related = {"van": "car", "person_sitting": "pedestrian"}.get(one["type"], one["type"])
            wrong = related not in CLASS_NAMES or rng.random() < 0.15
            guess["type"] = str(rng.choice(CLASS_NAMES)) if wrong else related
            # Two decimals: equal scores occur.
            objects.append(predictions(guess, round(float(rng.beta(4, 2)), 2)))
        objects += [predictions(random_object(rng, "car"), round(float(rng.beta(2, 3)), 2)) for _ in range(2)]
        images.append((true, objects))
    return images
