"""Drawn clothing items: every category has its own landmarks, in the order of the schema, and left is right in a
flip."""

from __future__ import annotations

import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from centernet_d2.data.image_io import read_image
from centernet_d2.data.schemas import CLOTHES294
from centernet_d2.data.synthetic.canvas import Canvas
from centernet_d2.data.synthetic.clothing import (
    ClothingConfig,
    draw,
    draw_clothing_item,
    find_occluded_by,
    sample_cloth,
    sample_layout,
)
from centernet_d2.data.synthetic.clothing_model import ClothingShape, list_parts, place_landmarks, sample_shape
from centernet_d2.data.validation.checks import check_annotations

FLIP = CLOTHES294.flip_indices()
NAMES = CLOTHES294.class_names


def own_flip(category: str) -> np.ndarray:
    """The category's flips, counted from its own first landmark."""
    first, end = CLOTHES294.ranges[NAMES.index(category)]
    return FLIP[first:end] - first


@pytest.mark.parametrize("category", NAMES)
def test_a_symmetric_clothing_item_is_its_own_flipped_image(category):
    points, flip = place_landmarks(category, ClothingShape()), own_flip(category)
    assert len(points) == len(flip)
    np.testing.assert_allclose(points[flip] * [-1, 1], points, atol=1e-12)
    # Flip pairs are apart, and those without a flip pair are in the center: no other pairing maps it to itself.
    np.testing.assert_allclose(points[flip == np.arange(len(flip)), 0], 0, atol=1e-12)
    distances = np.linalg.norm(points[:, None] - points, axis=2) + np.eye(len(points))
    assert distances.min() > 0.04


@pytest.mark.parametrize("category", NAMES)
def test_the_flipped_clothing_item_is_the_flipped_image(category):
    rng = np.random.default_rng(0)
    for _ in range(20):
        shape = sample_shape(rng)
        flipped = place_landmarks(category, shape.flip())
        np.testing.assert_allclose(place_landmarks(category, shape)[own_flip(category)] * [-1, 1], flipped, atol=1e-12)


@pytest.mark.parametrize("category", NAMES)
def test_the_flipped_points_are_synthetic_as_the_flipped_image(category):
    rng = np.random.default_rng(1)
    points = 75 + 33 * place_landmarks(category, replace(ClothingShape(), left=30.0, length=0.8)) * [1, 0.8]
    cloth = np.full((1, 1, 3), 120, np.uint8)
    images = []
    for shown in (points, np.array([150, 0]) + points[own_flip(category)] * [-1, 1]):
        canvas = Canvas(np.full((250, 150, 3), 220, np.uint8))
        draw_clothing_item(canvas, category, shown, cloth)
        images.append(canvas.finish(0.0, rng).astype(int))
    assert (images[0] != 220).mean() > 0.04
    assert np.abs(images[0][:, ::-1] - images[1]).mean() < 0.5


@pytest.mark.parametrize("category", NAMES)
def test_every_keypoint_lies_on_something_synthetic(category):
    """On an edge of a panel or of the lining, which all have lines."""
    shapes = list_parts(category)
    used = {k for line in (shapes.lining, *shapes.panels) for k in line}
    assert used == set(range(len(place_landmarks(category, ClothingShape()))))


@pytest.mark.parametrize("category", NAMES)
def test_outlines_do_not_cross_themselves(category):
    def crosses(a, b, c, d):
        def side(p, q, r):
            return np.sign((q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0]))

        return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0

    points = place_landmarks(category, ClothingShape())
    for panel in list_parts(category).panels:
        edges = [(points[a], points[b]) for a, b in zip(panel, panel[1:] + panel[:1], strict=True)]
        assert not any(crosses(*e, *f) for i, e in enumerate(edges) for f in edges[:i])


def test_categories_differ_where_they_should():
    """Heights and widths in units of the shoulders' width, sleeves from the outermost points."""
    size = {name: np.ptp(place_landmarks(name, ClothingShape()), axis=0) for name in NAMES}
    for kind in ("shirt", "outwear", "dress"):
        assert size[f"long_sleeved_{kind}"][0] > 1.1 * size[f"short_sleeved_{kind}"][0]
    assert size["vest_dress"][1] > 1.4 * size["vest"][1] and size["sling_dress"][1] > 1.4 * size["sling"][1]
    assert size["trousers"][1] > 1.8 * size["shorts"][1]
    neck = {name: place_landmarks(name, ClothingShape()) for name in ("vest", "sling")}
    strap = {name: np.linalg.norm(points[6] - points[1]) for name, points in neck.items()}
    assert strap["sling"] < 0.5 * strap["vest"]


def test_layout_keeps_to_the_configuration():
    config = ClothingConfig(max_objects=3, min_size=40, max_size=80, occlusion=0.5)
    images = [sample_layout(config, 0, index) for index in range(200)]
    clothing = [one for image in images for one in image]
    assert {len(image) for image in images} == {1, 2, 3}
    assert {one.category for one in clothing} == set(range(13))
    for one in clothing:
        assert one.points.min() >= -1e-9 and one.points.max() <= 192 + 1e-9
        first, end = CLOTHES294.ranges[one.category]
        keypoints = one.make_keypoints()
        assert keypoints.shape == (294, 3) and not keypoints[:first].any() and not keypoints[end:].any()
        assert set(keypoints[first:end, 2]) <= {1, 2}
        sides = np.subtract(one.box[2:], one.box[:2])
        assert 40 - 1e-9 <= sides.max() <= 80 + 1e-9
    occluded = np.mean([not one.visible.all() for one in clothing])
    assert 0.15 < occluded < 0.5 and all(one.visible.any() for one in clothing)
    patched = np.mean([len(one.patch) > 0 for one in clothing])
    assert 0.4 < patched < 0.6
    assert all(one.visible.all() for i in range(50) for one in sample_layout(replace(config, occlusion=0.0), 0, i))


def test_occluded_means_under_a_patch_that_is_synthetic():
    """The color at an occluded landmark is that of the whole patch; without the patch it is another one."""
    config = ClothingConfig(noise=0.0, occlusion=1.0, clutter=0, min_size=150)
    seen = 0
    for index in range(30):
        image = draw(config, 7, index)
        for one in sample_layout(config, 7, index):
            center = image[tuple(np.floor(one.patch.mean(axis=0)[::-1]).astype(int).clip(0, 191))].astype(int)
            for x, y in one.points[~one.visible]:
                away = cv2.pointPolygonTest(one.patch.astype(np.float32), (float(x), float(y)), measureDist=True)
                if away > 2:
                    seen += 1
                    assert np.abs(image[int(min(y, 191)), int(min(x, 191))] - center).max() <= 1
    assert seen > 10


def test_occluded_equals_the_winding_of_the_outline():
    rng = np.random.default_rng(2)
    polygon = np.array([[2, 1], [9, 3], [7, 8], [5, 5], [1, 9]], dtype=float)
    points = rng.uniform(0, 10, size=(300, 2))
    inside = []
    for point in points:
        a = polygon - point
        b = np.roll(a, -1, axis=0)
        turns = np.arctan2(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0], (a * b).sum(axis=1))
        inside.append(abs(turns.sum()) > 3)
    np.testing.assert_array_equal(find_occluded_by(points, polygon), inside)
    assert 30 < sum(inside) < 270 and not find_occluded_by(points, np.zeros((0, 2))).any()


def test_a_image_depends_on_seed_and_index_only():
    config = ClothingConfig(height=160, max_size=150)
    first = draw(config, 3, 5)
    assert first.shape == (160, 192, 3) and first.dtype == np.uint8
    assert np.array_equal(first, draw(config, 3, 5))
    assert not np.array_equal(first, draw(config, 3, 6)) and not np.array_equal(first, draw(config, 4, 5))


def test_cloth_is_of_many_kinds():
    rng = np.random.default_rng(3)
    cloths = [sample_cloth(rng) for _ in range(40)]
    contrast = [int(np.abs(np.diff(cloth.astype(int), axis=1)).max()) for cloth in cloths]
    assert min(contrast) < 10 and max(contrast) > 30


@pytest.mark.parametrize("split, count", [("train", 2000), ("val", 200)])
def test_registered_sets_are_standard_detectron2_data(split, count):
    dataset_dicts = DatasetCatalog.get(f"synthetic_clothing_{split}")
    assert len(dataset_dicts) == count
    assert check_annotations(dataset_dicts[:200], NAMES, num_keypoints=294) == []
    metadata = MetadataCatalog.get(f"synthetic_clothing_{split}")
    assert metadata.evaluator_type == "clothes_landmarks" and metadata.keypoint_schema == "clothes294"
    assert metadata.thing_classes == list(NAMES)
    assert read_image(dataset_dicts[7]).shape == (dataset_dicts[7]["height"], dataset_dicts[7]["width"], 3)


def test_drawing_is_quick():
    best = min(_seconds(lambda: draw(ClothingConfig(), 0, 11)) for _ in range(10))
    assert best < 0.02


def _seconds(function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
