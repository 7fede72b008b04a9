"""Random crop, scale, shift, rotation, shear and flip, as one affine map and one resampling.

The distributions are those of the CenterNet paper's training code (Objects as Points, section 5).
"""

# Detectron2's augmentations sample from NumPy's global state, which the loader seeds for each image.
# ruff: noqa: NPY002

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from detectron2.data.transforms import Augmentation, TransformList
from fvcore.transforms.transform import Transform

from centernet_d2.geometry import (
    build_affine_matrix,
    build_letterbox_matrix,
    compute_fitting_scale,
    compute_short_side_scale,
    flip_matrix,
    invert_matrix,
    reduce_matrix,
    transform_points,
    warp_image,
)


class AffineTransform(Transform):
    """Resample an image once by an affine map; coordinates go through the same map."""

    def __init__(
        self,
        matrix: np.ndarray,
        output_size: tuple[int, int],
        pixel_center: float = 0.5,
        letterboxed_size: tuple[int, int] | None = None,
    ) -> None:
        """
        Args:
            matrix: (2, 3), continuous image coordinates to continuous output coordinates.
            output_size: (height, width).
            pixel_center: where a pixel's center lies in its coordinates (``centernet_d2.geometry``).
            letterboxed_size: (height, width) of the images that this letterboxes or fits to the width, flipped or
                not; None for any other map.
        """
        super().__init__()
        self.matrix = np.asarray(matrix, dtype=np.float64)
        self.output_size = output_size
        self.pixel_center = pixel_center
        self.letterboxed_size = letterboxed_size
        self._input_size: tuple[int, int] | None = None

    @property
    def flips(self) -> bool:
        """Whether left and right are exchanged."""
        return bool(np.linalg.det(self.matrix[:, :2]) < 0)

    @property
    def rotates(self) -> bool:
        """Whether a box's sides do not stay level."""
        return bool(self.matrix[0, 1] != 0 or self.matrix[1, 0] != 0)

    def is_letterbox(self, image_size: tuple[int, int]) -> bool:
        """Return True if this is the letterbox (or fit-to-width) transform used in prediction, or its flip.

        Args:
            image_size: (height, width) of the image.
        """
        return self.letterboxed_size == tuple(image_size)

    def reduction(self) -> int:
        """Return the largest of 1, 2, 4 and 8 by which the image can be reduced first without being enlarged
        afterwards."""
        largest = np.linalg.norm(self.matrix[:, :2], ord=2)  # output pixels of one image pixel, in any direction
        return next((factor for factor in (8, 4, 2) if factor * largest <= 1 + 1e-9), 1)

    def adapt_to_reduced(self, reduction: int) -> AffineTransform:
        """Return the same map for an image that was decoded smaller by ``reduction``."""
        matrix = reduce_matrix(self.matrix, reduction, self.pixel_center)
        return AffineTransform(matrix, self.output_size, self.pixel_center)

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """Warp (H, W, 3) uint8 to (h, w, 3) uint8, black outside of the image."""
        self._input_size = img.shape[:2]
        return warp_image(img, self.matrix, self.output_size, self.pixel_center)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Transform (N, 2) x, y."""
        return transform_points(coords, self.matrix)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        raise NotImplementedError("label maps are not warped: bilinear resampling would mix labels")

    def inverse(self) -> Transform:
        """Return the inverse map, to the size of the last warped image (before any, to the output size)."""
        return AffineTransform(invert_matrix(self.matrix), self._input_size or self.output_size, self.pixel_center)


def select_affine(transforms: TransformList) -> list[AffineTransform]:
    """Return the affine transforms of a list; no other transform of the package moves pixels."""
    return [transform for transform in transforms.transforms if isinstance(transform, AffineTransform)]


#: How :class:`RandomAffine` chooses what of an image is visible.
MODES = ("crop", "shift", "none", "short_side")


class RandomAffine(Augmentation):
    """Crop, scale, shift, rotate, shear and flip in one resampling; sizes and shifts in image pixels."""

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
                "shift" (Gaussian of standard deviation ``shift`` and ``scale`` around the center), "none" (letterbox),
                "short_side" (the whole image, of a size of its own: ``output_size`` limits its shorter and longer side,
                both times a factor between the smallest and the largest of ``scales``).
            prob: probability of ``mode``; otherwise the image is letterboxed.
            rotation: standard deviation in degrees.
            shear: largest shear angle, degrees to either side; uniform.
            aspect_jitter: largest factor by which the aspect ratio changes, at the same area; its logarithm is
                uniform. 1: none.
            keep_resolution_prob: probability that an image is neither scaled nor shifted and the output has its size;
                the model pads a batch to its largest image. Flip and rotation (around the center) still apply.
            keep_resolution_max: pixels; not for images with a longer side.
            fit_width: fit images to the width alone (``geometry.compute_fitting_scale``).
        """
        super().__init__()
        for key, value, valid, wanted in [
            ("MODE", mode, mode in MODES, f"one of {MODES}"),
            (
                "SCALES",
                list(scales),
                mode not in ("crop", "short_side") or min(scales, default=0) > 0,
                "positive numbers",
            ),
            ("SCALE", scale, mode != "shift" or 0 <= scale < 1, "in [0, 1)"),
            ("PROB", prob, 0 <= prob <= 1, "in [0, 1]"),
            ("SHEAR", shear, 0 <= shear < 90, "in [0, 90)"),
            ("ASPECT_JITTER", aspect_jitter, 1 <= aspect_jitter < math.inf, "at least 1"),
            ("KEEP_RESOLUTION_PROB", keep_resolution_prob, 0 <= keep_resolution_prob <= 1, "in [0, 1]"),
        ]:
            if not valid:
                raise ValueError(f"INPUT.AFFINE.{key} must be {wanted}, not {value!r}")
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> AffineTransform:
        return self.sample_transform(image.shape[:2])

    def sample_transform(self, image_size: tuple[int, int]) -> AffineTransform:
        """Sample the transform of an image of ``image_size`` (height, width)."""
        height, width = image_size
        angle = 0.0
        if np.random.rand() < self.rotation_prob:
            angle = float(np.clip(np.random.randn(), -2, 2) * self.rotation)
        flip = bool(np.random.rand() < self.flip_prob)
        keep = self._sample_keep_resolution(height, width)
        size = (height, width) if keep else self._sample_size(height, width)
        # No random number is used where the mode always applies, so that seeded runs stay the same.
        mode = self.mode if self.prob == 1 or np.random.rand() < self.prob else "none"
        fitted = compute_fitting_scale((height, width), size, self.fit_width)
        letterbox = (keep or mode in ("none", "short_side")) and angle == 0
        if letterbox:
            center, matrix = (width / 2, height / 2), build_letterbox_matrix((height, width), size, fitted)
        else:
            center, zoom = ((width / 2, height / 2), 1.0) if keep else self._sample_window(mode, height, width)
            matrix = build_affine_matrix(center, fitted / zoom, angle, size)
        if self.shear > 0 or self.aspect_jitter > 1:
            letterbox, matrix = False, _deform_around(matrix, center, self._sample_deformation())
        if flip:
            matrix = flip_matrix(matrix, size[1])
        return AffineTransform(matrix, size, self.pixel_center, (height, width) if letterbox else None)

    def _sample_size(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) of the output."""
        if self.mode != "short_side":
            return self.output_size
        factor = float(np.random.uniform(min(self.scales), max(self.scales)))
        short, long = self.output_size
        scale = compute_short_side_scale((height, width), (short * factor, max(long, long * factor)))
        return round(height * scale), round(width * scale)

    def _sample_keep_resolution(self, height: int, width: int) -> bool:
        # No random number is used where it is switched off, so that seeded runs stay the same.
        possible = self.keep_resolution_prob > 0 and max(height, width) <= self.keep_resolution_max
        return possible and bool(np.random.rand() < self.keep_resolution_prob)

    def _sample_deformation(self) -> np.ndarray:
        """Return a matrix (2, 2) of determinant 1."""
        shear = math.tan(math.radians(np.random.uniform(-self.shear, self.shear)))
        wider = self.aspect_jitter ** np.random.uniform(-0.5, 0.5)
        return np.array([[wider, shear], [0, 1 / wider]])

    def _sample_window(self, mode: str, height: int, width: int) -> tuple[tuple[float, float], float]:
        """Return the center (x, y) of the visible window, and its size relative to that of the letterboxed image."""
        if mode == "crop":
            left, top = _reduce_border(self.border, width), _reduce_border(self.border, height)
            center = np.random.uniform((left, top), (width - left, height - top))
            return (float(center[0]), float(center[1])), float(np.random.choice(self.scales))
        if mode == "shift":
            offset = max(height, width) * np.clip(np.random.randn(2) * self.shift, -2 * self.shift, 2 * self.shift)
            zoom = np.clip(1 + np.random.randn() * self.scale, 1 - self.scale, 1 + self.scale)
            return (float(width / 2 + offset[0]), float(height / 2 + offset[1])), float(zoom)
        return (width / 2, height / 2), 1.0


def _deform_around(matrix: np.ndarray, fixed: tuple[float, float], linear: np.ndarray) -> np.ndarray:
    """Apply ``linear`` (2, 2) around the image point ``fixed`` (x, y), then ``matrix``."""
    shift = np.asarray(fixed) - linear @ fixed
    return np.column_stack([matrix[:, :2] @ linear, matrix[:, :2] @ shift + matrix[:, 2]])


def _reduce_border(border: int, size: int) -> int:
    """Return ``border``, halved until a center between two such borders exists."""
    while size - border <= border:
        border //= 2
    return border
