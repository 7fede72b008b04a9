"""Mosaic, mixup and copy-paste: training samples made of several images."""

# Random numbers come from NumPy's global state, which the loader seeds for each image.
# ruff: noqa: NPY002

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances, Keypoints, pairwise_ioa, pairwise_iou

from centernet_d2.data.image_io import DatasetDict
from centernet_d2.data.samplers import Mapper, Sample
from centernet_d2.registry import get_required_fields

# Fields of points and of what no place changes. The others belong to the camera or to the video of one image.
_FIELDS = {"keypoints", "extreme_points", "contour", "corners", "crowd"}


class MixingMapper:
    """A mapper that sometimes adds other images of the training set.

    Mosaic (Bochkovskiy et al. 2020, "YOLOv4", section 3.3): four images fill the quarters of the input, each warped
    once, to a quarter's size. Mixup (Zhang et al. 2018; for detection Zhang et al. 2019, "Bag of Freebies for Training
    Object Detection"): the mean of two images of the input's size, with the objects of both. Copy-paste (Ghiasi et al.
    2021): objects of another image are put in front, see :func:`paste_objects`.

    Args:
        mapper: maps an image to the input's size (H, W).
        quarter_mapper: maps an image to (H / 2, W / 2).
        dataset_dicts: what the other images are drawn from.
        mosaic_prob, mixup_prob, paste_prob: probabilities of each; they may meet: objects are pasted into the mosaic,
            then the mean is taken.
    """

    def __init__(
        self,
        mapper: Mapper,
        quarter_mapper: Mapper,
        dataset_dicts: Sequence[DatasetDict],
        mosaic_prob: float,
        mixup_prob: float,
        paste_prob: float,
    ) -> None:
        self.mapper, self.quarter_mapper, self.dataset_dicts = mapper, quarter_mapper, dataset_dicts
        self.probabilities = (mosaic_prob, mixup_prob, paste_prob)

    def __call__(self, dataset_dict: DatasetDict) -> Sample:
        """Return a sample of ``dataset_dict``, with further objects where images were added.

        Raises:
            CorruptImageError: one of the images cannot be used.
        """
        mosaic, mixup, paste = np.random.random(3) < self.probabilities
        if mosaic:
            others = [self.quarter_mapper(self._draw()) for _ in range(3)]
            sample = join_quarters([self.quarter_mapper(dataset_dict), *others])
        else:
            sample = self.mapper(dataset_dict)
        if paste:
            sample = paste_objects(sample, self.mapper(self._draw()))
        return average_samples(sample, self.mapper(self._draw())) if mixup else sample

    def _draw(self) -> DatasetDict:
        return self.dataset_dicts[np.random.randint(len(self.dataset_dicts))]


def join_quarters(samples: Sequence[Sample]) -> Sample:
    """Return one sample of four of equal size, upper left, upper right, lower left, lower right.

    Objects move with their images; other entries are the first one's.
    """
    images = [sample["image"] for sample in samples]
    image = torch.cat([torch.cat(images[:2], dim=2), torch.cat(images[2:], dim=2)], dim=1)
    height, width = images[0].shape[-2:]
    places = [(0, 0), (width, 0), (0, height), (width, height)]
    size = (2 * height, 2 * width)
    moved = [move_instances(sample["instances"], *xy, size) for sample, xy in zip(samples, places, strict=True)]
    return {**samples[0], "image": image, "instances": Instances.cat(moved)}


def average_samples(first: Sample, second: Sample) -> Sample:
    """Return one sample of two of equal size: the mean of the images, and the objects of both."""
    image = ((first["image"].int() + second["image"].int() + 1) // 2).to(first["image"].dtype)
    return {**first, "image": image, "instances": Instances.cat([first["instances"], second["instances"]])}


def paste_objects(sample: Sample, other: Sample) -> Sample:
    """Return ``sample`` with objects of ``other``, of equal size, in front of it; each with probability 1/2.

    An object is left out where it would hide more than 0.3 of the box of another, and where ``gt_contour`` is not its
    mask: it has several parts, or none is known (the contour is then the box).
    """
    image, objects = sample["image"].clone(), sample["instances"]
    boxes, contours = (
        other["instances"].gt_boxes.tensor,
        other["instances"].gt_contour.tensor[..., :2].contiguous().numpy(),
    )
    for i in np.nonzero(np.random.random(len(boxes)) < 0.5)[0]:
        box, contour = boxes[i : i + 1], contours[i]
        extent = torch.from_numpy(np.concatenate([contour.min(axis=0), contour.max(axis=0)]))[None]
        area = cv2.contourArea(contour)
        if not (pairwise_iou(Boxes(extent), Boxes(box)) > 0.9 and 0 < area < 0.97 * float(Boxes(box).area())):
            continue
        if (pairwise_ioa(Boxes(box), objects.gt_boxes) > 0.3).any():
            continue
        mask = np.zeros(image.shape[-2:], np.uint8)
        # cv2's integer coordinates are pixel centers; here these lie at halves.
        cv2.fillPoly(mask, [np.round(contour - 0.5).astype(np.int32)], 1)
        image = torch.where(torch.from_numpy(mask > 0), other["image"], image)
        objects = Instances.cat([objects, other["instances"][int(i)]])
    return {**sample, "image": image, "instances": objects}


def move_instances(instances: Instances, x: int, y: int, size: tuple[int, int]) -> Instances:
    """Return the objects moved by whole pixels, in an image of another (height, width)."""
    moved = Instances(size)
    for name, values in instances.get_fields().items():
        if isinstance(values, Boxes):
            values = Boxes(values.tensor + torch.tensor([x, y, x, y], dtype=values.tensor.dtype))
        elif isinstance(values, Keypoints):
            values = Keypoints(values.tensor + torch.tensor([x, y, 0], dtype=values.tensor.dtype))
        moved.set(name, values)
    return moved


def is_mixing(cfg: CfgNode) -> bool:
    """Return whether mosaic, mixup or copy-paste is on."""
    return any(node.PROB for node in (cfg.INPUT.MOSAIC, cfg.INPUT.MIXUP, cfg.INPUT.COPY_PASTE))


def build_mixing_mapper(
    cfg: CfgNode, mapper: Mapper, mapper_class: Callable[[CfgNode], Mapper], dataset_dicts: Sequence[DatasetDict]
) -> MixingMapper:
    """Build the mapper of ``INPUT.MOSAIC``, ``INPUT.MIXUP`` and ``INPUT.COPY_PASTE``.

    Args:
        mapper: of single images, to the whole input.
        mapper_class: called with a config, gives that of quarters.

    Raises:
        ValueError: they cannot be used with the task, or with images that have sizes of their own.
    """
    mosaic, mixup, paste = cfg.INPUT.MOSAIC, cfg.INPUT.MIXUP, cfg.INPUT.COPY_PASTE
    other = sorted(set(get_required_fields(cfg)) - _FIELDS)
    if other:
        needed = ", ".join(other)
        raise ValueError(
            f"INPUT.MOSAIC, MIXUP and COPY_PASTE cannot be used with a task that needs {needed}: set PROB 0"
        )
    if cfg.INPUT.AFFINE.MODE == "short_side" or cfg.INPUT.AFFINE.KEEP_RESOLUTION_PROB:
        raise ValueError(
            "INPUT.MOSAIC, MIXUP and COPY_PASTE need inputs of one size: INPUT.AFFINE.MODE and KEEP_RESOLUTION_PROB"
        )
    quarter = cfg.clone()
    quarter.defrost()
    quarter.INPUT.SIZE_TRAIN = [side // 2 for side in cfg.INPUT.SIZE_TRAIN]
    quarter.INPUT.AFFINE.SCALES = mosaic.SCALES
    return MixingMapper(mapper, mapper_class(quarter), dataset_dicts, mosaic.PROB, mixup.PROB, paste.PROB)
