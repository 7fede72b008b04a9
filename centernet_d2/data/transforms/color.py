"""Color jitter and lighting noise."""

# Detectron2's augmentations draw from NumPy's global state, which the loader seeds for each image.
# ruff: noqa: NPY002

from __future__ import annotations

import cv2
import numpy as np
from detectron2.data.transforms import Augmentation
from fvcore.transforms.transform import Transform

from centernet_d2.data.transforms.pixel import PixelTransform

# Shares of blue, green and red in gray (ITU-R BT.601).
_GRAY = np.array([0.114, 0.587, 0.299])
# Standard deviations and (columns) directions of the principal components of COCO's colors in 0..1, BGR.
_EIGENVALUES = np.array([0.2141788, 0.01817699, 0.00341571])
_EIGENVECTORS = np.array(
    [
        [-0.58752847, -0.69563484, 0.41340352],
        [-0.5832747, 0.00994535, -0.81221408],
        [-0.56089297, 0.71832671, 0.41158938],
    ]
)


class ColorTransform(PixelTransform):
    """One affine map of color, rounded and saturated to 0..255."""

    def __init__(self, matrix: np.ndarray) -> None:
        """
        Args:
            matrix: (3, 4) from the image's channels (0..255) and 1 to new channels.
        """
        super().__init__()
        self.matrix = np.asarray(matrix, dtype=np.float64)

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """Change the colors of (H, W, 3) uint8; the result has the same shape."""
        return cv2.transform(img, self.matrix)


class RandomColor(Augmentation):
    """Brightness, contrast and saturation in random order, then noise along the principal components of color.

    The gray that contrast and saturation blend with is that of the image before any of them, as in the reference; so
    the whole is affine in the image's colors and is applied once, without rounding in between.
    """

    def __init__(self, jitter: float = 0.4, lighting: float = 0.1, format: str = "BGR") -> None:
        """
        Args:
            jitter: each of the three factors is uniform in 1 - jitter .. 1 + jitter.
            lighting: standard deviation of the noise, in units of the components' eigenvalues.
            format: "BGR" or "RGB", the order of the image's channels.
        """
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        flipped = slice(None, None, -1) if self.format == "RGB" else slice(None)
        mean = float(np.dot(_GRAY[flipped], cv2.mean(image)[:3]))
        matrix = np.eye(3, 4)
        for kind in np.random.permutation(3):
            factor = 1 + np.random.uniform(-self.jitter, self.jitter)
            matrix *= factor
            if kind == 1:
                matrix[:, 3] += (1 - factor) * mean
            elif kind == 2:
                matrix[:, :3] += (1 - factor) * _GRAY[flipped]
        noise = np.random.normal(0.0, 1.0, 3) * self.lighting
        matrix[:, 3] += 255 * (_EIGENVECTORS[flipped] @ (_EIGENVALUES * noise))
        return ColorTransform(matrix)
