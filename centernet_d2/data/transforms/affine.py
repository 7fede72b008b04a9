"""Random geometry and color: one affine map of the plane and one affine map of color for each image.

The distributions are those of the CenterNet paper's training code (Objects as Points, section 5).
"""

# Detectron2's augmentations draw from NumPy's global state, which the loader seeds for each image.
# ruff: noqa: NPY002

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from detectron2.data.transforms import Augmentation, TransformList
from fvcore.transforms.transform import Transform

from centernet_d2.geometry import (
    affine_matrix,
    fitting_scale,
    flip_matrix,
    inverse,
    letterbox_matrix,
    reduced_matrix,
    transform_points,
    warp_image,
)


class AffineTransform(Transform):
    """Resample an image once by an affine map; coordinates go through the same map."""

    def __init__(self, matrix: np.ndarray, output_size: tuple[int, int], pixel_center: float = 0.5) -> None:
        """
        Args:
            matrix: (2, 3), continuous image coordinates to continuous output coordinates.
            output_size: (height, width).
            pixel_center: where a pixel's center lies in its coordinates (``centernet_d2.geometry``).
        """
        super().__init__()
        self.matrix = np.asarray(matrix, dtype=np.float64)
        self.output_size = output_size
        self.pixel_center = pixel_center
        self._input_size: tuple[int, int] | None = None

    @property
    def flips(self) -> bool:
        """Whether left and right of an object are exchanged."""
        return bool(np.linalg.det(self.matrix[:, :2]) < 0)

    @property
    def rotates(self) -> bool:
        """Whether a box's sides do not stay level."""
        return bool(self.matrix[0, 1] != 0 or self.matrix[1, 0] != 0)

    def is_letterbox(self, image_size: tuple[int, int]) -> bool:
        """Whether an image of ``image_size`` (height, width) is seen as in prediction, or as its flipped image.

        It is, fitted in wholly or by its width: that one is the other by chance does not happen.
        """
        matrix = flip_matrix(self.matrix, self.output_size[1]) if self.flips else self.matrix
        fitted = (fitting_scale(image_size, self.output_size, by_width) for by_width in (False, True))
        return any(np.allclose(matrix, letterbox_matrix(image_size, self.output_size, scale)) for scale in fitted)

    def reduction(self) -> int:
        """The largest of 1, 2, 4 and 8 by which images can be made smaller before, and still not be enlarged."""
        largest = np.linalg.norm(self.matrix[:, :2], ord=2)  # output pixels of one image pixel, in any direction
        return next((factor for factor in (8, 4, 2) if factor * largest <= 1 + 1e-9), 1)

    def for_reduced(self, reduction: int) -> AffineTransform:
        """The same for images of which each pixel stands for ``reduction`` x ``reduction`` of the whole one."""
        matrix = reduced_matrix(self.matrix, reduction, self.pixel_center)
        return AffineTransform(matrix, self.output_size, self.pixel_center)

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 to (h, w, 3) uint8, black where the image does not reach."""
        self._input_size = img.shape[:2]
        return warp_image(img, self.matrix, self.output_size, self.pixel_center)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """(N, 2) x, y."""
        return transform_points(coords, self.matrix)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        raise NotImplementedError("label maps are not warped: bilinear resampling would mix labels")

    def inverse(self) -> Transform:
        """The way back, to the size of the image that was warped last (the output's own size before that)."""
        return AffineTransform(inverse(self.matrix), self._input_size or self.output_size, self.pixel_center)


def affine_parts(transforms: TransformList) -> list[AffineTransform]:
    """Those of ``transforms`` that move pixels."""
    return [transform for transform in transforms.transforms if isinstance(transform, AffineTransform)]


class RandomAffine(Augmentation):
    """Crop, scale, shift, rotate, shear, stretch and flip in one resampling; sizes and shifts in image pixels."""

    def __init__(
        self,
        output_size: tuple[int, int],
        *,
        mode: str = "crop",
        prob: float = 1.0,
        scales: Sequence[float] = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3),
        border: int = 128,
        shift: float = 0.1,
        scale: float = 0.4,
        flip_prob: float = 0.5,
        rotation_prob: float = 0.0,
        rotation: float = 0.0,
        shear: float = 0.0,
        aspect_jitter: float = 1.0,
        keep_resolution_prob: float = 0.0,
        keep_resolution_max: int = 1024,
        pixel_center: float = 0.5,
        fit_width: bool = False,
    ) -> None:
        """
        Args:
            output_size: (height, width) of the network input.
            mode: "crop" (a window of ``scales`` times the fitted size, its center at least ``border`` pixels inside),
                "shift" (Gaussian of standard deviation ``shift`` and ``scale`` around the center), "none" (letterbox).
            prob: that ``mode`` is applied; else the image is letterboxed.
            rotation: standard deviation in degrees.
            shear: largest lean of what was upright, degrees to either side; uniform.
            stretch: largest factor by which width divided by height becomes more or less, at the same area; its
                logarithm is uniform. 1: none.
            keep_resolution_prob: that an image is neither scaled nor shifted and the output has its size; the model
                pads a batch to its largest. Flipping and rotation (around the center) stay.
            keep_resolution_max: pixels; not for images with a longer side.
            fit_width: images are fitted by their width alone (``geometry.fitting_scale``).
        """
        super().__init__()
        for key, value, fits, wanted in [
            ("MODE", mode, mode in ("crop", "shift", "none"), '"crop", "shift" or "none"'),
            ("SCALES", list(scales), mode != "crop" or min(scales, default=0) > 0, "positive numbers"),
            ("SCALE", scale, mode != "shift" or 0 <= scale < 1, "in [0, 1)"),
            ("PROB", prob, 0 <= prob <= 1, "in [0, 1]"),
            ("SHEAR", shear, 0 <= shear < 90, "in [0, 90)"),
            ("ASPECT_JITTER", aspect_jitter, 1 <= aspect_jitter < math.inf, "at least 1"),
            ("KEEP_RESOLUTION_PROB", keep_resolution_prob, 0 <= keep_resolution_prob <= 1, "in [0, 1]"),
        ]:
            if not fits:
                raise ValueError(f"INPUT.AFFINE.{key} must be {wanted}, not {value!r}")
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> AffineTransform:
        return self.draw(image.shape[:2])

    def draw(self, image_size: tuple[int, int]) -> AffineTransform:
        """The transform of an image of ``image_size`` (height, width), whatever it shows."""
        height, width = image_size
        angle = 0.0
        if np.random.rand() < self.rotation_prob:
            angle = float(np.clip(np.random.randn(), -2, 2) * self.rotation)
        flip = bool(np.random.rand() < self.flip_prob)
        keep = self._keeps_resolution(height, width)
        size = (height, width) if keep else self.output_size
        # Nothing is drawn where it is always applied, so that seeded runs stay the same.
        mode = self.mode if self.prob == 1 or np.random.rand() < self.prob else "none"
        fitted = fitting_scale((height, width), size, self.fit_width)
        if (keep or mode == "none") and angle == 0:
            center, matrix = (width / 2, height / 2), letterbox_matrix((height, width), size, fitted)
        else:
            center, zoom = ((width / 2, height / 2), 1.0) if keep else self._window(mode, height, width)
            matrix = affine_matrix(center, fitted / zoom, angle, size)
        if self.shear > 0 or self.aspect_jitter > 1:
            matrix = _deform_about(matrix, center, self._deformation())
        if flip:
            matrix = flip_matrix(matrix, size[1])
        return AffineTransform(matrix, size, self.pixel_center)

    def _keeps_resolution(self, height: int, width: int) -> bool:
        # Nothing is drawn where it is switched off, so that seeded runs stay the same.
        possible = self.keep_resolution_prob > 0 and max(height, width) <= self.keep_resolution_max
        return possible and bool(np.random.rand() < self.keep_resolution_prob)

    def _deformation(self) -> np.ndarray:
        """(2, 2), determinant 1."""
        shear_angle = math.tan(math.radians(np.random.uniform(-self.shear, self.shear)))
        wider = self.aspect_jitter ** np.random.uniform(-0.5, 0.5)
        return np.array([[wider, shear_angle], [0, 1 / wider]])

    def _window(self, mode: str, height: int, width: int) -> tuple[tuple[float, float], float]:
        """Center (x, y) and size, relative to the fitted one, of the part of the plane that is seen."""
        if mode == "crop":
            left, top = _fitting_border(self.border, width), _fitting_border(self.border, height)
            center = np.random.uniform((left, top), (width - left, height - top))
            return (float(center[0]), float(center[1])), float(np.random.choice(self.scales))
        if mode == "shift":
            moved = max(height, width) * np.clip(np.random.randn(2) * self.shift, -2 * self.shift, 2 * self.shift)
            zoom = np.clip(1 + np.random.randn() * self.scale, 1 - self.scale, 1 + self.scale)
            return (float(width / 2 + moved[0]), float(height / 2 + moved[1])), float(zoom)
        return (width / 2, height / 2), 1.0


def _deform_about(matrix: np.ndarray, fixed: tuple[float, float], linear: np.ndarray) -> np.ndarray:
    """``linear`` (2, 2) around the image's point ``fixed`` (x, y), then ``matrix``."""
    shift = np.asarray(fixed) - linear @ fixed
    return np.column_stack([matrix[:, :2] @ linear, matrix[:, :2] @ shift + matrix[:, 2]])


def _fitting_border(border: int, size: int) -> int:
    """``border``, halved until a center between two such borders exists."""
    while size - border <= border:
        border //= 2
    return border
