"""Random erasing: patches over the image."""

# Detectron2's augmentations draw from NumPy's global state, which the loader seeds for each image.
# ruff: noqa: NPY002

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from detectron2.data.transforms import Augmentation
from fvcore.transforms.transform import NoOpTransform, Transform

from centernet_d2.data.transforms.pixel import PixelTransform, _check_probability

_MIN_PATCH = 0.3  # of the largest side


class PatchTransform(PixelTransform):
    """Lay small images over an image."""

    def __init__(self, patches: Sequence[tuple[int, int, np.ndarray]]) -> None:
        """
        Args:
            patches: column and row of the left upper corner, and (h, w, 3) uint8 that fits into the image there.
        """
        super().__init__()
        self.patches = patches

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """Return a copy of (H, W, 3) uint8 with the patches."""
        result = img.copy()
        for left, top, patch in self.patches:
            result[top : top + patch.shape[0], left : left + patch.shape[1]] = patch
        return result


class RandomErasing(Augmentation):
    """Rectangles of one color, of noise, or of another part of the image."""

    def __init__(self, prob: float = 0.5, max_patches: int = 2, max_size: float = 0.3) -> None:
        """
        Args:
            prob: of any patch at all; then 1 .. ``max_patches``, equally likely.
            max_size: longest side as a fraction of the image's shorter side.

        Raises:
            ValueError: a value out of range.
        """
        super().__init__()
        _check_probability("INPUT.RANDOM_ERASING.PROB", prob)
        if max_patches < 1:
            raise ValueError(f"INPUT.RANDOM_ERASING.MAX_PATCHES must be at least 1, not {max_patches}")
        if not 0 < max_size <= 1:
            raise ValueError(f"INPUT.RANDOM_ERASING.MAX_SIZE must be in (0, 1], not {max_size}")
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        if np.random.rand() >= self.prob:
            return NoOpTransform()
        return PatchTransform([self._make_patch(image) for _ in range(np.random.randint(self.max_patches) + 1)])

    def _make_patch(self, image: np.ndarray) -> tuple[int, int, np.ndarray]:
        height, width = image.shape[:2]
        sides = np.random.uniform(_MIN_PATCH, 1, size=2) * self.max_size * min(height, width)
        rows, columns = np.maximum(np.rint(sides).astype(int), 1)
        (top, from_top), (left, from_left) = np.random.randint(
            0, [height - rows + 1, width - columns + 1], size=(2, 2)
        ).T.tolist()
        kind = np.random.randint(3)
        if kind == 0:
            patch = np.empty((rows, columns, 3), np.uint8)
            patch[:] = np.random.randint(0, 256, size=3)
        elif kind == 1:
            patch = np.random.randint(0, 256, size=(rows, columns, 3), dtype=np.uint8)
        else:
            patch = image[from_top : from_top + rows, from_left : from_left + columns].copy()
        return left, top, patch
