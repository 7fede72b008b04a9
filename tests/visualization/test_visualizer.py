from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from centernet_d2.data.schemas import EXTREME4, FACE19
from centernet_d2.visualization.canvas import VisMetadata, get_class_color, get_opencv_color
from centernet_d2.visualization.visualizer import Visualizer, blend_heatmap, join_side_by_side
from tests.helpers.tiny import tiny_cfg


def objects(boxes, classes, size=(400, 600), **fields) -> Instances:
    """As models give them."""
    predictions = Instances(size, pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)))
    predictions.pred_classes = torch.tensor(classes, dtype=torch.int64)
    for name, values in fields.items():
        predictions.set(name, values)
    return predictions


def changed_pixels(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(y, x) of what was drawn."""
    return np.argwhere(np.abs(after.astype(int) - before).max(axis=2) > 60)


@pytest.fixture
def gray() -> np.ndarray:
    return np.full((400, 600, 3), 100, dtype=np.uint8)


def test_a_box_is_synthetic_where_it_is(gray):
    drawn = Visualizer(VisMetadata(["cat"])).draw(gray, objects([100, 200, 300, 350], [0]))
    assert drawn.shape == gray.shape and drawn.dtype == np.uint8 and (gray == 100).all()
    low, high = changed_pixels(gray, drawn).min(axis=0), changed_pixels(gray, drawn).max(axis=0)
    assert np.allclose(low, [200, 100], atol=2) and np.allclose(high, [350, 300], atol=2)
    assert np.array_equal(drawn[250:340, 150:290], gray[250:340, 150:290])
    for y, x in ((200, 250), (349, 250), (275, 100), (275, 299)):
        assert (drawn[y, x] == get_opencv_color(0)).all()


def test_colors_are_not_mixed_up_between_rgb_and_bgr(gray):
    red, green, blue = get_class_color(0)
    assert red > max(green, blue) and get_opencv_color(0)[2] == 255 > get_opencv_color(0)[0]


def test_predictions_below_the_threshold_are_left_out(gray):
    boxes, scores = [[50, 50, 150, 150], [300, 200, 500, 350]], torch.tensor([0.2, 0.9])
    predictions, visualizer = objects(boxes, [0, 5], scores=scores), Visualizer(VisMetadata(["a"]), threshold=0.5)
    assert changed_pixels(gray, visualizer.draw(gray, predictions))[:, 1].min() > 290
    assert np.array_equal(visualizer.draw(gray, predictions[:0]), gray)
    assert changed_pixels(gray, visualizer.draw(gray, objects(boxes, [0, 5])))[:, 1].min() < 60, (
        "ground truth has no scores"
    )


def test_keypoints_that_no_heatmap_confirms_are_not_marked(gray):
    points = torch.tensor([[[400.0, 50.0, 0.9], [500.0, 50.0, 0.01]]])
    drawn = Visualizer().draw(gray, objects([100, 100, 300, 300], [1], pred_keypoints=points))
    assert (drawn[50, 400] == get_opencv_color(1)).all()
    assert np.array_equal(drawn[40:61, 490:511], gray[40:61, 490:511])


def test_small_images_are_enlarged_with_all_that_is_in_them():
    image = np.full((50, 100, 3), 100, dtype=np.uint8)
    drawn = Visualizer().draw(image, objects([10, 20, 40, 45], [0], (50, 100)))
    assert drawn.shape == (400, 800, 3)
    positions = np.argwhere((drawn == get_opencv_color(0)).all(axis=2))
    low, high = positions.min(axis=0), positions.max(axis=0)
    assert np.allclose(low, [160, 80], atol=2) and np.allclose(high, [360, 320], atol=2)


def test_the_better_object_is_given_first_and_numbers_are_plain():
    predictions = objects([[1, 2, 3, 4.126], [5, 6, 7, 8]], [1, 0], scores=torch.tensor([0.95, 0.31]))
    first = {"category_id": 1, "category_name": "b", "category": "b", "score": 0.95, "box": [1.0, 2.0, 3.0, 4.13]}
    visualizer = Visualizer(VisMetadata(["a", "b"]))
    assert [entry["category"] for entry in visualizer.describe(predictions)] == ["b", "a"]
    assert visualizer.describe(predictions)[0] == first
    assert Visualizer(threshold=0.5).describe(predictions) == [{**first, "category": "1", "category_name": "1"}]


def test_what_a_configuration_says():
    cfg = tiny_cfg(
        "DATASETS.TEST", ("synthetic_boxes3d_val",), "MODEL.BOX3D.CALIBRATION", [float(k) for k in range(12)]
    )
    metadata = Visualizer.from_config(cfg, 0.4).metadata
    assert sorted(metadata.names) == ["car", "cyclist", "pedestrian"] and metadata.schema is None
    assert metadata.calibration.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    faces = Visualizer.from_config(tiny_cfg("MODEL.KEYPOINT.SCHEMA", "face19", "DATASETS.TEST", ())).metadata
    assert faces.schema is FACE19 and faces.names == ["face"]
    anything = Visualizer.from_config(tiny_cfg("MODEL.KEYPOINT.SCHEMA", "extreme4", "DATASETS.TEST", ())).metadata
    assert anything.schema is EXTREME4 and anything.names is None


def test_heatmaps_lie_over_their_cells_in_their_class_color():
    image = np.full((64, 96, 3), 50, dtype=np.uint8)
    heatmap = np.zeros((3, 16, 24), dtype=np.float32)
    heatmap[2, 4, 10] = 1.0
    blended = blend_heatmap(image, heatmap, strength=1.0).astype(int)
    changed = np.argwhere((blended != 50).any(axis=2))
    # Cell (4, 10) of stride 4 is pixels 16..19 x 40..43; linear interpolation reaches up to half a cell further.
    assert changed.min(axis=0).tolist() == [14, 38] and changed.max(axis=0).tolist() == [21, 45]
    assert np.array_equal(blend_heatmap(image, heatmap * 0), image)
    wanted = np.array(get_class_color(2)[::-1]) * 255
    nearest = (1 - 0.5 / 4) ** 2
    assert np.abs(blended[18, 42] - (wanted * nearest + 50 * (1 - nearest))).max() <= 1


def test_side_by_side_keeps_the_height_of_the_first():
    images = [np.zeros((40, 30, 3), dtype=np.uint8), np.ones((80, 100, 3), dtype=np.uint8)]
    assert join_side_by_side(images).shape == (40, 80, 3)
