"""Prediction on large images tile by tile, in NumPy (as in SAHI, Akyon et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .merging import Predictions, find_clusters

# Overlap (IoU) of two predictions of one object from different tiles.
_SAME_OBJECT = 0.5
# A box this near to a tile's border inside the image, in pixels, may be cut.
_CUT = 2.0

Tile = tuple[int, int, int, int]


def split_into_tiles(size: tuple[int, int], side: int, overlap: int) -> list[Tile]:
    """Tiles x1, y1, x2, y2 that cover an image of ``size`` (height, width), in whole pixels.

    Each is ``side`` wide and high, or as large as the image where that is smaller. Neighbors share at least ``overlap``
    pixels, so each object of at most that size is whole in one of them.

    Raises:
        ValueError: ``overlap`` is not between 0 and ``side``.
    """
    if not 0 <= overlap < side:
        raise ValueError(f"the overlap of tiles must be from 0 to below their side {side}, not {overlap}")
    columns, rows = (_split(length, side, overlap) for length in (size[1], size[0]))
    width, height = min(side, size[1]), min(side, size[0])
    return [(x, y, x + width, y + height) for y in rows for x in columns]


def _split(length: int, side: int, overlap: int) -> list[int]:
    """Starts of the tiles along one side, evenly spaced."""
    count = max(1, -(-(length - overlap) // (side - overlap)))
    return [round(i * (length - side) / (count - 1)) for i in range(count)] if count > 1 else [0]


def predict_in_tiles(
    predict: Callable[[Sequence[np.ndarray]], list[Predictions]], image: np.ndarray, side: int, overlap: int
) -> Predictions:
    """Find objects in each tile and in the whole image, and merge them.

    Small objects come from the tiles. Objects that are too large to be whole in a tile come from the whole image.
    An image that fits into one tile is predicted as it is.

    Args:
        predict: images (h, w, 3) to arrays: "pred_boxes" (P, 4) x1, y1, x2, y2, "scores" (P,), "pred_classes" (P,), and
            others (P, ...), of which "pred_keypoints" (P, K, 3), "pred_rotated_boxes" (P, 5) and "pred_masks" (P, h, w)
            are positions in the image.
        side, overlap: pixels, see :func:`split_into_tiles`.

    Returns:
        The same arrays for the image, highest-scoring first.
    """
    size = image.shape[:2]
    tiles = split_into_tiles(size, side, overlap)
    (whole,) = predict([image])
    if len(tiles) == 1:
        return whole
    parts = [whole]
    for tile in tiles:
        x1, y1, x2, y2 = tile
        (predictions,) = predict([image[y1:y2, x1:x2]])
        parts.append(_move(_select_uncut(predictions, tile, size), tile, size))
    kept = _pick_one_of_each(parts)
    return {name: np.concatenate([part[name] for part in parts])[kept] for name in whole}


def _pick_one_of_each(parts: list[Predictions]) -> np.ndarray:
    """Rows of the parts, one after another: of an object that several parts have, the one with the highest score.

    Objects of one part are never merged, however much they overlap.
    """
    counts = [len(part["scores"]) for part in parts]
    length = max(counts)
    if not length:
        return np.zeros(0, dtype=np.int64)
    boxes, scores, classes = (_pad(parts, name, length) for name in ("pred_boxes", "scores", "pred_classes"))
    index, _, _ = find_clusters(boxes, scores, classes, len(parts), sum(counts), _SAME_OBJECT)
    starts = np.cumsum([0, *counts[:-1]])
    return starts[index // length] + index % length


def _pad(parts: list[Predictions], name: str, length: int) -> np.ndarray:
    """One array of all parts, each with ``length`` rows; the score of empty ones is 0."""
    first = parts[0][name]
    values = np.zeros((len(parts), length, *first.shape[1:]), dtype=first.dtype)
    for rows, part in zip(values, parts, strict=True):
        rows[: len(part[name])] = part[name]
    return values.reshape(-1, *first.shape[1:])


def _select_uncut(predictions: Predictions, tile: Tile, size: tuple[int, int]) -> Predictions:
    """Drop boxes that end at a border of the tile which is not one of the image."""
    (x1, y1, x2, y2), (height, width) = tile, size
    inner = np.array([x1 > 0, y1 > 0, x2 < width, y2 < height])
    boxes = predictions["pred_boxes"]
    to_border = np.concatenate([boxes[:, :2], np.array([x2 - x1, y2 - y1]) - boxes[:, 2:]], axis=1)
    whole = ~((to_border < _CUT) & inner).any(axis=1)
    return {name: values[whole] for name, values in predictions.items()}


def _move(predictions: Predictions, tile: Tile, size: tuple[int, int]) -> Predictions:
    """From pixels of the tile to those of the image."""
    x1, y1, x2, y2 = tile
    moved = dict(predictions)
    moved["pred_boxes"] = predictions["pred_boxes"] + np.array([x1, y1, x1, y1], dtype=predictions["pred_boxes"].dtype)
    if "pred_keypoints" in predictions:
        points = predictions["pred_keypoints"]
        shift = np.array([x1, y1, 0], dtype=points.dtype)
        moved["pred_keypoints"] = np.where(points[..., 2:] > 0, points + shift, points)
    if "pred_rotated_boxes" in predictions:
        boxes = predictions["pred_rotated_boxes"]
        moved["pred_rotated_boxes"] = boxes + np.array([x1, y1, 0, 0, 0], dtype=boxes.dtype)
    if "pred_masks" in predictions:
        masks = np.zeros((len(predictions["pred_masks"]), *size), dtype=predictions["pred_masks"].dtype)
        masks[:, y1:y2, x1:x2] = predictions["pred_masks"]
        moved["pred_masks"] = masks
    return moved
