"""Things in front of the object, and blur. Neither moves anything: boxes and keypoints stay as they are.

Keypoints under a patch keep their visibility, too. Where a hidden keypoint is can be guessed from the rest, learning to
guess is what the patches are for, and the datasets' own hidden keypoints count in training and scores likewise.
"""

# Detectron2's augmentations draw from NumPy's global state, which the loader seeds for each image.
# ruff: noqa: NPY002

from __future__ import annotations

import math

import cv2
import numpy as np
from detectron2.data.transforms import Augmentation
from fvcore.transforms.transform import NoOpTransform, Transform

from centernet_d2.data.transforms.pixel import PixelTransform, _check_probability


class FilterTransform(PixelTransform):
    """Blur with a kernel; the image's last pixels go on outside of it."""

    def __init__(self, kernel: np.ndarray) -> None:
        """
        Args:
            kernel: (k,) to be used along rows and columns, or (k, k); k odd, sum 1.
        """
        super().__init__()
        self.kernel = kernel

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """Blur (H, W, 3) uint8; the result has the same shape."""
        if self.kernel.ndim == 1:
            return cv2.sepFilter2D(img, -1, self.kernel, self.kernel, borderType=cv2.BORDER_REPLICATE)
        return cv2.filter2D(img, -1, self.kernel, borderType=cv2.BORDER_REPLICATE)


class RandomBlur(Augmentation):
    """Out of focus (Gaussian) or moved (a line in any direction), equally likely."""

    def __init__(self, prob: float = 0.5, max_size: float = 3.0) -> None:
        """
        Args:
            max_size: largest standard deviation, or length of the line, in pixels; uniform from 0 on.

        Raises:
            ValueError: a value out of range.
        """
        super().__init__()
        _check_probability("INPUT.BLUR.PROB", prob)
        if not 0 < max_size < math.inf:
            raise ValueError(f"INPUT.BLUR.MAX_SIZE must be a positive number, not {max_size}")
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        if np.random.rand() >= self.prob:
            return NoOpTransform()
        size = np.random.uniform(0, self.max_size)
        if np.random.rand() < 0.5:
            return FilterTransform(make_gaussian_kernel(size))
        return FilterTransform(make_motion_kernel(size, np.random.uniform(0, 180)))


def make_gaussian_kernel(deviation: float) -> np.ndarray:
    """Return (k,) float64, cut off at three standard deviations (pixels)."""
    reach = math.ceil(3 * deviation)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(deviation, 1e-6)) ** 2)
    return weights / weights.sum()


def make_motion_kernel(length: float, angle: float) -> np.ndarray:
    """Return (k, k) float64: a line of ``length`` pixels around the center, ``angle`` degrees from the x axis."""
    reach = math.ceil(length / 2) + 1
    along = np.linspace(-0.5, 0.5, 8 * reach + 1) * length
    direction = np.array([math.cos(math.radians(angle)), math.sin(math.radians(angle))])
    cells = np.arange(-reach, reach + 1)
    # Each point of the line gives to the four cells around it, as in bilinear interpolation.
    x, y = (np.maximum(0, 1 - np.abs(along[:, None] * part - cells)) for part in direction)
    return (y.T @ x) / len(along)
