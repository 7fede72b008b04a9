"""evaluator_type -> evaluator, in one table."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators

from centernet_d2.data.catalog import get_class_names
from centernet_d2.data.datasets.own_keypoints import describe_sigmas
from centernet_d2.data.validation.issues import AnnotationError
from centernet_d2.evaluation.coco import CocoEvaluator
from centernet_d2.evaluation.keypoints.clothes import ClothesLandmarkEvaluator
from centernet_d2.evaluation.keypoints.faces import FaceLandmarkEvaluator
from centernet_d2.evaluation.keypoints.own import OwnKeypointEvaluator
from centernet_d2.evaluation.kitti.evaluator import KittiEvaluator
from centernet_d2.evaluation.rotated_boxes import RotatedBoxEvaluator
from centernet_d2.evaluation.tracking.evaluator import TrackingEvaluator
from centernet_d2.evaluation.voc import VocEvaluator
from centernet_d2.evaluation.wider_face import WiderFaceEvaluator
from centernet_d2.registry import get_required_fields
from centernet_d2.structures.keypoint_schema import find_schema

_logger = logging.getLogger(__name__)
_Build = Callable[[CfgNode, str, str], DatasetEvaluator]


def build_evaluator(cfg: CfgNode, dataset_name: str, output_dir: str | None = None) -> DatasetEvaluator:
    """Build the evaluator of a registered dataset; its files go to ``output_dir`` (``OUTPUT_DIR/inference``).

    Raises:
        ValueError: the dataset's metadata names no evaluator, or an unknown one.
    """
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type")
    if kind not in _EVALUATORS:
        raise ValueError(
            f"dataset {dataset_name!r}: its metadata's evaluator_type is {kind!r}, not one of {', '.join(_EVALUATORS)}"
        )
    return _EVALUATORS[kind](cfg, dataset_name, output_dir or os.path.join(cfg.OUTPUT_DIR, "inference"))


def check_evaluators(cfg: CfgNode, build: Callable[[CfgNode, str], DatasetEvaluator] = build_evaluator) -> None:
    """Build the evaluators of ``DATASETS.TEST`` before training: they read their ground truth.

    Raises:
        AnnotationError: a dataset cannot be evaluated, or needs predictions that the model does not make.
        FileNotFoundError: its files are absent.
    """
    for name in cfg.DATASETS.TEST:
        try:
            build(cfg, name)
        except (AnnotationError, FileNotFoundError):
            raise
        except (ValueError, KeyError, TypeError, ImportError) as error:
            problem = str(error) if isinstance(error, ValueError | ImportError) else repr(error)
            raise AnnotationError(f"dataset {name} cannot be evaluated: {problem}") from error
        kind = MetadataCatalog.get(name).get("evaluator_type")
        needed = _NEEDED.get(kind)
        if needed and needed not in get_required_fields(cfg):
            problem = f"its evaluator_type {kind!r} needs {needed} of the model, which predicts none"
            raise AnnotationError(f"dataset {name} cannot be evaluated: {problem} (MODEL.CENTERNET.TASK)")


def _build_coco(cfg: CfgNode, dataset_name: str, output_dir: str) -> DatasetEvaluator:
    """Build COCO's evaluator; a JSON file is written for a dataset that has none."""
    get_class_names(dataset_name)  # reads the file, which may set the evaluator
    schema = find_schema(MetadataCatalog.get(dataset_name).get("keypoint_schema"))
    sigmas = list(cfg.TEST.KEYPOINT_OKS_SIGMAS)
    if schema is not None and schema.own and "keypoints" in get_required_fields(cfg):
        if sigmas and len(sigmas) != len(schema):
            raise ValueError(f"TEST.KEYPOINT_OKS_SIGMAS has {len(sigmas)} values for {schema.title}")
        _logger.info("%s: %s", dataset_name, describe_sigmas(schema, sigmas))
        sigmas = sigmas or list(schema.sigmas or ())
    predicted = {"bbox": True, "segm": cfg.MODEL.MASK_ON, "keypoints": "keypoints" in get_required_fields(cfg)}
    evaluator = CocoEvaluator(
        dataset_name,
        output_dir,
        expected=[task for task, wanted in predicted.items() if wanted],
        # No sigmas are published for these.
        unscored=["keypoints"] if schema is not None and not schema.sigmas else [],
        detections_per_image=cfg.TEST.DETECTIONS_PER_IMAGE,
        sigmas=sigmas,
    )
    evaluators: list[DatasetEvaluator] = [evaluator]
    if schema is not None and schema.own and predicted["keypoints"]:
        folder = os.path.join(output_dir, dataset_name)
        evaluators.append(OwnKeypointEvaluator(dataset_name, folder, cfg.MODEL.KEYPOINT.CALIBRATION))
    if "corners" in get_required_fields(cfg):
        evaluators.append(RotatedBoxEvaluator(dataset_name, cfg.TEST.DETECTIONS_PER_IMAGE))
    return evaluators[0] if len(evaluators) == 1 else DatasetEvaluators(evaluators)


def _build_pascal_voc(cfg: CfgNode, dataset_name: str, output_dir: str) -> DatasetEvaluator:
    return VocEvaluator(dataset_name)


def _wrap_with_own_folder(evaluator: Callable[[str, str], DatasetEvaluator]) -> _Build:
    """Return a builder of ``evaluator`` with a folder per dataset, so that files are not overwritten."""
    return lambda cfg, dataset_name, output_dir: evaluator(dataset_name, os.path.join(output_dir, dataset_name))


def _build_clothes_landmarks(cfg: CfgNode, dataset_name: str, output_dir: str) -> DatasetEvaluator:
    return ClothesLandmarkEvaluator(dataset_name, os.path.join(output_dir, dataset_name), cfg.TEST.DETECTIONS_PER_IMAGE)


_EVALUATORS: dict[str, _Build] = {
    "coco": _build_coco,
    "pascal_voc": _build_pascal_voc,
    "face_landmarks": _wrap_with_own_folder(FaceLandmarkEvaluator),
    "clothes_landmarks": _build_clothes_landmarks,
    "kitti": _wrap_with_own_folder(KittiEvaluator),
    "wider_face": _wrap_with_own_folder(WiderFaceEvaluator),
    "tracking": _wrap_with_own_folder(TrackingEvaluator),
}
# What a model must predict, as its ``required_fields`` name it.
_NEEDED = {"face_landmarks": "keypoints", "tracking": "track_ids"}
