"""Base of transforms that change pixels and move nothing."""

from __future__ import annotations

import numpy as np
from fvcore.transforms.transform import NoOpTransform, Transform


class PixelTransform(Transform):
    """Changes values and moves nothing; what was there before is lost, so the way back leaves all as it is."""

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return segmentation

    def inverse(self) -> Transform:
        return NoOpTransform()


def _check_probability(key: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{key} must be in [0, 1], not {value}")
