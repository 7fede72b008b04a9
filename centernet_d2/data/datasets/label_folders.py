"""Registers folders in any of the label formats."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog

from centernet_d2.data.datasets.coco import CocoFile, check_coco, set_coco_metadata
from centernet_d2.data.datasets.own_keypoints import KeypointSettings, use_own_keypoints
from centernet_d2.data.formats.labels import read_labels
from centernet_d2.data.image_io import DatasetDict
from centernet_d2.data.validation.conversions import warn_conversions
from centernet_d2.data.validation.issues import AnnotationError, raise_issues
from centernet_d2.structures.keypoint_schema import KeypointSchema


def register_labels(name: str, path: str, split: str, settings: KeypointSettings, format_name: str) -> None:
    """Register a split of a folder or file in the label format ``format_name``, or "auto"; it is read at first use."""
    DatasetCatalog.register(name, lambda: _load(name, path, split, settings, format_name))
    MetadataCatalog.get(name).set(evaluator_type="coco")


def read_split(
    path: str, split: str, settings: KeypointSettings, format_name: str = "auto"
) -> tuple[CocoFile, KeypointSchema | None]:
    """Read the images of ``split`` ("all": of all), with the classes of all splits.

    Raises:
        FileNotFoundError, AnnotationError: as ``read_labels``; there are no images of this split.
    """
    labels = read_labels(Path(path), format_name)
    warn_conversions(path, labels.notes)
    found = sorted({image.get("split", "") for image in labels.data["images"]})
    images = [image for image in labels.data["images"] if split in ("all", image.get("split", ""))]
    if not images and not labels.issues:
        where = f"it has {', '.join(filter(None, found))}" if any(found) else "it has no splits"
        raise AnnotationError(
            f'{path} has no split {split!r}: {where}. "all" takes every image, and '
            f"centernet-d2 convert-labels {path} FOLDER --val 0.2 writes splits"
        )
    numbers = {image["id"] for image in images}
    annotations = [one for one in labels.data["annotations"] if one["image_id"] in numbers]
    data = {**labels.data, "images": images, "annotations": annotations}
    coco = check_coco(data, Counter(), path, labels.image_root, settings.box_margin)
    coco.issues, coco.scores_itself = [*labels.issues, *coco.issues], False
    return coco, use_own_keypoints(coco, path, settings)


def _load(name: str, path: str, split: str, settings: KeypointSettings, format_name: str) -> list[DatasetDict]:
    coco, schema = read_split(path, split, settings, format_name)
    raise_issues(f"dataset {name}, {path}", coco.issues)
    set_coco_metadata(name, coco, path, {"evaluator_type": "coco", **(schema.to_metadata() if schema else {})})
    return coco.dataset_dicts
