"""The one place where coordinates change frame.

Coordinates are continuous: an image of width W spans [0, W], pixel i covers [i, i + 1) and its center is at i + 0.5;
a grid cell j of stride R covers input pixels [R j, R (j + 1)). The networks published with the CenterNet paper were
trained with pixel centers at integers instead. They differ only in where the warp samples, which
``pixel_center`` (0.5 or 0.0) says.

Matrices are (2, 3) float64 NumPy arrays that map *from* the image *to* the network input.
"""

from __future__ import annotations

import math
from typing import TypeVar

import cv2
import numpy as np


def build_affine_matrix(
    center: tuple[float, float], scale: float, rotation: float, output_size: tuple[int, int], flip: bool = False
) -> np.ndarray:
    """Return the similarity that puts ``center`` (x, y) in the center of the output.

    Args:
        scale: output pixels per image pixel.
        rotation: degrees, counter-clockwise as seen on the screen.
        output_size: (height, width).
        flip: flip left and right, after the rest.
    """
    height, width = output_size
    cosine, sine = scale * math.cos(math.radians(rotation)), scale * math.sin(math.radians(rotation))
    linear = np.array([[cosine, sine], [-sine, cosine]])
    matrix = np.column_stack([linear, np.array([width / 2, height / 2]) - linear @ np.asarray(center, dtype=float)])
    return flip_matrix(matrix, width) if flip else matrix


def flip_matrix(matrix: np.ndarray, output_width: float) -> np.ndarray:
    """Return ``matrix`` followed by exchanging left and right of the output."""
    result = matrix * [[-1], [1]]
    result[0, 2] += output_width
    return result


def compute_fitting_scale(image_size: tuple[int, int], output_size: tuple[int, int], by_width: bool = False) -> float:
    """Return output pixels per image pixel if the image just fits, or is as wide as the output. Sizes: height, width.

    By its width, an image that is higher than the output's shape is cut above and below, as in the reference for KITTI.
    """
    across = output_size[1] / image_size[1]
    return across if by_width else min(output_size[0] / image_size[0], across)


def compute_short_side_scale(image_size: tuple[int, int], limits: tuple[float, float]) -> float:
    """Return output pixels per image pixel of an image whose shorter side becomes ``limits[0]``, or less, so that its
    longer side is at most ``limits[1]``; as Detectron2's ``ResizeShortestEdge``. ``image_size`` is height, width."""
    return min(limits[0] / min(image_size), limits[1] / max(image_size))


def build_letterbox_matrix(
    image_size: tuple[int, int], output_size: tuple[int, int], scale: float | None = None
) -> np.ndarray:
    """Return the matrix that centers an image in the output; ``scale=None`` makes it as large as fits.

    Sizes: height, width.

    The shift is whole pixels when nothing is scaled, so that such an image is copied, not resampled.
    """
    height, width = image_size
    fitted = compute_fitting_scale(image_size, output_size) if scale is None else scale
    matrix = build_affine_matrix((width / 2, height / 2), fitted, 0.0, output_size)
    if fitted == 1:
        matrix[:, 2] = np.ceil(matrix[:, 2])
    return matrix


def get_stretch_matrix(image_size: tuple[int, int], output_size: tuple[int, int]) -> np.ndarray:
    """Fill the output: width and height each have a scale of their own. Sizes are (height, width)."""
    (height, width), (rows, columns) = image_size, output_size
    return np.array([[columns / width, 0.0, 0.0], [0.0, rows / height, 0.0]])


def invert_matrix(matrix: np.ndarray) -> np.ndarray:
    """Return the inverse (2, 3) matrix."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def reduce_matrix(matrix: np.ndarray, reduction: int, pixel_center: float = 0.5) -> np.ndarray:
    """Return ``matrix`` for an image of which each pixel stands for ``reduction`` x ``reduction`` of the whole one."""
    linear = matrix[:, :2]
    # The center of the first such pixel, in the whole image, is at reduction / 2 of its own corner.
    shift = (reduction - 1) * (0.5 - pixel_center)
    return np.column_stack([reduction * linear, matrix[:, 2] + shift * linear.sum(axis=1)])


def transform_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Transform points (..., 2) x, y by ``matrix``."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def warp_image(
    image: np.ndarray, matrix: np.ndarray, output_size: tuple[int, int], pixel_center: float = 0.5
) -> np.ndarray:
    """Resample (H, W, 3) ``image`` bilinearly, black outside; ``output_size`` is (height, width)."""
    sampling = matrix.copy()
    sampling[:, 2] += matrix[:, :2].sum(axis=1) * pixel_center - pixel_center
    return cv2.warpAffine(image, sampling, (output_size[1], output_size[0]), flags=cv2.INTER_LINEAR)


def resize_image(image: np.ndarray, output_size: tuple[int, int]) -> np.ndarray:
    """Resample (H, W, 3) ``image`` bilinearly by :func:`get_stretch_matrix`, pixel centers at 0.5. Unlike
    :func:`warp_image`, it is not black outside: the border pixels continue."""
    return cv2.resize(image, (output_size[1], output_size[0]), interpolation=cv2.INTER_LINEAR)


_Coordinate = TypeVar("_Coordinate", float, np.ndarray)


def from_pixel_index(value: _Coordinate) -> _Coordinate:
    """Return continuous coordinates of values with pixel centers at whole numbers, such as COCO's keypoints."""
    return value + 0.5


def to_pixel_index(value: _Coordinate) -> _Coordinate:
    """Invert :func:`from_pixel_index`."""
    return value - 0.5
