"""Extreme points of outlines by hand, and of the drawn shapes."""

from __future__ import annotations

import numpy as np
import pytest
from detectron2.data import DatasetCatalog

from centernet_d2.data.dataset_mapper import CenterNetDatasetMapper
from centernet_d2.data.schemas.extreme4 import find_extreme_points
from tests.helpers.tiny import base_cfg


def test_centers_of_flat_sides_and_tips():
    rectangle = np.array([[10, 20], [50, 20], [50, 40], [10, 40]], dtype=float)
    assert find_extreme_points([rectangle]).tolist() == [[30, 20], [10, 30], [30, 40], [50, 30]]
    diamond = np.array([[0, 5], [7, 0], [20, 6], [3, 9]], dtype=float)
    assert find_extreme_points([diamond]).tolist() == [[7, 0], [0, 5], [3, 9], [20, 6]]


def test_the_points_of_lsnets_script_before_it_cuts_them_to_whole_pixels():
    outline = [10, 12, 14, 10.5, 20, 10, 26, 10.3, 40, 22, 41.5, 30.5, 41, 33, 30, 44, 22, 44.6, 12, 40, 8.2, 30, 8, 26]
    outline += [8.3, 20]
    reference = [[20, 10], [8, 25], [26, 44.6], [41.5, 31]]
    points = find_extreme_points([np.array(outline, dtype=float).reshape(-1, 2)])
    for side, axis in enumerate((0, 1, 0, 1)):  # the coordinate along the side is cut
        assert points[side, 1 - axis] == reference[side][1 - axis]
        assert np.floor(points[side, axis]) == reference[side][axis]
    assert points[3].tolist() == [41.5, 31.75]


def test_wherever_the_outline_starts_and_whichever_way_it_goes():
    outline = np.array([[0, 1], [4, 0.1], [10, 0], [30, 0.3], [40, 9], [22, 20], [15, 19.9], [14, 12]], dtype=float)
    # 2 % of 40 x 20: 0.8 and 0.4. The top runs from 4 to 30, the lower side from 15 to 22.
    expected = [[17, 0], [0, 1], [18.5, 20], [40, 9]]
    for start in range(len(outline)):
        rotated = np.roll(outline, start, axis=0)
        assert find_extreme_points([rotated]).tolist() == expected
        assert find_extreme_points([rotated[::-1]]).tolist() == expected


def test_a_run_ends_where_the_outline_leaves_the_side():
    """Two tips of the same height: the point is on one, not in the gap between them."""
    crown = np.array([[0, 0], [10, 12], [20, 0], [20, 20], [0, 20]], dtype=float)
    assert find_extreme_points([crown])[0].tolist() == [0, 0]


def test_each_side_comes_from_the_part_that_reaches_farthest():
    parts = [np.array([[0, 5], [4, 5], [4, 9], [0, 9]], float), np.array([[10, 0], [14, 0], [14, 4], [10, 4]], float)]
    assert find_extreme_points(parts).tolist() == [[12, 0], [0, 7], [2, 9], [14, 2]]


def test_margin_reaches_to_the_edges_of_pixels():
    pixels = np.array([[3.5, 2.5], [4.5, 2.5], [5.5, 2.5], [4.5, 6.5]])
    assert find_extreme_points([pixels], margin=0.5).tolist() == [[4.5, 2], [3, 2.5], [4.5, 7], [6, 2.5]]


def test_synthetic_shapes_have_theirs():
    """On the box and on the outline, or, where this is flat or has two tips, between its vertices."""
    dataset_dicts = DatasetCatalog.get("synthetic_extreme_val")
    shapes = DatasetCatalog.get("synthetic_shapes_val")
    objects = [annotation for dataset_dict in dataset_dicts[:50] for annotation in dataset_dict["annotations"]]
    assert len(objects) > 100
    assert [a["bbox"] for a in shapes[3]["annotations"]] == [a["bbox"] for a in dataset_dicts[3]["annotations"]]
    for annotation in objects:
        points = np.reshape(annotation["keypoints"], (4, 3))
        (x1, y1, x2, y2), top, left, bottom, right = annotation["bbox"], *points[:, :2]
        assert [left[0], top[1], right[0], bottom[1]] == pytest.approx([x1, y1, x2, y2])
        assert (points[:, 2] == 2).all()
        outline = np.reshape(annotation["segmentation"][0], (-1, 2))
        span = np.array([x2 - x1, y2 - y1])
        for point in points[:, :2]:
            ends = (point - outline) / span
            near = np.abs(ends).max(axis=1).min()
            reflected = np.abs(2 * point - outline[:, None] - outline[None]).max(axis=2).min()
            assert near < 1e-9 or reflected < 0.05 * span.max()


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_the_mapper_turns_them_and_drops_those_outside(flip):
    cfg = base_cfg()
    cfg.MODEL.CENTERNET.TASK = "KeypointRegressionTask"
    cfg.DATASETS.TRAIN = ("synthetic_extreme_train",)
    cfg.INPUT.SIZE_TRAIN = [96, 128]
    cfg.INPUT.AFFINE.FLIP_PROB = flip
    mapper = CenterNetDatasetMapper(cfg, is_train=True)
    np.random.seed(0)  # noqa: NPY002
    dropped = 0
    for dataset_dict in DatasetCatalog.get("synthetic_extreme_train")[:20]:
        instances = mapper(dataset_dict)["instances"]
        for box, points in zip(instances.gt_boxes.tensor, instances.gt_keypoints.tensor, strict=True):
            seen = points[:, 2] > 0
            outward = [points[0, 1] - box[1], points[1, 0] - box[0], box[3] - points[2, 1], box[2] - points[3, 0]]
            assert all(abs(distance) < 1e-3 for distance, there in zip(outward, seen, strict=True) if there)
            dropped += int((~seen).sum())
    assert dropped > 0
