"""Videos of a few objects, what trackers say of them, and their scores."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances

from centernet_d2.evaluation.tracking.evaluator import TrackingEvaluator

LENGTH = 10
# Track identity, class, box, score; of a frame.
Track = tuple[int, int, list[float], float]
Object = tuple[int, int, list[float], int]


def at(x: float, y: float = 0, side: float = 40) -> list[float]:
    return [x, y, x + side, y + side]


def dataset_dict(video: int, frame: int, objects: list[Object]) -> dict[str, Any]:
    """Of objects: track_id, class, x1, y1, x2, y2, iscrowd."""
    annotations = [
        {"track_id": i, "category_id": c, "bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "iscrowd": crowd}
        for i, c, box, crowd in objects
    ]
    place = {"video_id": video, "frame": frame, "image_id": 100 * video + frame, "file_name": f"{video}/{frame}.jpg"}
    return {**place, "height": 200, "width": 900, "annotations": annotations}


def instances(tracks: list[Track]) -> Instances:
    result = Instances((200, 900))
    result.pred_boxes = Boxes(torch.tensor([box for _, _, box, _ in tracks], dtype=torch.float32).reshape(-1, 4))
    result.scores = torch.tensor([score for *_, score in tracks])
    result.pred_classes = torch.tensor([c for _, c, _, _ in tracks], dtype=torch.int64)
    result.pred_track_ids = torch.tensor([i for i, *_ in tracks], dtype=torch.int64)
    return result


def evaluator(
    videos: dict[int, list[list[Object]]], output_dir: Path | None = None, class_names: tuple[str, ...] = ("person",)
) -> TrackingEvaluator:
    name = f"tracks_{uuid.uuid4().hex}"
    dataset_dicts = [
        dataset_dict(video, k, objects) for video, frames in videos.items() for k, objects in enumerate(frames)
    ]
    DatasetCatalog.register(name, lambda: dataset_dicts)
    names = {1: "street"}
    MetadataCatalog.get(name).set(thing_classes=list(class_names), evaluator_type="tracking", video_names=names)
    return TrackingEvaluator(name, output_dir)


def process(one: TrackingEvaluator, video: int, frames: list[list[Track]]) -> None:
    for k, tracks in enumerate(frames):
        one.process([dataset_dict(video, k, [])], [{"instances": instances(tracks)}])


def scores(
    objects: Callable[[int], list[Object]], tracks: Callable[[int], list[Track]], **options: Any
) -> dict[str, float]:
    """Of one video of ``LENGTH`` frames."""
    one = evaluator({1: [objects(k) for k in range(LENGTH)]}, **options)
    process(one, 1, [tracks(k) for k in range(LENGTH)])
    return one.evaluate()["tracking"]


def two(frame: int) -> list[Object]:
    """Two objects on their way."""
    return [(1, 0, at(5 * frame), 0), (2, 0, at(5 * frame, 100), 0)]


def name_outputs(objects: list[Object], names: dict[int, int]) -> list[Track]:
    """The objects themselves, found under other track ids; those without are not found."""
    return [(names[i], c, box, 0.9) for i, c, box, _ in objects if i in names]


def percent(MOTA: float, IDF1: float, DetA: float, AssA: float, **counts: int) -> Any:
    """All scores, where every found box is exact or far away, so that all of HOTA's overlaps give the same."""
    fractions = {"MOTA": MOTA, "IDF1": IDF1, "HOTA": math.sqrt(DetA * AssA), "DetA": DetA, "AssA": AssA}
    wanted = {"IDSW": 0, "FP": 0, "FN": 0, "MT": 0, "ML": 0, **counts}
    return pytest.approx({**{name: 100 * value for name, value in fractions.items()}, **wanted})
