"""The augmentations of a config."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.data.transforms import Augmentation

from centernet_d2.data.transforms.affine import RandomAffine
from centernet_d2.data.transforms.blur import RandomBlur
from centernet_d2.data.transforms.color import RandomColor
from centernet_d2.data.transforms.erasing import RandomErasing
from centernet_d2.data.transforms.photometric import build_photometric


def build_augmentations(cfg: CfgNode) -> list[Augmentation]:
    """Build the augmentations of ``INPUT.AFFINE``, ``RANDOM_ERASING``, ``BLUR``, ``COLOR`` and ``PHOTOMETRIC``, in this
    order."""
    affine, occlusion, blur, color = cfg.INPUT.AFFINE, cfg.INPUT.RANDOM_ERASING, cfg.INPUT.BLUR, cfg.INPUT.COLOR
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
            aspect_jitter=affine.ASPECT_JITTER,
            keep_resolution_prob=affine.KEEP_RESOLUTION_PROB,
            keep_resolution_max=affine.KEEP_RESOLUTION_MAX,
            pixel_center=cfg.MODEL.CENTERNET.PIXEL_CENTER,
            fit_width=cfg.INPUT.FIT_WIDTH,
        )
    ]
    if occlusion.PROB > 0:
        augmentations.append(RandomErasing(occlusion.PROB, occlusion.MAX_PATCHES, occlusion.MAX_SIZE))
    if blur.PROB > 0:
        augmentations.append(RandomBlur(blur.PROB, blur.MAX_SIZE))
    if color.JITTER > 0 or color.LIGHTING > 0:
        augmentations.append(RandomColor(color.JITTER, color.LIGHTING, cfg.INPUT.FORMAT))
    return augmentations + build_photometric(cfg.INPUT.PHOTOMETRIC, cfg.INPUT.FORMAT)
