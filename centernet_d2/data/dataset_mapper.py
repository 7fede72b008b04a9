"""From a dataset dict to what the model takes: one decode, one warp, one map of color, sparse objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data.transforms import AugInput, Augmentation, AugmentationList, TransformList
from detectron2.structures import Boxes, Instances, Keypoints

from centernet_d2.data.annotations import corner_boxes, keypoint_boxes
from centernet_d2.data.fields import Field, build_fields
from centernet_d2.data.frame_pairs import PreviousFrames, previous_centers
from centernet_d2.data.image_io import DatasetDict, read_image, read_reduced
from centernet_d2.data.transforms.affine import AffineTransform, RandomAffine, affine_parts
from centernet_d2.data.transforms.build import build_augmentations
from centernet_d2.data.validation.object_boxes import BOX_ISSUES, LEFT_OUT
from centernet_d2.registry import required_fields

_NOT_OF_SAMPLES = ("annotations", "previous", BOX_ISSUES, LEFT_OUT)


class CenterNetDatasetMapper:
    """Callable for Detectron2's loaders.

    Training gives ``image`` (3, H, W) uint8 of the network's input size (or, where resolution is kept, of the
    image's) and ``instances`` with ``gt_boxes`` (input pixels, inside the input, positive area), ``gt_classes`` int64
    and what ``fields`` read (``gt_keypoints`` (P, K, 3), ...); of videos also ``previous_image``, ``previous_boxes``
    (T, 4), the boxes that the network is shown, and ``gt_previous_center`` (P, 1, 3), in input pixels. Testing gives
    the image as it is: the model letterboxes. Both keep the other entries of the dataset dict.
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
            augmentations: used in training only; the first is expected to give the network's input size.
            fields: read values of the objects besides box and class.
            box_from_keypoints: "never", "rotated" (where the image was) or "always": an object's box becomes that of
                its labeled keypoints, those outside the input included, before it is cut to the input. Objects whose
                labeled keypoints span no area keep their own.
            previous_frames: training dataset dicts have "previous", the previous frame (``data.frame_pairs``).
            reduced_decoding: JPEG files that the warp makes smaller by 2, 4 or 8 at least are decoded so much smaller;
                for dataset dicts with their height and width, where ``RandomAffine`` comes first.

        Raises:
            ValueError: another ``box_from_keypoints``.
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
        tracks = "previous_frame" in required_fields(cfg)
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
        """
        Raises:
            CorruptImageError: the image cannot be used (``centernet_d2.data.image_io``).
            ValueError: an annotation lacks what is requested.
        """
        result = {key: value for key, value in dataset_dict.items() if key not in _NOT_OF_SAMPLES}
        if self.is_train:
            image, transforms, size = self._augment(dataset_dict)
        else:
            image = read_image(dataset_dict, self.image_format)
            size = image.shape[:2]
        result["height"], result["width"] = size
        if self.is_train:
            result["instances"] = self._instances({**dataset_dict, **result}, transforms, image.shape[:2])
            if self.previous_frames is not None:
                result |= self._previous(dataset_dict["previous"], transforms, result["instances"])
        result["image"] = _to_channels_first(image)
        return result

    def _augment(self, dataset_dict: DatasetDict) -> tuple[np.ndarray, TransformList, tuple[int, int]]:
        """The image as the network gets it, what was done to it, and its own (height, width)."""
        if not (
            self.reduced_decoding
            and "crop" not in dataset_dict
            and dataset_dict.get("height")
            and dataset_dict.get("width")
        ):
            seen = AugInput(read_image(dataset_dict, self.image_format))
            size = seen.image.shape[:2]
            transforms = self.augmentations(seen)
        else:
            first, *rest = self.augmentations.augs
            size = dataset_dict["height"], dataset_dict["width"]
            affine = first.draw(size)
            seen = AugInput(self._warp_reduced(dataset_dict, affine))
            transforms = TransformList([affine]) + AugmentationList(rest)(seen)
        return seen.image, transforms, size

    def _warp_reduced(self, dataset_dict: DatasetDict, affine: AffineTransform) -> np.ndarray:
        image, reduction = read_reduced(dataset_dict, self.image_format, affine.reduction())
        return affine.for_reduced(reduction).apply_image(image)

    def _previous(self, dataset_dict: DatasetDict, transforms: TransformList, instances: Instances) -> dict[str, Any]:
        assert self.previous_frames is not None
        transforms = self.previous_frames.transforms(transforms)
        if self.reduced_decoding:
            affine, *rest = transforms.transforms
            image = TransformList(rest).apply_image(self._warp_reduced(dataset_dict, affine))
        else:
            image = transforms.apply_image(read_image(dataset_dict, self.image_format))
        before = self._instances(dataset_dict, transforms, image.shape[:2])
        instances.gt_previous_center = Keypoints(previous_centers(instances.gt_track_ids, before))
        shown = self.previous_frames.sample_previous_boxes(before.gt_boxes.tensor)
        return {"previous_image": _to_channels_first(image), "previous_boxes": shown}

    def _instances(
        self, dataset_dict: DatasetDict, transforms: TransformList, image_size: tuple[int, int]
    ) -> Instances:
        annotations = [a for a in dataset_dict.get("annotations", []) if not a.get("iscrowd", 0)]
        annotations += [extra for field in self.fields for extra in field.extra_objects(dataset_dict)]
        source = corner_boxes(annotations)
        warped = transforms.apply_box(source)
        if self.box_from_keypoints == "always" or (
            self.box_from_keypoints == "rotated" and any(transform.rotates for transform in affine_parts(transforms))
        ):
            warped = keypoint_boxes(annotations, transforms, warped)
        boxes = warped.astype(np.float32).clip(0, np.tile(image_size[::-1], 2).astype(np.float32))
        # A box with swapped corners must be judged before the warp, which orders its corners.
        keep = torch.from_numpy(((boxes[:, 2:] > boxes[:, :2]) & (source[:, 2:] > source[:, :2])).all(axis=1))
        instances = Instances(image_size)
        instances.gt_boxes = Boxes(torch.from_numpy(boxes)[keep])
        instances.gt_classes = torch.tensor([a["category_id"] for a in annotations], dtype=torch.int64)[keep]
        for field in self.fields:
            for name, values in field.read(dataset_dict, annotations, transforms, image_size).items():
                instances.set(name, values[keep])
        return instances


def _to_channels_first(image: np.ndarray) -> torch.Tensor:
    """(H, W, 3) to (3, H, W), contiguous."""
    result = np.empty((image.shape[2], *image.shape[:2]), image.dtype)
    cv2.split(image, list(result))  # several times as fast as a transposed copy
    return torch.from_numpy(result)
