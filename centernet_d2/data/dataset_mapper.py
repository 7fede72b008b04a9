"""Maps a dataset dict to the model's input: one decoding, one warp, color changes, sparse objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data.transforms import AugInput, Augmentation, AugmentationList, TransformList
from detectron2.structures import Boxes, Instances, Keypoints

from centernet_d2.data.annotations import convert_to_corner_boxes, enclose_keypoints
from centernet_d2.data.fields import Field, build_fields
from centernet_d2.data.frame_pairs import PreviousFrames, find_previous_centers
from centernet_d2.data.image_io import DatasetDict, read_image, read_reduced
from centernet_d2.data.transforms.affine import AffineTransform, RandomAffine, select_affine
from centernet_d2.data.transforms.build import build_augmentations
from centernet_d2.data.validation.object_boxes import BOX_ISSUES, LEFT_OUT
from centernet_d2.registry import get_required_fields

_DROPPED_KEYS = ("annotations", "previous", BOX_ISSUES, LEFT_OUT)


class CenterNetDatasetMapper:
    """Callable for Detectron2's loaders.

    Training gives ``image`` (3, H, W) uint8 of the network's input size (or, where resolution is kept, of the
    image's) and ``instances`` with ``gt_boxes`` (input pixels, inside the input, positive area), ``gt_classes`` int64
    and what ``fields`` read (``gt_keypoints`` (P, K, 3), ...). Videos add ``previous_image``, ``previous_boxes`` (T,
    4), the simulated detections of the previous frame, and ``gt_previous_center`` (P, 1, 3), in input pixels. Testing
    gives
    the original image: the model letterboxes. Both keep the other entries of the dataset dict.
    """

    @configurable
    def __init__(
        self,
        *,
        is_train: bool,
        augmentations: list[Augmentation],
        image_format: str = "BGR",
        fields: Sequence[Field] = (),
        box_from_keypoints: str = "never",
        previous_frames: PreviousFrames | None = None,
        reduced_decoding: bool = False,
    ) -> None:
        """
        Args:
            augmentations: used in training only; the first must give the network's input size.
            fields: readers of the objects' values besides box and class.
            box_from_keypoints: "never", "rotated" (in rotated images) or "always": replace an object's box by that
                around its labeled keypoints, including those outside the input, before it is clipped to the input.
                Objects whose labeled keypoints span no area keep their box.
            previous_frames: settings of the previous frame, which training dicts have as "previous"
                (``data.frame_pairs``).
            reduced_decoding: decode JPEG files at 1/2, 1/4 or 1/8 of their size where the warp shrinks them at least as
                much. Needs ``RandomAffine`` first, and dataset dicts with height and width.

        Raises:
            ValueError: unknown ``box_from_keypoints``.
        """
        if box_from_keypoints not in ("never", "rotated", "always"):
            raise ValueError(
                f'INPUT.BOX_FROM_KEYPOINTS must be "never", "rotated" or "always", not {box_from_keypoints!r}'
            )
        self.is_train = is_train
        self.augmentations = AugmentationList(augmentations)
        self.image_format = image_format
        self.fields = list(fields)
        self.box_from_keypoints = box_from_keypoints
        self.previous_frames = previous_frames
        self.reduced_decoding = reduced_decoding and isinstance(next(iter(augmentations), None), RandomAffine)

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        tracks = "previous_frame" in get_required_fields(cfg)
        return {
            "is_train": is_train,
            "augmentations": build_augmentations(cfg) if is_train else [],
            "image_format": cfg.INPUT.FORMAT,
            "fields": build_fields(cfg) if is_train else [],
            "box_from_keypoints": cfg.INPUT.BOX_FROM_KEYPOINTS,
            "previous_frames": PreviousFrames.from_config(cfg) if tracks else None,
            "reduced_decoding": cfg.INPUT.REDUCED_DECODING,
        }

    def __call__(self, dataset_dict: DatasetDict) -> dict[str, Any]:
        """Map a dataset dict; see the class.

        Raises:
            CorruptImageError: the image cannot be used (``centernet_d2.data.image_io``).
            ValueError: an annotation lacks a required field.
        """
        result = {key: value for key, value in dataset_dict.items() if key not in _DROPPED_KEYS}
        if self.is_train:
            image, transforms, size = self._augment(dataset_dict)
        else:
            image = read_image(dataset_dict, self.image_format)
            size = image.shape[:2]
        result["height"], result["width"] = size
        if self.is_train:
            result["instances"] = self._build_instances({**dataset_dict, **result}, transforms, image.shape[:2])
            if self.previous_frames is not None:
                result |= self._read_previous(dataset_dict["previous"], transforms, result["instances"])
        result["image"] = _to_channels_first(image)
        return result

    def _augment(self, dataset_dict: DatasetDict) -> tuple[np.ndarray, TransformList, tuple[int, int]]:
        """Return the augmented image, its transforms, and the original (height, width)."""
        if not (
            self.reduced_decoding
            and "crop" not in dataset_dict
            and dataset_dict.get("height")
            and dataset_dict.get("width")
        ):
            augmented = AugInput(read_image(dataset_dict, self.image_format))
            size = augmented.image.shape[:2]
            transforms = self.augmentations(augmented)
        else:
            first, *rest = self.augmentations.augs
            size = dataset_dict["height"], dataset_dict["width"]
            affine = first.sample_transform(size)
            augmented = AugInput(self._read_warped(dataset_dict, affine))
            transforms = TransformList([affine]) + AugmentationList(rest)(augmented)
        return augmented.image, transforms, size

    def _read_warped(self, dataset_dict: DatasetDict, affine: AffineTransform) -> np.ndarray:
        image, reduction = read_reduced(dataset_dict, self.image_format, affine.reduction())
        return affine.adapt_to_reduced(reduction).apply_image(image)

    def _read_previous(
        self, dataset_dict: DatasetDict, transforms: TransformList, instances: Instances
    ) -> dict[str, Any]:
        assert self.previous_frames is not None
        transforms = self.previous_frames.sample_transforms(transforms)
        if self.reduced_decoding:
            affine, *rest = transforms.transforms
            image = TransformList(rest).apply_image(self._read_warped(dataset_dict, affine))
        else:
            image = transforms.apply_image(read_image(dataset_dict, self.image_format))
        before = self._build_instances(dataset_dict, transforms, image.shape[:2])
        instances.gt_previous_center = Keypoints(find_previous_centers(instances.gt_track_ids, before))
        detections = self.previous_frames.sample_detections(before.gt_boxes.tensor)
        return {"previous_image": _to_channels_first(image), "previous_boxes": detections}

    def _build_instances(
        self, dataset_dict: DatasetDict, transforms: TransformList, image_size: tuple[int, int]
    ) -> Instances:
        annotations = [a for a in dataset_dict.get("annotations", []) if not a.get("iscrowd", 0)]
        annotations += [extra for field in self.fields for extra in field.list_extra_objects(dataset_dict)]
        source = convert_to_corner_boxes(annotations)
        warped = transforms.apply_box(source)
        if self.box_from_keypoints == "always" or (
            self.box_from_keypoints == "rotated" and any(transform.rotates for transform in select_affine(transforms))
        ):
            warped = enclose_keypoints(annotations, transforms, warped)
        boxes = warped.astype(np.float32).clip(0, np.tile(image_size[::-1], 2).astype(np.float32))
        # Inverted boxes must be found before the warp, which orders the corners.
        keep = torch.from_numpy(((boxes[:, 2:] > boxes[:, :2]) & (source[:, 2:] > source[:, :2])).all(axis=1))
        instances = Instances(image_size)
        instances.gt_boxes = Boxes(torch.from_numpy(boxes)[keep])
        instances.gt_classes = torch.tensor([a["category_id"] for a in annotations], dtype=torch.int64)[keep]
        for field in self.fields:
            for name, values in field.read(dataset_dict, annotations, transforms, image_size).items():
                instances.set(name, values[keep])
        return instances


def _to_channels_first(image: np.ndarray) -> torch.Tensor:
    """Return (3, H, W), contiguous, of (H, W, 3)."""
    result = np.empty((image.shape[2], *image.shape[:2]), image.dtype)
    cv2.split(image, list(result))  # several times faster than a transposed copy
    return torch.from_numpy(result)
