"""Readers of training values besides box and class, one for each name that a task may require.

A task declares names in ``required_fields``. A name without a reader is read from the annotations unchanged, as numbers
that no warp affects.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data.detection_utils import create_keypoint_hflip_indices
from detectron2.data.transforms import TransformList
from detectron2.structures import Keypoints
from torch import Tensor

from centernet_d2.data.image_io import DatasetDict
from centernet_d2.data.transforms.affine import select_affine
from centernet_d2.registry import get_required_fields

Annotation = dict[str, Any]
#: Readers by field name, each called with a config.
FIELDS: dict[str, Callable[[CfgNode], Field]] = {}
_Reader = TypeVar("_Reader", bound=Callable[..., "Field"])


def register_field(name: str) -> Callable[[_Reader], _Reader]:
    """Register a class as the reader of the field ``name``. A decorator."""

    def register(reader: _Reader) -> _Reader:
        FIELDS[name] = reader
        return reader

    return register


class Field(ABC):
    """Reads one kind of value from the annotations of an image."""

    def list_extra_objects(self, dataset_dict: DatasetDict) -> list[Annotation]:
        """Return annotations to add to those of ``dataset_dict``, such as ignore regions."""
        return []

    @abstractmethod
    def read(
        self,
        dataset_dict: DatasetDict,
        annotations: list[Annotation],
        transforms: TransformList,
        image_size: tuple[int, int],
    ) -> dict[str, Tensor | Keypoints]:
        """Read ``gt_<name>`` of the P annotations, (P, ...) each, after ``transforms``; points in input pixels.

        Args:
            image_size: (height, width) of the input.

        Raises:
            ValueError: a value is missing or malformed; names file, annotation and field.
        """

    def find_problem(self, annotation: Annotation, size: tuple[Any, Any]) -> tuple[str, str] | None:
        """Return the annotation's field that :meth:`read` cannot use and what is wrong with it, or None.

        Args:
            annotation: of an object that is not a crowd.
            size: (height, width) of the image.
        """
        return None


@register_field("keypoints")
class KeypointField(Field):
    """``gt_keypoints`` (P, K, 3): x, y and visibility, which is 0 for points outside the input or without a label.

    Args:
        flip_indices: (K,) keypoint k of a flipped image is keypoint ``flip_indices[k]`` of the image.
    """

    @configurable
    def __init__(self, *, flip_indices: np.ndarray) -> None:
        self.flip_indices = flip_indices

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return {"flip_indices": np.asarray(create_keypoint_hflip_indices(cfg.DATASETS.TRAIN))}

    def read(
        self,
        dataset_dict: DatasetDict,
        annotations: list[Annotation],
        transforms: TransformList,
        image_size: tuple[int, int],
    ) -> dict[str, Tensor | Keypoints]:
        unlabeled = np.zeros((len(self.flip_indices), 3))
        points = [np.asarray(a.get("keypoints", unlabeled), dtype=np.float64).reshape(-1, 3) for a in annotations]
        result = np.stack(points) if points else np.zeros((0, len(self.flip_indices), 3))
        result[:, :, :2] = transforms.apply_coords(result[:, :, :2].reshape(-1, 2)).reshape(len(result), -1, 2)
        inside = (result[:, :, :2] >= 0) & (result[:, :, :2] <= np.array(image_size[::-1]))
        result[:, :, 2] *= inside.all(axis=2)
        if any(transform.flips for transform in select_affine(transforms)):
            result = result[:, self.flip_indices]
        return {"gt_keypoints": Keypoints(torch.from_numpy(result).float())}


@register_field("track_ids")
class TrackIdField(Field):
    """``gt_track_ids`` (P,) int64; in single images the objects are numbered from 1."""

    def __init__(self, cfg: CfgNode) -> None:
        pass

    def read(
        self,
        dataset_dict: DatasetDict,
        annotations: list[Annotation],
        transforms: TransformList,
        image_size: tuple[int, int],
    ) -> dict[str, Tensor | Keypoints]:
        ids = [a.get("track_id", number) for number, a in enumerate(annotations, start=1)]
        return {"gt_track_ids": torch.tensor(ids, dtype=torch.int64)}


class NumberField(Field):
    """``gt_<name>`` (P, ...) float32: the annotation field of that name, unchanged by the warp."""

    def __init__(self, name: str) -> None:
        self.name = name

    def read(
        self,
        dataset_dict: DatasetDict,
        annotations: list[Annotation],
        transforms: TransformList,
        image_size: tuple[int, int],
    ) -> dict[str, Tensor | Keypoints]:
        for annotation in annotations:
            if annotation.get(self.name) is None:
                where = f"{dataset_dict.get('file_name')}, annotation {annotation.get('id')}, {self.name}"
                raise ValueError(f"{where}: is missing, and the task requires it")
        values = [np.asarray(a[self.name], dtype=np.float32) for a in annotations]
        return {f"gt_{self.name}": torch.from_numpy(np.stack(values)) if values else torch.zeros(0)}


def build_fields(cfg: CfgNode) -> list[Field]:
    """Build the readers of the fields that the config's task, and copy-paste, require."""
    # "previous_frame" is no value of an object: the mapper reads it.
    names = [name for name in get_required_fields(cfg) if name != "previous_frame"]
    if cfg.INPUT.COPY_PASTE.PROB and "contour" not in names:
        names.append("contour")
    return [FIELDS[name](cfg) if name in FIELDS else NumberField(name) for name in names]
