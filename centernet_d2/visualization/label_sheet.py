"""A sheet of images with their labels, to see at a glance whether a dataset was read as meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from centernet_d2.data.annotations import convert_to_corner_boxes
from centernet_d2.data.image_io import CorruptImageError, DatasetDict, read_image
from centernet_d2.structures.keypoint_schema import KeypointSchema
from centernet_d2.visualization.draw_keypoints import draw_keypoints, make_contact_sheet
from centernet_d2.visualization.primitives import Color, write_text

_SIDE = 320
_COLORS: tuple[Color, ...] = ((60, 200, 255), (90, 255, 130), (255, 120, 220), (255, 190, 60), (80, 80, 255))


def draw_label_sheet(
    dataset_dicts: Sequence[DatasetDict], class_names: Sequence[str], schema: KeypointSchema | None, count: int = 16
) -> np.ndarray:
    """Return a sheet (H, W, 3) uint8, BGR, of ``count`` images spread over the set, those with objects first.

    Raises:
        ValueError: no image can be read.
    """
    with_objects = [one for one in dataset_dicts if one.get("annotations")] or list(dataset_dicts)
    step = max(1, len(with_objects) / count)
    chosen = [with_objects[int(k * step)] for k in range(min(count, len(with_objects)))]
    panels, captions = [], []
    for dataset_dict in chosen:
        try:
            panels.append(_draw_panel(dataset_dict, class_names, schema))
            captions.append(Path(dataset_dict["file_name"]).name)
        except (CorruptImageError, OSError):
            continue
    return make_contact_sheet(panels, captions, columns=4)


def _draw_panel(dataset_dict: DatasetDict, class_names: Sequence[str], schema: KeypointSchema | None) -> np.ndarray:
    """Return the image fitted into a square, with boxes, outlines, keypoints and class names."""
    image = read_image(dataset_dict)
    scale = _SIDE / max(image.shape[:2])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    panel = np.zeros((_SIDE, _SIDE, 3), np.uint8)
    panel[: size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    annotations = dataset_dict.get("annotations", [])
    for annotation, box in zip(annotations, convert_to_corner_boxes(annotations) * scale, strict=True):
        label = annotation["category_id"]
        color = _COLORS[label % len(_COLORS)]
        polygons = annotation.get("segmentation")
        for polygon in polygons if isinstance(polygons, list) else ():
            points = np.rint(np.array(polygon).reshape(-1, 1, 2) * scale - 0.5).astype(np.int32)
            cv2.polylines(panel, [points], True, color, 1, cv2.LINE_AA)
        corners = np.rint(box - 0.5).astype(int).tolist()
        cv2.rectangle(panel, corners[:2], corners[2:], color, 1, cv2.LINE_AA)
        if schema is not None and annotation.get("keypoints"):
            keypoints = np.array(annotation["keypoints"], dtype=float).reshape(-1, 3) * (scale, scale, 1)
            draw_keypoints(panel, keypoints, schema, label)
        write_text(panel, (max(corners[0], 0) + 2, max(corners[1], 0) + 1), class_names[label], color, 13)
    return panel
