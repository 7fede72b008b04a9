"""From a dataset record to what the model takes: one decode, one warp, one map of colour, sparse objects."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data.detection_utils import create_keypoint_hflip_indices
from detectron2.data.transforms import AugInput, Augmentation, AugmentationList, TransformList
from detectron2.structures import Boxes, BoxMode, Instances, Keypoints

from centernet_d2.data.augmentation import AffineTransform, RandomAffine, RandomColor, affine_parts
from centernet_d2.data.boxes3d import ignored_regions, object_fields
from centernet_d2.data.degradation import RandomBlur, RandomOcclusion
from centernet_d2.data.photometric import build_photometric
from centernet_d2.data.previous_frame import PreviousFrames, previous_centers, track_ids
from centernet_d2.data.reading import Record, read_image, read_reduced


class CenterNetDatasetMapper:
    """Callable for Detectron2's loaders.

    Training gives ``image`` (3, H, W) uint8 of the network's input size (or, where resolution is kept, of the
    picture's) and ``instances`` with ``gt_boxes`` (input pixels, inside the input, positive area), ``gt_classes`` int64
    and, on demand, ``gt_keypoints`` (P, K, 3) and what ``data.boxes3d`` names; of videos also ``previous_image``,
    ``previous_boxes`` (T, 4) that the network is told of and ``gt_previous_center`` (P, 1, 3), in input pixels, and
    ``gt_track_ids`` (P,). Testing gives the picture as it is: the
    model letterboxes. Both keep ``file_name``, ``image_id``, ``height`` and ``width``, and what else the record has.
    """

    @configurable
    def __init__(
        self,
        *,
        is_train: bool,
        augmentations: list[Augmentation],
        image_format: str = "BGR",
        keypoint_hflip_indices: np.ndarray | None = None,
        box_from_keypoints: str = "never",
        boxes_3d: bool = False,
        previous_frames: PreviousFrames | None = None,
        reduced_decoding: bool = False,
    ) -> None:
        """
        Args:
            augmentations: used in training only; the first is expected to give the network's input size.
            keypoint_hflip_indices: (K,) which keypoint each becomes in a mirrored picture; None leaves keypoints out.
            box_from_keypoints: "never", "rotated" (where the picture was) or "always": an object's box becomes that of
                its labelled keypoints, those outside the input included, before it is cut to the input. Objects whose
                labelled keypoints span no area keep their own.
            boxes_3d: the objects get the fields of ``data.boxes3d``, and ignored regions are among them.
            previous_frames: training records have "previous", the frame before (``data.previous_frame``).
            reduced_decoding: JPEG files that the warp makes smaller by 2, 4 or 8 at least are decoded so much smaller;
                for records with their height and width, where ``RandomAffine`` comes first.

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
        self.keypoint_hflip_indices = keypoint_hflip_indices
        self.box_from_keypoints = box_from_keypoints
        self.boxes_3d = boxes_3d
        self.previous_frames = previous_frames
        self.reduced_decoding = reduced_decoding and isinstance(next(iter(augmentations), None), RandomAffine)

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        augmentations: list[Augmentation] = []
        flip_indices = None
        if is_train:
            augmentations = build_augmentations(cfg)
            if cfg.MODEL.KEYPOINT_ON:
                flip_indices = np.asarray(create_keypoint_hflip_indices(cfg.DATASETS.TRAIN))
        return {
            "is_train": is_train,
            "augmentations": augmentations,
            "image_format": cfg.INPUT.FORMAT,
            "keypoint_hflip_indices": flip_indices,
            "box_from_keypoints": cfg.INPUT.BOX_FROM_KEYPOINTS,
            "boxes_3d": cfg.MODEL.BOX3D_ON,
            "previous_frames": PreviousFrames.from_config(cfg) if cfg.MODEL.TRACKING_ON else None,
            "reduced_decoding": cfg.INPUT.REDUCED_DECODING,
        }

    def __call__(self, record: Record) -> dict[str, Any]:
        """
        Raises:
            BrokenImageError: the picture cannot be used (``centernet_d2.data.reading``).
            ValueError: an annotation lacks what is asked for.
        """
        result = {key: value for key, value in record.items() if key not in ("annotations", "previous")}
        if self.is_train:
            image, transforms, size = self._augmented(record)
        else:
            image = read_image(record, self.image_format)
            size = image.shape[:2]
        result["height"], result["width"] = size
        if self.is_train:
            result["instances"] = self._instances({**record, **result}, transforms, image.shape[:2])
            if self.previous_frames is not None:
                result |= self._previous(record["previous"], transforms, result["instances"])
        result["image"] = _channels_first(image)
        return result

    def _augmented(self, record: Record) -> tuple[np.ndarray, TransformList, tuple[int, int]]:
        """The picture as the network gets it, what was done to it, and its own (height, width)."""
        if not (self.reduced_decoding and "crop" not in record and record.get("height") and record.get("width")):
            seen = AugInput(read_image(record, self.image_format))
            size = seen.image.shape[:2]
            transforms = self.augmentations(seen)
        else:
            first, *rest = self.augmentations.augs
            size = record["height"], record["width"]
            affine = first.draw(size)
            seen = AugInput(self._warped(record, affine))
            transforms = TransformList([affine]) + AugmentationList(rest)(seen)
        return seen.image, transforms, size

    def _warped(self, record: Record, affine: AffineTransform) -> np.ndarray:
        image, reduction = read_reduced(record, self.image_format, affine.reduction())
        return affine.of_reduced(reduction).apply_image(image)

    def _previous(self, record: Record, transforms: TransformList, instances: Instances) -> dict[str, Any]:
        assert self.previous_frames is not None
        transforms = self.previous_frames.transforms(transforms)
        if self.reduced_decoding:
            affine, *rest = transforms.transforms
            image = TransformList(rest).apply_image(self._warped(record, affine))
        else:
            image = transforms.apply_image(read_image(record, self.image_format))
        before = self._instances(record, transforms, image.shape[:2])
        instances.gt_previous_center = Keypoints(previous_centers(instances.gt_track_ids, before))
        shown = self.previous_frames.shown(before.gt_boxes.tensor)
        return {"previous_image": _channels_first(image), "previous_boxes": shown}

    def _instances(self, record: Record, transforms: TransformList, image_size: tuple[int, int]) -> Instances:
        annotations = [a for a in record.get("annotations", []) if not a.get("iscrowd", 0)]
        if self.boxes_3d:
            annotations += ignored_regions(record)
        source = corner_boxes(annotations)
        warped = transforms.apply_box(source)
        if self.box_from_keypoints == "always" or (
            self.box_from_keypoints == "rotated" and any(transform.rotates for transform in affine_parts(transforms))
        ):
            warped = keypoint_boxes(annotations, transforms, warped)
        boxes = warped.astype(np.float32).clip(0, np.tile(image_size[::-1], 2).astype(np.float32))
        # A box turned inside out must be judged before the warp, which orders its corners.
        keep = torch.from_numpy(((boxes[:, 2:] > boxes[:, :2]) & (source[:, 2:] > source[:, :2])).all(axis=1))
        instances = Instances(image_size)
        instances.gt_boxes = Boxes(torch.from_numpy(boxes)[keep])
        instances.gt_classes = torch.tensor([a["category_id"] for a in annotations], dtype=torch.int64)[keep]
        if self.keypoint_hflip_indices is not None:
            keypoints = self._keypoints(annotations, transforms, image_size)
            instances.gt_keypoints = Keypoints(torch.from_numpy(keypoints).float()[keep])
        if self.boxes_3d:
            for name, values in object_fields(record, annotations, transforms).items():
                instances.set(name, values[keep])
        if self.previous_frames is not None:
            instances.gt_track_ids = track_ids(annotations)[keep]
        return instances

    def _keypoints(
        self, annotations: list[dict[str, Any]], transforms: TransformList, image_size: tuple[int, int]
    ) -> np.ndarray:
        """(P, K, 3); points outside the input, and those of objects without any, get visibility 0."""
        indices = self.keypoint_hflip_indices
        assert indices is not None
        unlabelled = np.zeros((len(indices), 3))
        points = [np.asarray(a.get("keypoints", unlabelled), dtype=np.float64).reshape(-1, 3) for a in annotations]
        result = np.stack(points) if points else np.zeros((0, len(indices), 3))
        result[:, :, :2] = transforms.apply_coords(result[:, :, :2].reshape(-1, 2)).reshape(len(result), -1, 2)
        inside = (result[:, :, :2] >= 0) & (result[:, :, :2] <= np.array(image_size[::-1]))
        result[:, :, 2] *= inside.all(axis=2)
        if any(transform.mirrors for transform in affine_parts(transforms)):
            result = result[:, indices]
        return result


def _channels_first(image: np.ndarray) -> torch.Tensor:
    """(H, W, 3) to (3, H, W), contiguous."""
    result = np.empty((image.shape[2], *image.shape[:2]), image.dtype)
    cv2.split(image, list(result))  # several times as fast as a transposed copy
    return torch.from_numpy(result)


def corner_boxes(annotations: list[dict[str, Any]]) -> np.ndarray:
    """(P, 4) float64 x1, y1, x2, y2 of a record's objects, in picture pixels.

    Raises:
        ValueError: a ``bbox_mode`` other than XYXY_ABS and XYWH_ABS.
    """
    boxes = np.array([annotation["bbox"] for annotation in annotations], dtype=np.float64).reshape(-1, 4)
    modes = np.array([annotation["bbox_mode"] for annotation in annotations], dtype=np.int64)
    if not ((modes == BoxMode.XYXY_ABS) | (modes == BoxMode.XYWH_ABS)).all():
        raise ValueError(f"bbox_mode must be XYXY_ABS or XYWH_ABS, not {[BoxMode(mode).name for mode in modes]}")
    boxes[:, 2:] += boxes[:, :2] * (modes == BoxMode.XYWH_ABS)[:, None]
    return boxes


def keypoint_boxes(annotations: list[dict[str, Any]], transforms: TransformList, boxes: np.ndarray) -> np.ndarray:
    """(P, 4) x1, y1, x2, y2 around the labelled keypoints after the warp; of ``boxes`` where these span no area."""
    result = boxes.copy()
    for box, annotation in zip(result, annotations, strict=True):
        points = np.asarray(annotation.get("keypoints", []), dtype=np.float64).reshape(-1, 3)
        labelled = transforms.apply_coords(points[points[:, 2] > 0, :2])
        if len(labelled) and (np.ptp(labelled, axis=0) > 0).all():
            box[:] = [*labelled.min(axis=0), *labelled.max(axis=0)]
    return result


def build_augmentations(cfg: CfgNode) -> list[Augmentation]:
    """Those of ``INPUT.AFFINE``, ``OCCLUSION``, ``BLUR``, ``COLOR`` and ``PHOTOMETRIC``, in this order."""
    affine, occlusion, blur, color = cfg.INPUT.AFFINE, cfg.INPUT.OCCLUSION, cfg.INPUT.BLUR, cfg.INPUT.COLOR
    augmentations: list[Augmentation] = [
        RandomAffine(
            tuple(cfg.INPUT.SIZE_TRAIN),
            mode=affine.MODE,
            prob=affine.PROB,
            scales=affine.SCALES,
            border=affine.BORDER,
            shift=affine.SHIFT,
            scale=affine.SCALE,
            flip_prob=affine.FLIP_PROB,
            rotation_prob=affine.ROTATION_PROB,
            rotation=affine.ROTATION,
            shear=affine.SHEAR,
            stretch=affine.STRETCH,
            keep_resolution_prob=affine.KEEP_RESOLUTION_PROB,
            keep_resolution_max=affine.KEEP_RESOLUTION_MAX,
            pixel_center=cfg.MODEL.CENTERNET.PIXEL_CENTER,
            fit_width=cfg.INPUT.FIT_WIDTH,
        )
    ]
    if occlusion.PROB > 0:
        augmentations.append(RandomOcclusion(occlusion.PROB, occlusion.MAX_PATCHES, occlusion.MAX_SIZE))
    if blur.PROB > 0:
        augmentations.append(RandomBlur(blur.PROB, blur.MAX_SIZE))
    if color.JITTER > 0 or color.LIGHTING > 0:
        augmentations.append(RandomColor(color.JITTER, color.LIGHTING, cfg.INPUT.FORMAT))
    return augmentations + build_photometric(cfg.INPUT.PHOTOMETRIC, cfg.INPUT.FORMAT)
