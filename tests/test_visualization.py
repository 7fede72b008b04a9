from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from centernet_d2.visualization import blend_heatmap, class_color, draw_objects, draw_predictions, side_by_side


def changed_pixels(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(y, x) of what was drawn."""
    return np.argwhere(np.abs(after.astype(int) - before).max(axis=2) > 60)


@pytest.fixture
def grey() -> np.ndarray:
    return np.full((400, 600, 3), 100, dtype=np.uint8)


def test_a_box_is_drawn_where_it_is(grey):
    drawn = draw_objects(grey, torch.tensor([[100.0, 200.0, 300.0, 350.0]]), torch.tensor([0]), ["cat"])
    assert drawn.shape == grey.shape and drawn.dtype == np.uint8
    low, high = changed_pixels(grey, drawn).min(axis=0), changed_pixels(grey, drawn).max(axis=0)
    assert np.allclose(low, [200, 100], atol=4) and np.allclose(high, [350, 300], atol=4)
    assert np.array_equal(drawn[250:340, 150:290], grey[250:340, 150:290])


def test_grid_points_and_keypoints_are_marked(grey):
    box, cls = torch.tensor([[100.0, 100.0, 300.0, 300.0]]), torch.tensor([1])
    plain = draw_objects(grey, box, cls)
    nine = draw_objects(grey, box, cls, point_flags=range(9))
    for y in (150, 200, 250):
        for x in (150, 200, 250):
            assert np.abs(nine[y, x].astype(int) - plain[y, x]).max() > 60
    keypoints = torch.tensor([[[400.0, 50.0, 0.9], [500.0, 50.0, 0.0]]])
    pointed = draw_objects(grey, box, cls, keypoints=keypoints)
    assert np.abs(pointed[50, 400].astype(int) - 100).max() > 60
    assert np.array_equal(pointed[45:56, 495:506], grey[45:56, 495:506])


def test_colours_are_not_mixed_up_between_rgb_and_bgr(grey):
    drawn = draw_objects(grey, torch.tensor([[100.0, 200.0, 300.0, 350.0]]), torch.tensor([0]))
    red, green, blue = class_color(0)
    border = drawn[275, 98:103].astype(int)
    strongest = border[np.abs(border - 100).max(axis=1).argmax()]
    assert red > max(green, blue) and strongest[2] > max(strongest[0], strongest[1]) + 40


def test_predictions_below_the_threshold_are_left_out(grey):
    instances = Instances((400, 600))
    instances.pred_boxes = Boxes(torch.tensor([[50.0, 50.0, 150.0, 150.0], [300.0, 200.0, 500.0, 350.0]]))
    instances.scores = torch.tensor([0.2, 0.9])
    instances.pred_classes = torch.tensor([0, 5])
    drawn = changed_pixels(grey, draw_predictions(grey, instances, ["a"], threshold=0.5))
    assert drawn[:, 1].min() > 290
    assert np.array_equal(draw_predictions(grey, instances[:0]), grey)


def test_small_pictures_are_enlarged():
    image = np.zeros((50, 100, 3), dtype=np.uint8)
    assert draw_objects(image, torch.zeros((0, 4)), torch.zeros(0, dtype=torch.int64)).shape == (400, 800, 3)


def test_heatmaps_lie_over_their_cells_in_their_class_colour():
    image = np.full((64, 96, 3), 50, dtype=np.uint8)
    heatmap = np.zeros((3, 16, 24), dtype=np.float32)
    heatmap[2, 4, 10] = 1.0
    blended = blend_heatmap(image, heatmap, strength=1.0).astype(int)
    changed = np.argwhere((blended != 50).any(axis=2))
    # Cell (4, 10) of stride 4 is pixels 16..19 x 40..43; linear interpolation reaches up to half a cell further.
    assert changed.min(axis=0).tolist() == [14, 38] and changed.max(axis=0).tolist() == [21, 45]
    assert np.array_equal(blend_heatmap(image, heatmap * 0), image)
    wanted = np.array(class_color(2)[::-1]) * 255
    nearest = (1 - 0.5 / 4) ** 2
    assert np.abs(blended[18, 42] - (wanted * nearest + 50 * (1 - nearest))).max() <= 1


def test_side_by_side_keeps_the_height_of_the_first():
    images = [np.zeros((40, 30, 3), dtype=np.uint8), np.ones((80, 100, 3), dtype=np.uint8)]
    assert side_by_side(images).shape == (40, 80, 3)
