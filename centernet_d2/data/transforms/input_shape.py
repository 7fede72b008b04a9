"""The shape of the network's input, taken from the training images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from detectron2.config import CfgNode

from centernet_d2.data.catalog import load_dataset_dicts

# Sides are multiples of this, which suits all backbones of strides up to 32.
_STEP = 32
# More area costs time; less than this gain in covered area is none.
_MAX_GROWTH, _MIN_GAIN = 1.05, 1.05


def match_aspect(cfg: CfgNode) -> None:
    """Give ``INPUT.SIZE_TRAIN`` and ``SIZE_TEST`` the shape of the images of ``DATASETS.TRAIN`` where
    ``INPUT.MATCH_ASPECT`` says so, and turn that off: a saved config keeps its sizes. Nothing changes where the files
    are absent.
    """
    if not cfg.INPUT.MATCH_ASPECT or not cfg.DATASETS.TRAIN:
        return
    try:
        images = [image for name in cfg.DATASETS.TRAIN for image in load_dataset_dicts(name)]
    except (FileNotFoundError, KeyError):
        return
    aspects = [image["width"] / image["height"] for image in images if image.get("height") and image.get("width")]
    if aspects:
        cfg.INPUT.MATCH_ASPECT = False
        for key in ("SIZE_TRAIN", "SIZE_TEST"):
            cfg.INPUT[key] = list(choose_input_size(cfg.INPUT[key], aspects))


def choose_input_size(size: Sequence[int], aspects: Sequence[float]) -> tuple[int, int]:
    """Return the (height, width) of about the area of ``size`` of which letterboxed images cover most.

    Args:
        size: height, width; returned as it is where no other one is better.
        aspects: width divided by height of each image.

    Returns:
        Other than ``size``: multiples of 32, with an area of at most 1.05 times its own.
    """
    height, width = size
    area, images = height * width, np.asarray(aspects)
    sides = range(_STEP, area // _STEP + 1, _STEP)
    candidates = [(high, wide) for high in sides for wide in sides if high * wide <= _MAX_GROWTH * area]

    def cover(candidate: tuple[int, int]) -> float:
        ratio = images * candidate[0] / candidate[1]
        return float(np.minimum(ratio, 1 / ratio).mean()) * candidate[0] * candidate[1]

    best = max(candidates, key=cover)
    return best if cover(best) > _MIN_GAIN * cover((height, width)) else (height, width)
