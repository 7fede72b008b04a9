"""Crops of the objects of another dataset, one image for each object.

In ``DATASETS.CUSTOM``: ``["faces_train_crops", "crops", "300w_train", "1.5"]`` gives one image for each object of
``300w_train``: a square around the box center, with 1.5 times the longer side of the box. The source is a built-in
    dataset
or an earlier entry. Landmark models for cropped faces train and are evaluated on such datasets.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from centernet_d2.data.datasets.coco import set_metadata
from centernet_d2.data.image_io import DatasetDict
from centernet_d2.data.validation.issues import is_number
from centernet_d2.data.validation.object_boxes import (
    BOX_ISSUES,
    LEFT_OUT,
    UNCUT_BOX,
    restore_uncut_boxes,
    settle_objects,
)


def register_crops(name: str, source: str, margin: str) -> None:
    """Register the crops of the objects of ``source``, which is read at first use.

    Args:
        margin: side of the crop in units of the longer side of the object's box, at least 1, as text.

    Raises:
        ValueError: no such source, or a bad margin.
    """
    if source not in DatasetCatalog:
        raise ValueError(
            f"DATASETS.CUSTOM: {name!r} is cropped from {source!r}, but there is no such dataset "
            "(one of DATASETS.CUSTOM itself must come before)"
        )
    try:
        value = float(margin)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 1):
        raise ValueError(f"DATASETS.CUSTOM: the margin of {name!r} is {margin!r}, not a number of at least 1")
    DatasetCatalog.register(name, lambda: _load(name, source, value))
    _copy_metadata(name, source)


def crop_objects(dataset_dicts: list[DatasetDict], margin: float) -> list[DatasetDict]:
    """Return one dataset dict for each object that is no crowd and whose box has an area.

    ``crop`` is its window x1, y1, x2, y2 in whole pixels of the image, which may reach outside (black); ``height``
    and ``width`` are the window's, ``source_size`` the image's; ``image_id`` counts from 1, ``source_image_id`` is
    that of the image. Box and keypoints are in window pixels. The inputs may themselves be crops.
    """
    crops: list[DatasetDict] = []
    for dataset_dict in dataset_dicts:
        extra = {key: value for key, value in dataset_dict.items() if key not in (BOX_ISSUES, LEFT_OUT)}
        # A window may reach outside the image, so its box need not be clipped to the image.
        for annotation in restore_uncut_boxes(dataset_dict["annotations"]):
            box = _get_corners(annotation)
            if annotation.get("iscrowd", 0) or box is None:
                continue
            side = max(1, round(margin * max(box[2] - box[0], box[3] - box[1])))
            x, y = (round((box[k] + box[k + 2] - side) / 2) for k in (0, 1))
            left, top = dataset_dict.get("crop", (0, 0))[:2]
            crops.append(
                {
                    **extra,
                    "image_id": len(crops) + 1,
                    "source_image_id": dataset_dict.get("source_image_id", dataset_dict["image_id"]),
                    "source_size": dataset_dict.get("source_size", [dataset_dict["height"], dataset_dict["width"]]),
                    "crop": [left + x, top + y, left + x + side, top + y + side],
                    "height": side,
                    "width": side,
                    "annotations": [_shift_annotation(annotation, box, x, y)],
                }
            )
    return crops


def _get_corners(annotation: dict[str, Any]) -> list[float] | None:
    """Return x1, y1, x2, y2; None if the box has no area."""
    box = BoxMode.convert(list(annotation["bbox"]), BoxMode(annotation["bbox_mode"]), BoxMode.XYXY_ABS)
    valid = all(is_number(value) for value in box) and box[2] > box[0] and box[3] > box[1]
    return [float(value) for value in box] if valid else None


def _shift_annotation(annotation: dict[str, Any], box: list[float], x: int, y: int) -> dict[str, Any]:
    result = {key: value for key, value in annotation.items() if key not in ("segmentation", "keypoints", UNCUT_BOX)}
    result |= {"bbox": [box[0] - x, box[1] - y, box[2] - x, box[3] - y], "bbox_mode": BoxMode.XYXY_ABS}
    if "keypoints" in annotation:
        points = np.array(annotation["keypoints"], dtype=float).reshape(-1, 3)
        # Unlabeled keypoints have no position.
        points[points[:, 2] > 0, :2] -= (x, y)
        result["keypoints"] = points.ravel().tolist()
    return result


def _load(name: str, source: str, margin: float) -> list[DatasetDict]:
    dataset_dicts = DatasetCatalog.get(source)
    settle_objects(dataset_dicts)
    _copy_metadata(name, source)
    return crop_objects(dataset_dicts, margin)


def _copy_metadata(name: str, source: str) -> None:
    # The annotation file describes the source's images, not the crops.
    values = {k: v for k, v in MetadataCatalog.get(source).as_dict().items() if k not in ("name", "json_file")}
    set_metadata(name, values)
