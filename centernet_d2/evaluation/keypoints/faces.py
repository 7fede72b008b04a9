"""Detectron2's evaluator for face landmarks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances

from centernet_d2.data.annotations import convert_to_corner_boxes
from centernet_d2.data.catalog import load_dataset_dicts
from centernet_d2.data.image_io import DatasetDict, read_image
from centernet_d2.data.schemas import SCHEMAS, KeypointSchema
from centernet_d2.data.validation.object_boxes import LEFT_OUT, restore_uncut_boxes
from centernet_d2.evaluation.common import gather_predictions
from centernet_d2.evaluation.keypoints.errors import (
    FaceError,
    compute_percentages,
    format_tables,
    group_by_subset,
    summarize,
    write_errors,
)
from centernet_d2.evaluation.keypoints.metrics import (
    NORMALIZERS,
    assign,
    compute_landmark_distances,
    compute_normalizers,
)
from centernet_d2.evaluation.keypoints.plots import plot_cumulative_errors, plot_landmark_errors
from centernet_d2.evaluation.keypoints.shift import describe_shift
from centernet_d2.visualization.draw_keypoints import crop_square, draw_comparison, make_contact_sheet, move_landmarks

_logger = logging.getLogger(__name__)


@dataclass
class _Image:
    """A dataset dict with its faces that can be scored: ``faces`` (P,) their numbers in the dataset dict, ``landmarks``
    (P, K, 3), ``boxes`` (P, 4)."""

    dataset_dict: DatasetDict
    faces: np.ndarray
    landmarks: np.ndarray
    boxes: np.ndarray


class FaceLandmarkEvaluator(DatasetEvaluator):
    """NME, failure rates and areas under the curve by four normalizers, by subset where the dataset dicts name several.

    In an image with one annotated face the prediction with the highest score counts, however low it is; with several,
    each face has its own (``metrics.assign``). A face without a prediction is a failure. Crowds, and faces
    without a box or without any labeled landmark, are not scored.

    ``evaluate`` returns ``{"landmarks": {...}, "landmarks_<subset>": {...}}`` (``errors.summarize``) in the main
    process, and {} in others. ``output_dir`` gets ``landmark_errors.json``, ``cumulative_error.png``,
    ``per_landmark_error.png`` and ``worst.jpg``.

    Args:
        dataset_name: a registered set with ``keypoint_schema`` in its metadata.

    Raises:
        ValueError: the set has no keypoint schema, or no face that can be scored; and ``load_dataset_dicts``'s.
    """

    def __init__(self, dataset_name: str, output_dir: str | Path) -> None:
        self.dataset_name, self.output_dir = dataset_name, Path(output_dir)
        dataset_dicts = load_dataset_dicts(dataset_name)
        name = MetadataCatalog.get(dataset_name).get("keypoint_schema")
        if name not in SCHEMAS:
            raise ValueError(
                f"dataset {dataset_name}: its keypoint_schema is {name!r}, not one of {', '.join(SCHEMAS)}"
            )
        self.schema = SCHEMAS[name]
        self.images = {
            dataset_dict["image_id"]: _read_image(dataset_dict, self.schema) for dataset_dict in dataset_dicts
        }
        unscored = sum(len(p.dataset_dict["annotations"]) - len(p.faces) for p in self.images.values())
        if not any(len(image.faces) for image in self.images.values()):
            raise ValueError(f"dataset {dataset_name} has no face with a box and a labeled landmark to evaluate on")
        if unscored:
            _logger.warning("%s: %d faces without box or labels, or crowds, are not scored", dataset_name, unscored)
        self.reset()

    def reset(self) -> None:
        self._predictions: dict[Any, list[FaceError]] = {}

    def process(self, inputs: list[DatasetDict], outputs: list[dict[str, Instances]]) -> None:
        """
        Args:
            inputs: with ``image_id``.
            outputs: ``instances`` with ``scores`` (M,) and ``pred_keypoints`` (M, K, 3), image pixels.

        Raises:
            ValueError: no keypoints, or another number of them than the dataset has.
        """
        for sample, output in zip(inputs, outputs, strict=True):
            instances = output["instances"].to("cpu")
            shape = tuple(instances.pred_keypoints.shape) if instances.has("pred_keypoints") else ()
            if shape[1:] != (len(self.schema), 3):
                problem = (
                    f"the model's pred_keypoints have the shape {shape}" if shape else "the model has no keypoints"
                )
                raise ValueError(f"dataset {self.dataset_name} has {len(self.schema)} landmarks, but {problem}")
            predicted, scores = instances.pred_keypoints.double().numpy(), instances.scores.double().numpy()
            # Non-finite predictions are dropped.
            usable = np.isfinite(predicted).all(axis=(1, 2)) & np.isfinite(scores)
            image = self.images[sample["image_id"]]
            self._predictions[sample["image_id"]] = _judge(image, predicted[usable], scores[usable], self.schema)

    def evaluate(self) -> dict[str, dict[str, float]]:
        everything = gather_predictions(self._predictions, self.dataset_name, len(self.images))
        if everything is None:
            return {}
        faces = [face for key in self.images for face in everything.get(key, [])]
        if not faces:
            return {}
        results = {subset: summarize(members) for subset, members in group_by_subset(faces).items()}
        _logger.info("%s\n%s", self.dataset_name, format_tables({subset or "all": x for subset, x in results.items()}))
        named = {f"landmarks_{subset}" if subset else "landmarks": x for subset, x in results.items()}
        self._write(faces, named)
        return named

    def _write(self, faces: list[FaceError], results: dict[str, dict[str, float]]) -> None:
        """Write the files of ``output_dir``, for the first normalizer that all faces have."""
        self.output_dir.mkdir(parents=True, exist_ok=True)
        # The box size is never undefined.
        general = next(n for n in NORMALIZERS if len(compute_percentages(faces, n)) == len(faces))
        if shift := describe_shift(self._compute_shifts(faces, general), general):
            _logger.warning("%s: %s", self.dataset_name, shift)
        per_keypoint = {name: self._average_landmark_errors(faces, name) for name in NORMALIZERS}
        named = {"dataset": self.dataset_name, "schema": self.schema.name, "results": results}
        tables = {name: errors.tolist() for name, errors in per_keypoint.items()}
        write_errors(self.output_dir / "landmark_errors.json", faces, **named, per_keypoint=tables)
        curves = {
            subset or "all": compute_percentages(members, general) for subset, members in group_by_subset(faces).items()
        }
        plot_cumulative_errors(self.output_dir / "cumulative_error.png", curves, general)
        plot_landmark_errors(self.output_dir / "per_landmark_error.png", per_keypoint[general], general)
        cv2.imwrite(str(self.output_dir / "worst.jpg"), self._draw_worst(faces, general))

    def _average_landmark_errors(self, faces: list[FaceError], normalizer: str) -> np.ndarray:
        """Return (K,) mean errors in percent over detected faces with the landmark labeled; NaN without any."""
        total, count = np.zeros(len(self.schema)), np.zeros(len(self.schema))
        for predicted, gt, length in self._list_detected(faces, normalizer):
            errors = compute_landmark_distances(predicted, gt) / length
            total, count = total + np.nan_to_num(errors), count + ~np.isnan(errors)
        return 100 * np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)

    def _compute_shifts(self, faces: list[FaceError], normalizer: str) -> np.ndarray:
        """Return (F, 2) how far the mean of a detected face's labeled landmarks lies from that of its labels."""
        shifts = [
            100 * (predicted - gt)[gt[:, 2] > 0, :2].mean(axis=0) / length
            for predicted, gt, length in self._list_detected(faces, normalizer)
        ]
        return np.array(shifts).reshape(-1, 2)

    def _list_detected(self, faces: list[FaceError], normalizer: str) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
        """Yield predicted and true landmarks (K, 3) of each detected face, and its ``normalizer`` in pixels."""
        for face in faces:
            length = face.normalizers[normalizer]
            if face.landmarks is not None and length is not None:
                yield np.array(face.landmarks), self._get_gt(face), length

    def _draw_worst(self, faces: list[FaceError], normalizer: str) -> np.ndarray:
        """Draw the 20 faces of the largest errors, 240 pixels wide and high each."""
        crops, captions = [], []
        for face in sorted(faces, key=lambda face: face.compute_error(normalizer), reverse=True)[:20]:
            image, gt = self.images[face.image_id], self._get_gt(face)
            labeled = gt[gt[:, 2] > 0, :2]
            box = np.concatenate([labeled.min(axis=0), labeled.max(axis=0)])
            crop, matrix = crop_square(read_image(image.dataset_dict), box, 240)
            predicted = None if face.landmarks is None else move_landmarks(np.array(face.landmarks), matrix)
            draw_comparison(crop, predicted, move_landmarks(gt, matrix), self.schema)
            crops.append(crop)
            error = "missed" if face.distance is None else f"{face.compute_error(normalizer):.1f} %"
            captions.append(f"{error}  {Path(face.file_name).name}")
        return make_contact_sheet(crops, captions)

    def _get_gt(self, face: FaceError) -> np.ndarray:
        image = self.images[face.image_id]
        return image.landmarks[int(np.flatnonzero(image.faces == face.face)[0])]


def _read_image(dataset_dict: DatasetDict, schema: KeypointSchema) -> _Image:
    annotations = dataset_dict["annotations"]
    # The size of a face is that of its annotated box, also outside of the image.
    boxes = convert_to_corner_boxes(restore_uncut_boxes(annotations))
    unlabelled = [0.0] * (3 * len(schema))
    flat = [annotation.get("keypoints", unlabelled) for annotation in annotations]
    landmarks = np.array(flat, dtype=np.float64).reshape(len(flat), len(schema), 3)
    crowd = np.array([bool(annotation.get("iscrowd", 0)) for annotation in annotations], dtype=bool)
    has_box = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    faces = np.flatnonzero(has_box & (landmarks[:, :, 2] > 0).any(axis=1) & ~crowd)
    return _Image(dataset_dict, faces, landmarks[faces], boxes[faces])


def _judge(image: _Image, predicted: np.ndarray, scores: np.ndarray, schema: KeypointSchema) -> list[FaceError]:
    """Return the errors of an image's faces; ``predicted`` (M, K, 3), ``scores`` (M,)."""
    lengths = [compute_normalizers(face, box, schema) for face, box in zip(image.landmarks, image.boxes, strict=True)]
    if len(image.dataset_dict["annotations"]) + image.dataset_dict.get(LEFT_OUT, 0) == 1 and len(scores):
        chosen = np.full(len(lengths), scores.argmax())
    else:
        chosen = assign(predicted, scores, image.landmarks, np.array([x["box_size"] for x in lengths]))
    results = []
    for number, gt, length, index in zip(image.faces, image.landmarks, lengths, chosen, strict=True):
        dataset_dict = image.dataset_dict
        defined = {name: None if np.isnan(value) else value for name, value in length.items()}
        face = FaceError(
            dataset_dict["image_id"],
            str(dataset_dict["file_name"]),
            int(number),
            dataset_dict.get("subset"),
            normalizers=defined,
        )
        if index >= 0:
            face.distance = float(np.nanmean(compute_landmark_distances(predicted[index], gt)))
            face.score = float(scores[index])
            face.landmarks = predicted[index].round(3).tolist()
        results.append(face)
    return results
