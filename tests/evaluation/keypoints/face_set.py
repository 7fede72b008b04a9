"""Drawn sets of faces with 68 landmarks, and predictions for them."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import cv2
import numpy as np
import torch
from detectron2.structures import Boxes, Instances

from centernet_d2.data.datasets.keypoint_sets import register_keypoint_dataset
from centernet_d2.data.schemas import SCHEMAS
from centernet_d2.evaluation.keypoints.errors import read_errors
from centernet_d2.evaluation.keypoints.faces import FaceLandmarkEvaluator

SUBSETS = ("common", "common", "challenge")
# Stored coordinates are pixel numbers, half a pixel less.
HALF = np.array([0.5, 0.5, 0.0])


class Faces:
    """A dataset in ``folder``: of each image its faces (P, K, 3), in continuous coordinates."""

    def __init__(self, folder: Path, images: list[np.ndarray], subsets=SUBSETS, schema="face68") -> None:
        cv2.imwrite(str(folder / "a.png"), np.full((120, 160, 3), 90, dtype=np.uint8))
        self.images, self.folder, self.schema, self.name = images, folder, schema, f"faces_{uuid.uuid4().hex}"
        entries = [{"id": i, "file_name": "a.png", "height": 120, "width": 160} for i in range(len(images))]
        for i, image in enumerate(entries if subsets else []):
            image["subset"] = subsets[i % len(subsets)]
        objects = [
            {"image_id": i, "category_id": 1, "bbox": self.box(x), "area": 1.0, "iscrowd": 0,
             "keypoints": (x - HALF).reshape(-1).tolist()}
            for i, faces in enumerate(images) for x in faces
        ]  # fmt: skip
        self.objects = [{"id": i, **x} for i, x in enumerate(objects, start=1)]
        self.data = {"images": entries, "annotations": self.objects, "categories": SCHEMAS[schema].to_coco_categories()}
        self.write()

    @staticmethod
    def box(face: np.ndarray) -> list[float]:
        """Larger than the landmarks, so that the two boxes cannot be taken for each other."""
        low, high = face[:, :2].min(axis=0) - 2, face[:, :2].max(axis=0) + 3
        return [*low.tolist(), *(high - low).tolist()]

    def write(self) -> None:
        (self.folder / f"{self.name}.json").write_text(json.dumps(self.data))

    def evaluator(self) -> FaceLandmarkEvaluator:
        register_keypoint_dataset(self.name, self.schema, str(self.folder / f"{self.name}.json"), str(self.folder))
        return FaceLandmarkEvaluator(self.name, self.folder / "out")

    def score(self, predictions: list[np.ndarray], scores: list | None = None) -> dict[str, dict[str, float]]:
        evaluator = self.evaluator()
        for i, found in enumerate(predictions):
            evaluator.process([{"image_id": i}], [output(found, None if scores is None else scores[i])])
        return evaluator.evaluate()

    def saved(self) -> list:
        return read_errors(self.folder / "out" / "landmark_errors.json")


def output(predictions: np.ndarray, scores=None) -> dict[str, Instances]:
    instances = Instances((120, 160))
    instances.pred_keypoints = torch.tensor(predictions)
    instances.scores = torch.full((len(predictions),), 0.9) if scores is None else torch.tensor(scores)
    instances.pred_boxes = Boxes(torch.zeros((len(predictions), 4)))
    return {"instances": instances}


def random_faces(count: int, seed: int = 0, landmarks: int = 68) -> list[np.ndarray]:
    """One in each image."""
    rng = np.random.default_rng(seed)
    faces = np.full((count, 1, landmarks, 3), 2.0)
    faces[..., :2] = rng.uniform(20, 100, (count, 1, landmarks, 2))
    return list(faces)
