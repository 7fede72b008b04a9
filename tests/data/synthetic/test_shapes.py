from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from centernet_d2.data.image_io import read_image
from centernet_d2.data.synthetic.generation import register_synthetic
from centernet_d2.data.synthetic.shapes import (
    CLASS_NAMES,
    OUTLINES,
    Shape,
    ShapesConfig,
    draw,
    fit_outline,
    paint,
    sample_cover_box,
    sample_layout,
)

SETS = ["synthetic_shapes_train", "synthetic_shapes_val", "synthetic_occluded_train", "synthetic_occluded_val"]


def test_a_image_depends_on_seed_and_index_only():
    config = ShapesConfig()
    first, other_index, other_seed = draw(config, 3, 5), draw(config, 3, 6), draw(config, 4, 5)
    assert first.shape == (256, 256, 3) and first.dtype == np.uint8
    assert np.array_equal(first, draw(config, 3, 5))
    assert not np.array_equal(first, other_index) and not np.array_equal(first, other_seed)
    assert sample_layout(config, 3, 5) == sample_layout(config, 3, 5) != sample_layout(config, 3, 6)


@pytest.mark.parametrize("category", range(len(CLASS_NAMES)))
def test_boxes_are_tight_around_the_pixels_synthetic(category):
    rng = np.random.default_rng(category)
    for _ in range(20):
        x, y, width, height = rng.uniform([5, 5, 10, 10], [60, 60, 120, 120])
        box = (x, y, x + width, y + height)
        image = np.zeros((200, 200, 3), dtype=np.uint8)
        paint(
            image, Shape(category, box, float(rng.uniform(-25, 25))).compute_outline(), np.array([255.0, 255.0, 255.0])
        )
        coverage = image[..., 0] / 255
        assert_spans(coverage.max(axis=0), box[0], box[2])
        assert_spans(coverage.max(axis=1), box[1], box[3])


def assert_spans(coverage: np.ndarray, start: float, end: float) -> None:
    """Nothing outside [start, end], and something within two pixels of both (a tip covers little of its pixel)."""
    inside = np.flatnonzero(coverage > 0.02)
    assert start - 0.3 <= inside[0] + 1 and inside[0] >= np.floor(start - 0.3)
    assert inside[-1] <= end + 0.3
    assert inside[0] <= start + 2 and inside[-1] + 1 >= end - 2


def test_outlines_touch_all_sides_of_the_box_at_any_angle():
    for outline in OUTLINES.values():
        for angle in (-25.0, 0.0, 13.0):
            fitted = fit_outline(outline, (3.0, 4.0, 13.0, 34.0), angle)
            assert np.allclose([*fitted.min(axis=0), *fitted.max(axis=0)], [3, 4, 13, 34])


def test_layout_keeps_to_the_configuration():
    config = ShapesConfig(min_objects=4, max_objects=9, min_size=20, max_size=60, max_overlap=0.1)
    shapes = [sample_layout(config, 0, index) for index in range(200)]
    counts = [len(s) for s in shapes]
    assert max(counts) == 9 and min(counts) >= 4
    boxes = np.array([shape.box for image in shapes for shape in image])
    sides = boxes[:, 2:] - boxes[:, :2]
    assert boxes.min() >= 0 and boxes.max() <= 256
    assert sides.min() >= 20 - 1e-9 and sides.max() <= 60 + 1e-9
    assert {shape.category for image in shapes for shape in image} == set(range(len(CLASS_NAMES)))
    for image in shapes:
        for i, a in enumerate(image):
            for b in image[:i]:
                assert shared_area(a.box, b.box) <= 0.1


def shared_area(a, b) -> float:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    smaller = min(np.prod(np.subtract(a[2:], a[:2])), np.prod(np.subtract(b[2:], b[:2])))
    return float(np.prod(np.maximum(sides, 0)) / smaller)


def test_occluded_centers_show_nothing_of_the_object():
    """Images that differ only in the class of their object are equal around its center, and not elsewhere."""
    config = ShapesConfig(occluded=True, noise=0.0, clutter=0, max_objects=1, min_size=60)
    for index in range(20):
        (shape,) = sample_layout(config, 0, index)
        images = [draw_with_category(config, index, category) for category in range(len(CLASS_NAMES))]
        x1, y1, x2, y2 = shape.box
        x, y, width, height = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
        # The irregular patch fills at least this much of its box on every side of the center.
        reach_x, reach_y = 0.4 * 0.5 * 0.4 * width, 0.4 * 0.5 * 0.4 * height
        center = np.s_[round(y - reach_y) : round(y + reach_y), round(x - reach_x) : round(x + reach_x)]
        whole = np.s_[round(y1) : round(y2), round(x1) : round(x2)]
        for image in images[1:]:
            assert np.array_equal(images[0][center], image[center])
            assert not np.array_equal(images[0][whole], image[whole])


def draw_with_category(config: ShapesConfig, index: int, category: int) -> np.ndarray:
    from centernet_d2.data.synthetic import shapes as synthetic

    shapes = [replace(shape, category=category) for shape in sample_layout(config, 0, index)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "sample_layout", lambda *_: shapes)
        return draw(config, 0, index)


def test_cover_is_centered_and_leaves_the_corner_points_free():
    config = ShapesConfig(occluded=True)
    shape = Shape(0, (10.0, 20.0, 110.0, 70.0), 0.0)
    for seed in range(50):
        x1, y1, x2, y2 = sample_cover_box(config, shape, np.random.default_rng(seed))
        assert (x1 + x2) / 2 == pytest.approx(60) and (y1 + y2) / 2 == pytest.approx(45)
        assert 0.4 <= (x2 - x1) / 100 <= 0.55 and 0.4 <= (y2 - y1) / 50 <= 0.55
        # An ellipse in the patch's box holds the patch; the points at 1/4 and 3/4 of both sides lie outside of it.
        assert (25 / ((x2 - x1) / 2)) ** 2 + (12.5 / ((y2 - y1) / 2)) ** 2 > 1


@pytest.mark.parametrize("name", SETS)
def test_registered_sets_are_standard_detectron2_data(name):
    dataset_dicts = DatasetCatalog.get(name)
    assert len(dataset_dicts) == (2000 if name.endswith("train") else 200)
    metadata = MetadataCatalog.get(name)
    assert metadata.thing_classes == list(CLASS_NAMES) and metadata.evaluator_type == "coco"
    assert read_image(dataset_dicts[7], "BGR").shape == (dataset_dicts[7]["height"], dataset_dicts[7]["width"], 3)
    assert np.array_equal(read_image(dataset_dicts[7], "BGR")[..., ::-1], read_image(dataset_dicts[7], "RGB"))


def test_training_and_validation_images_differ():
    train, val = (DatasetCatalog.get(f"synthetic_shapes_{split}") for split in ("train", "val"))
    boxes = {str(dataset_dict["annotations"]) for dataset_dict in train if dataset_dict["annotations"]}
    assert boxes.isdisjoint(str(dataset_dict["annotations"]) for dataset_dict in val)


def test_unknown_set_and_impossible_configurations_are_named():
    with pytest.raises(KeyError, match="no synthetic dataset 'nowhere'"):
        read_image({"file_name": "synthetic://nowhere/0"})
    with pytest.raises(ValueError, match="min_size"):
        ShapesConfig(min_size=300)
    with pytest.raises(ValueError, match="min_objects"):
        ShapesConfig(min_objects=5, max_objects=2)


def test_own_set_may_be_empty_and_of_another_shape():
    name = "synthetic_own_set_of_this_test"
    config = ShapesConfig(height=96, width=160, min_size=10, max_size=40, min_objects=0, max_objects=0)
    register_synthetic(name, config, num_images=3, seed=9)
    try:
        dataset_dicts = DatasetCatalog.get(name)
        assert [dataset_dict["annotations"] for dataset_dict in dataset_dicts] == [[], [], []]
        assert read_image(dataset_dicts[2]).shape == (96, 160, 3)
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_drawing_is_quick():
    config = ShapesConfig()
    best = min(_seconds(lambda: draw(config, 0, 11)) for _ in range(10))
    assert best < 0.02


def _seconds(function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def test_half_the_objects_are_crowds_in_the_images_of_extreme():
    crowds, objects = (DatasetCatalog.get(f"synthetic_{name}_train") for name in ("crowds", "extreme"))
    flags = [one["iscrowd"] for record in crowds for one in record["annotations"]]
    assert 0.45 < np.mean(flags) < 0.55
    assert not any(one["iscrowd"] for record in objects for one in record["annotations"])
    for record, other in zip(crowds[:50], objects[:50], strict=True):
        boxes, others = ([one["bbox"] for one in x["annotations"]] for x in (record, other))
        assert boxes == others
    np.testing.assert_array_equal(read_image(crowds[7]), read_image(objects[7]))
