"""Tiles, and merging of what is found in them, with a detector that finds what the test paints."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from centernet_d2.runtime.slicing import predict_in_tiles, split_into_tiles


def find_shapes(images: Sequence[np.ndarray], smallest: int = 1) -> list[dict[str, np.ndarray]]:
    """Connected areas of one color: the class is the color; the keypoint is the center; larger scores higher."""
    results = []
    for image in images:
        rows = []
        for color in np.unique(image[image > 0]):
            labels, _ = ndimage.label(image[:, :, 0] == color)
            for k, (y, x) in enumerate(ndimage.find_objects(labels), start=1):
                if min(y.stop - y.start, x.stop - x.start) >= smallest:
                    area = (labels == k).sum()
                    rows.append((x.start, y.start, x.stop, y.stop, area / (1 + area), color, labels == k))
        boxes = np.array([row[:4] for row in rows], np.float32).reshape(-1, 4)
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        results.append({
            "pred_boxes": boxes,
            "scores": np.array([row[4] for row in rows], np.float32),
            "pred_classes": np.array([row[5] for row in rows], np.int64),
            "pred_keypoints": np.concatenate([centers, np.ones_like(centers[:, :1])], axis=1)[:, None],
            "pred_rotated_boxes": np.concatenate([centers, boxes[:, 2:] - boxes[:, :2], 0 * boxes[:, :1] + 7], axis=1),
            "pred_masks": np.array([row[6] for row in rows], bool).reshape(-1, *image.shape[:2]),
        })  # fmt: skip
    return results


def paint(size: tuple[int, int], boxes: Sequence[tuple[int, int, int, int]], colors: Sequence[int]) -> np.ndarray:
    image = np.zeros((*size, 3), np.uint8)
    for (x1, y1, x2, y2), color in zip(boxes, colors, strict=True):
        image[y1:y2, x1:x2] = color
    return image


def sort_rows(boxes: np.ndarray) -> list[list[float]]:
    return sorted(boxes.tolist())


@pytest.mark.parametrize("size", [(100, 100), (640, 480), (333, 1001), (64, 64), (65, 63), (1, 200)])
@pytest.mark.parametrize(("side", "overlap"), [(64, 0), (64, 16), (64, 63), (100, 20)])
def test_tiles_cover_the_image_and_overlap(size, side, overlap):
    tiles = split_into_tiles(size, side, overlap)
    covered = np.zeros(size, int)
    for x1, y1, x2, y2 in tiles:
        assert min(x1, y1) >= 0 and x2 <= size[1] and y2 <= size[0]
        assert (x2 - x1, y2 - y1) == (min(side, size[1]), min(side, size[0]))
        covered[y1:y2, x1:x2] += 1
    assert covered.min() >= 1 and len(set(tiles)) == len(tiles)
    for axis in (0, 1):
        starts = sorted({tile[axis] for tile in tiles})
        assert all(b - a <= side - overlap for a, b in pairwise(starts))


def test_an_overlap_as_large_as_the_tile_is_an_error():
    with pytest.raises(ValueError, match="overlap"):
        split_into_tiles((100, 100), 64, 64)


def test_an_image_of_one_tile_is_predicted_as_it_is():
    image = paint((64, 60), [(3, 4, 20, 30), (40, 40, 60, 64)], [1, 1])
    whole, calls = find_shapes([image])[0], []
    found = predict_in_tiles(lambda images: calls.append(len(images)) or find_shapes(images), image, 64, 16)
    assert calls == [1] and all(np.array_equal(found[name], whole[name]) for name in whole)


def test_objects_at_borders_are_found_once():
    """Objects at every position across the borders of the tiles, small ones and ones larger than a tile, with points
    and masks; the whole image sees all of them as well."""
    for shift in range(0, 64, 3):
        boxes = [
            (shift, 5, shift + 14, 19),
            (60 + shift, 40, 75 + shift, 52),
            (10, 70 + shift // 2, 130, 90 + shift // 2),
        ]
        image = paint((150, 200), boxes, [1, 1, 2])
        found = predict_in_tiles(find_shapes, image, 64, 16)
        assert sort_rows(found["pred_boxes"]) == sort_rows(np.array(boxes, float)), shift
        assert (np.diff(found["scores"]) <= 0).all()
        for box, mask, points in zip(found["pred_boxes"], found["pred_masks"], found["pred_keypoints"], strict=True):
            x1, y1, x2, y2 = box.astype(int)
            assert mask.sum() == (x2 - x1) * (y2 - y1) == mask[y1:y2, x1:x2].sum()
            assert points[0, :2].tolist() == [(x1 + x2) / 2, (y1 + y2) / 2]
        (x, y, w, h, angle), (x1, y1, x2, y2) = found["pred_rotated_boxes"].T, found["pred_boxes"].T
        np.testing.assert_array_equal([x - w / 2, y - h / 2, x + w / 2, y + h / 2], [x1, y1, x2, y2])
        assert (angle == 7).all()


def test_small_objects_come_from_the_tiles():
    """A detector that misses everything small in large images, as one does that scales them down."""

    def find(images: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        return find_shapes(images, smallest=max(images[0].shape) // 16)

    rng = np.random.default_rng(0)
    boxes = [(x, y, x + 6, y + 6) for x in range(1, 190, 13) for y in range(2, 140, 17)]
    boxes = [tuple(np.array(box) + rng.integers(0, 4)) for box in boxes]
    image = paint((150, 200), boxes, [3] * len(boxes))
    assert len(find([image])[0]["scores"]) == 0
    assert sort_rows(predict_in_tiles(find, image, 64, 16)["pred_boxes"]) == sort_rows(np.array(boxes, float))


def test_nothing_anywhere():
    found = predict_in_tiles(find_shapes, np.zeros((150, 200, 3), np.uint8), 64, 16)
    assert found["pred_boxes"].shape == (0, 4) and found["pred_masks"].shape == (0, 150, 200)


def test_objects_of_one_part_are_not_merged():
    """Two predictions of one class that overlap much, as in crowds."""

    def find(images: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        boxes = (
            np.array([[5, 5, 25, 25], [7, 5, 27, 25]], np.float32) if images[0].shape[1] == 200 else np.zeros((0, 4))
        )
        return [
            {
                "pred_boxes": boxes,
                "scores": np.array([0.9, 0.8][: len(boxes)]),
                "pred_classes": np.zeros(len(boxes), int),
            }
        ]

    assert len(predict_in_tiles(find, np.zeros((150, 200, 3), np.uint8), 64, 16)["scores"]) == 2
