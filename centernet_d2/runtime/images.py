"""Checks of images at the entrance of prediction."""

from __future__ import annotations

import os
from typing import Any

import numpy as np


def check_image(image: Any) -> np.ndarray:
    """Return ``image`` as (H, W, 3) uint8.

    Gray (H, W) or (H, W, 1) becomes three equal channels, and a fourth channel (alpha) is dropped. Other integers and
    floats of 0..255 become uint8. Everything else is refused.

    Raises:
        TypeError: it is no NumPy array.
        ValueError: its shape, dtype or values are not those of an image.
    """
    if not isinstance(image, np.ndarray):
        raise TypeError(f"an image must be a NumPy array (H, W, 3) of uint8, not {_describe_other(image)}")
    channels, problem = image.shape[2] if image.ndim == 3 else 1, ""
    if image.size == 0:
        problem = "it is empty, as a crop outside of the image is"
    elif image.ndim == 4:
        problem = "it has 4 dimensions: give the images of a batch one by one"
    elif image.ndim == 3 and channels not in (1, 3, 4) and image.shape[0] in (1, 3, 4):
        problem = "its channels come first: use image.transpose(1, 2, 0)"
    elif image.ndim not in (2, 3) or channels not in (1, 3, 4):
        problem = f"it has {image.ndim} dimensions" if image.ndim not in (2, 3) else f"it has {channels} channels"
    if problem:
        raise ValueError(f"an image must be (H, W, 3) uint8, not {image.shape} {image.dtype}: {problem}")
    pixels = to_uint8((image if image.ndim == 3 else image[:, :, None])[:, :, :3])
    return np.repeat(pixels, 3, axis=2) if channels == 1 else pixels


def to_uint8(pixels: np.ndarray, was_cast: bool = False) -> np.ndarray:
    """Return pixels of any shape as uint8. uint8 values are not checked.

    Args:
        was_cast: floats of exactly 0 and 1 may have been a nearly black uint8 image.

    Raises:
        ValueError: their dtype or values are not those of an image, 0..255.
    """
    kind, problem = pixels.dtype.kind, ""
    if pixels.dtype == np.uint8:
        return pixels
    if kind == "b":
        problem = "a mask is no image; use mask.astype(np.uint8) * 255"
    elif kind not in "iuf":
        problem = "these are no numbers"
    if problem:
        raise ValueError(f"an image must be (H, W, 3) uint8, not {pixels.shape} {pixels.dtype}: {problem}")
    low, high = float(pixels.min()), float(pixels.max())
    if not np.isfinite(low) or not np.isfinite(high):
        problem = "it has NaN or infinite pixels"
    elif pixels.dtype == np.uint16 or high >= 1024:
        problem = "it has more than 8 bits; scale it, 16 bits by (image / 257).round().astype(np.uint8)"
    elif low < -0.5 or high > 255.5:
        problem = "values must be 0..255; undo the normalization"
    elif kind == "f" and 0 < high < 2 and ((high <= 1 and not was_cast) or (pixels != np.rint(pixels)).any()):
        problem = "values of 0..1 must be scaled to 0..255; use (image * 255).clip(0, 255).round().astype(np.uint8)"
    if problem:
        raise ValueError(
            f"an image must be (H, W, 3) uint8, not {pixels.shape} {pixels.dtype} with values {low:g} to {high:g}: "
            + problem
        )
    return np.rint(pixels).astype(np.uint8) if kind == "f" else pixels.astype(np.uint8)


def _describe_other(image: Any) -> str:
    """Describe a value that is not an array, and what to pass."""
    if image is None:
        return "None: cv2.imread gives None where an image is missing or cannot be read"
    if isinstance(image, str | os.PathLike):
        return f"the path {os.fspath(image)!r}: read it first, cv2.imread(path)"
    if isinstance(image, bytes | bytearray | memoryview):
        return "bytes: decode them first, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)"
    if type(image).__module__.startswith("PIL."):
        return 'a PIL image: use np.asarray(image.convert("RGB"))[:, :, ::-1], which is in BGR order'
    if type(image).__module__.startswith("torch"):
        return "a tensor: use tensor.permute(1, 2, 0).cpu().numpy()"
    if isinstance(image, list | tuple):
        return f"a {type(image).__name__}: give the images of a batch one by one, or make an array of the pixels"
    return f"a {type(image).__name__}"
