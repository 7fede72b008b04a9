"""The fields "extreme_points", "contour", "corners" and "crowd" of objects, read from the masks of annotations."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.transforms import TransformList
from detectron2.structures import Keypoints
from torch import Tensor

from centernet_d2.data.annotations import convert_to_corner_boxes
from centernet_d2.data.fields import Annotation, Field, register_field
from centernet_d2.data.formats.coco_segmentation import BAD_SEGMENTATION, read_outlines
from centernet_d2.data.image_io import DatasetDict
from centernet_d2.data.schemas.extreme4 import find_extreme_points
from centernet_d2.data.transforms.affine import select_affine
from centernet_d2.data.validation.issues import is_number
from centernet_d2.ops.lsnet.contours import reverse_contour, sample_contour


class OutlineField(Field):
    """Base of fields that are points on an object's outline, or on its box where it has no segmentation."""

    #: ``gt_<name>``.
    name: str

    @abstractmethod
    def locate(self, annotation: Annotation, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Return the points (K, 2), x, y in image pixels.

        Args:
            box: (4,) x1, y1, x2, y2 of the annotation.
            size: (height, width) of the image.

        Raises:
            ValueError: the segmentation cannot be used; the message continues a sentence.
        """

    @abstractmethod
    def fit(self, points: np.ndarray, box: np.ndarray, flipped: bool) -> np.ndarray:
        """Return warped points (K, 2) in the order and place that training needs.

        Args:
            box: (4,) of the object after the warp, clipped to the input.
        """

    def read(
        self,
        dataset_dict: DatasetDict,
        annotations: list[Annotation],
        transforms: TransformList,
        image_size: tuple[int, int],
    ) -> dict[str, Tensor | Keypoints]:
        size = dataset_dict["height"], dataset_dict["width"]
        flipped = any(transform.flips for transform in select_affine(transforms))
        source = convert_to_corner_boxes(annotations)
        boxes = transforms.apply_box(source).clip(0, np.tile(image_size[::-1], 2))
        rows = []
        for annotation, box, warped in zip(annotations, source, boxes, strict=True):
            try:
                points = self.locate(annotation, box, size)
            except ValueError as error:
                where = f"{dataset_dict.get('file_name')}, annotation {annotation.get('id')}, segmentation"
                raise ValueError(f"{where}: {error}") from None
            rows.append(self.fit(transforms.apply_coords(points.copy()), warped, flipped))
        points = np.stack(rows) if rows else np.zeros((0, self.count, 2))
        labeled = np.concatenate([points, np.full((*points.shape[:2], 1), 2.0)], axis=2)
        return {f"gt_{self.name}": Keypoints(torch.from_numpy(labeled).float())}

    @property
    @abstractmethod
    def count(self) -> int:
        """K."""

    def find_problem(self, annotation: Annotation, size: tuple[Any, Any]) -> tuple[str, str] | None:
        if BAD_SEGMENTATION in annotation or "segmentation" in annotation:
            try:
                read_outlines(annotation.get(BAD_SEGMENTATION, annotation.get("segmentation")), size)
            except ValueError as error:
                return "segmentation", str(error)
        return None


@register_field("extreme_points")
class ExtremePointField(OutlineField):
    """``gt_extreme_points`` (P, 4, 3): the top, left, bottom and right point, on the sides of ``gt_boxes``.

    They are read from the annotation's "extreme_points" (x, y of the four, continuous coordinates; more numbers are
    ignored), or computed from its segmentation, or else the middles of the box's sides.
    """

    name, count = "extreme_points", 4

    def __init__(self, cfg: CfgNode) -> None:
        pass

    def locate(self, annotation: Annotation, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        if "extreme_points" in annotation:
            return np.array(annotation["extreme_points"][:8], dtype=np.float64).reshape(4, 2)
        if "segmentation" in annotation:
            return find_extreme_points(*read_outlines(annotation["segmentation"], size))
        (x1, y1, x2, y2), (x, y) = box, (box[:2] + box[2:]) / 2
        return np.array([[x, y1], [x1, y], [x, y2], [x2, y]])

    def fit(self, points: np.ndarray, box: np.ndarray, flipped: bool) -> np.ndarray:
        points = points[[0, 3, 2, 1]] if flipped else points
        points = points.clip(box[:2], box[2:])
        # The box is the annotation's, which the mask need not fill.
        points[[1, 3], 0], points[[0, 2], 1] = box[[0, 2]], box[[1, 3]]
        return points

    def find_problem(self, annotation: Annotation, size: tuple[Any, Any]) -> tuple[str, str] | None:
        given = annotation.get("extreme_points")
        if given is None:
            return super().find_problem(annotation, size)
        if not isinstance(given, list) or len(given) < 8 or not all(map(is_number, given)):
            return "extreme_points", f"is {str(given)[:80]}, not x, y of four points"
        return None


@register_field("contour")
class ContourField(OutlineField):
    """``gt_contour`` (P, K, 3): points along the outline of the object's largest part, counterclockwise on the screen,
    from the top; K is MODEL.LSNET.CONTOUR_POINTS. Points outside the input are moved to its border."""

    name = "contour"

    def __init__(self, cfg: CfgNode) -> None:
        self.num_points = cfg.MODEL.LSNET.CONTOUR_POINTS

    @property
    def count(self) -> int:
        return self.num_points

    def locate(self, annotation: Annotation, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        outlines = read_outlines(annotation["segmentation"], size)[0] if "segmentation" in annotation else []
        return sample_contour(outlines, box, self.num_points)

    def fit(self, points: np.ndarray, box: np.ndarray, flipped: bool) -> np.ndarray:
        points = reverse_contour(points) if flipped else points
        return points.clip(box[:2], box[2:])


@register_field("corners")
class CornerField(OutlineField):
    """``gt_corners`` (P, 4, 3): corners of the smallest rectangle around the outline, rotated or not, or else of
    the box. They may be outside the input."""

    name, count = "corners", 4

    def __init__(self, cfg: CfgNode) -> None:
        pass

    def locate(self, annotation: Annotation, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        return locate_corners(annotation, box, size)

    def fit(self, points: np.ndarray, box: np.ndarray, flipped: bool) -> np.ndarray:
        return fit_rectangle(points)  # again, as the warp may have made it a parallelogram


@register_field("crowd")
class CrowdField(Field):
    """``gt_ignored`` (P,) bool: crowds ("iscrowd") are added to the objects, and ignored."""

    def __init__(self, cfg: CfgNode) -> None:
        pass

    def list_extra_objects(self, dataset_dict: DatasetDict) -> list[Annotation]:
        crowds = [one for one in dataset_dict.get("annotations", []) if one.get("iscrowd")]
        # A crowd's segmentation says nothing about single objects.
        names = ("bbox", "bbox_mode", "category_id")
        return [{**{name: one[name] for name in names}, "ignored": True} for one in crowds]

    def read(
        self,
        dataset_dict: DatasetDict,
        annotations: list[Annotation],
        transforms: TransformList,
        image_size: tuple[int, int],
    ) -> dict[str, Tensor | Keypoints]:
        return {"gt_ignored": torch.tensor([one.get("ignored", False) for one in annotations], dtype=torch.bool)}


def locate_corners(annotation: Annotation, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the corners (4, 2) of an annotation's rotated box, image pixels: :class:`CornerField`.

    Args:
        box: (4,) x1, y1, x2, y2 of the annotation.
        size: (height, width) of the image.

    Raises:
        ValueError: the segmentation cannot be used; the message continues a sentence.
    """
    if "segmentation" not in annotation:
        return box[[[0, 1], [2, 1], [2, 3], [0, 3]]]
    outlines, reach = read_outlines(annotation["segmentation"], size)
    return fit_rectangle(np.concatenate(outlines), reach)


def fit_rectangle(points: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """Return the corners (4, 2) of the smallest rectangle around points (V, 2), ``margin`` larger on each side."""
    middle = points.mean(axis=0)  # OpenCV calculates in single precision
    center, (width, height), angle = cv2.minAreaRect((points - middle).astype(np.float32))
    return cv2.boxPoints((center, (width + 2 * margin, height + 2 * margin), angle)) + middle
