from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from centernet_d2.data.schemas import CLOTHES294, FACE19, FACE68
from centernet_d2.visualization.canvas import VisMetadata
from centernet_d2.visualization.draw_keypoints import (
    PREDICTED_COLOR,
    TRUE_COLOR,
    crop_square,
    draw_comparison,
    draw_keypoints,
    find_schema,
    make_contact_sheet,
    move_landmarks,
)
from centernet_d2.visualization.visualizer import Visualizer
from tests.helpers.tiny import tiny_cfg

GRAY = 100


def gray(height: int = 300, width: int = 400) -> np.ndarray:
    return np.full((height, width, 3), GRAY, dtype=np.uint8)


def ring(count: int, center: float = 150.0, radius: float = 100.0) -> np.ndarray:
    """(count, 3), far enough apart that no line but those to neighbors touches one."""
    angle = np.arange(count) * 2 * np.pi / count
    return np.stack([center + radius * np.cos(angle), center + radius * np.sin(angle), np.ones(count)], axis=1)


def color_at(image: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Of the pixel that contains a point in continuous coordinates."""
    return image[int(point[1]), int(point[0])].astype(int)


def is_drawn(image: np.ndarray, point: np.ndarray) -> bool:
    return bool(np.abs(color_at(image, point) - GRAY).max() > 30)


@pytest.mark.parametrize("schema", [FACE68, FACE19])
def test_keypoints_are_where_they_are(schema):
    image, landmarks = gray(), ring(len(schema))
    draw_keypoints(image, landmarks, schema, color=TRUE_COLOR)
    assert all(np.abs(color_at(image, p) - TRUE_COLOR).max() < 60 for p in landmarks)
    a, b = schema.chains[0][:2]
    assert is_drawn(image, (landmarks[a] + landmarks[b]) / 2), "and so is the line between two of them"
    assert np.argwhere((image != GRAY).any(axis=2)).min() > 45 and not is_drawn(image, np.array([150, 150]))


def test_dots_are_centered():
    """Half a pixel is easily lost between coordinates that OpenCV and everybody else use."""
    landmarks = np.zeros((68, 3))
    landmarks[[8, 30]] = (40.5, 60.5, 1), (240.5, 60.5, 1)
    for k in (8, 30):
        image = gray()
        draw_keypoints(image, landmarks, FACE68, color=(255, 255, 255))
        near = image[50:72, int(landmarks[k, 0]) - 10 : int(landmarks[k, 0]) + 11].astype(float).mean(axis=2) - GRAY
        y, x = np.mgrid[0:22, 0:21]
        assert (near * x).sum() / near.sum() == pytest.approx(10, abs=0.1)
        assert (near * y).sum() / near.sum() == pytest.approx(10, abs=0.1)


def test_what_is_not_labeled_is_not_synthetic():
    image, landmarks = gray(), ring(68)
    landmarks[5, 2] = 0
    draw_keypoints(image, landmarks, FACE68, color=TRUE_COLOR)
    assert not is_drawn(image, landmarks[5]) and is_drawn(image, landmarks[3])
    assert not is_drawn(image, (landmarks[4] + landmarks[5]) / 2)
    untouched = gray()
    draw_keypoints(untouched, landmarks * [1, 1, 0], FACE68)
    assert (untouched == GRAY).all()


def test_a_clothing_item_has_the_keypoints_of_its_class_only():
    landmarks = np.ones((294, 3))
    first, end = CLOTHES294.ranges[7]
    landmarks[:, :2] = (380, 20)
    landmarks[first:end] = ring(end - first)
    image = gray()
    draw_keypoints(image, landmarks, CLOTHES294, label=7)
    assert all(is_drawn(image, p) for p in landmarks[first:end]) and not is_drawn(image, landmarks[0])


def test_parts_have_colors_and_flipped_parts_the_same():
    image, landmarks = gray(), ring(68)
    draw_keypoints(image, landmarks, FACE68)
    numbers = {"jaw": 3, "brow": 18, "other brow": 25, "nose": 28, "eye": 37, "other eye": 44, "mouth": 50}
    part = {name: tuple(color_at(image, landmarks[k]) // 40) for name, k in numbers.items()}
    assert part["brow"] == part["other brow"] and part["eye"] == part["other eye"]
    assert len({part[name] for name in ("jaw", "brow", "nose", "eye", "mouth")}) == 5


@pytest.mark.parametrize(("size", "minimum", "most"), [(40, 1, 4), (400, 4, 9), (2000, 25, 34)])
def test_dots_suit_the_object(size, minimum, most):
    image = gray(size, size)
    landmarks = np.zeros((68, 3))
    landmarks[[8, 30]] = (0.1 * size, size / 2, 1), (0.9 * size, size / 2, 1)
    draw_keypoints(image, landmarks, FACE68)
    assert minimum <= sum(is_drawn(image, np.array([0.1 * size, y])) for y in range(size)) <= most


def test_predicted_against_true():
    image, gt = gray(), ring(68)
    predicted = ring(68, radius=60)
    predicted[:, 2] = 0.0
    draw_comparison(image, predicted, gt, FACE68)
    assert np.abs(color_at(image, gt[8]) - TRUE_COLOR).max() < 60
    assert np.abs(color_at(image, predicted[8]) - PREDICTED_COLOR).max() < 60
    assert is_drawn(image, (gt[0] + predicted[0]) / 2), "the gap"
    missed = gray()
    draw_comparison(missed, None, gt, FACE68)
    assert is_drawn(missed, gt[8]) and not is_drawn(missed, predicted[8])


@pytest.mark.parametrize("size", [50, 200, 331])
def test_a_crop_and_its_matrix_agree(size):
    """The center of a disk, found in the crop, is where the matrix takes it."""
    image = np.zeros((200, 300, 3), dtype=np.uint8)
    y, x = np.mgrid[0:200, 0:300] + 0.5
    image[np.hypot(x - 120.0, y - 90.0) < 15] = 255
    crop, matrix = crop_square(image, np.array([90.0, 60.0, 170.0, 120.0]), size)
    bright = np.where(crop[..., 0] > 32, crop[..., 0].astype(float), 0)
    v, u = np.mgrid[0:size, 0:size] + 0.5
    predictions = [(bright * u).sum() / bright.sum(), (bright * v).sum() / bright.sum(), 1]
    assert crop.shape == (size, size, 3)
    assert move_landmarks(np.array([[120.0, 90.0, 1.0]]), matrix)[0] == pytest.approx(predictions, abs=0.15)
    corners = move_landmarks(np.array([[130 - 60, 90 - 60, 1.0], [130 + 60, 90 + 60, 1.0]]), matrix)
    assert corners[:, :2].ravel() == pytest.approx([0, 0, size, size])


def test_a_canvas_has_each_image_above_its_caption():
    images = [np.full((60, 80, 3), value, dtype=np.uint8) for value in range(100, 107)]
    canvas = make_contact_sheet(images, ["a", "", "c" * 500, "d", "e", "f", "g"], columns=3)
    rows, columns = 3, 3
    assert canvas.shape == (rows * (60 + 14 + 4) + 4, columns * 84 + 4, 3)
    for i in range(7):
        y, x = 4 + (i // 3) * 78, 4 + (i % 3) * 84
        assert (canvas[y : y + 60, x : x + 80] == 100 + i).all()
        assert (canvas[y + 60 : y + 74, x : x + 80].max() > 150) == (i != 1)
        assert (canvas[y : y + 74, x + 80 : x + 84] == 32).all(), "a long caption stays in its own column"
    with pytest.raises(ValueError, match="needs images"):
        make_contact_sheet([], [])


def test_objects_with_a_schema_have_lines_also_when_enlarged():
    landmarks = ring(68, center=50, radius=30)
    keypoints, boxes = torch.tensor(landmarks)[None], torch.tensor([[15.0, 15.0, 85.0, 85.0]])
    instances = Instances((100, 100), pred_boxes=Boxes(boxes), scores=torch.tensor([0.9]))
    instances.pred_classes, instances.pred_keypoints = torch.tensor([0]), keypoints
    drawn = Visualizer(VisMetadata(schema=FACE68)).draw(gray(100, 100), instances)
    assert drawn.shape == (400, 400, 3)
    assert all(is_drawn(drawn, 4 * p) for p in landmarks) and is_drawn(drawn, 2 * (landmarks[8] + landmarks[9]))
    # What no heatmap confirms is not drawn.
    instances.pred_keypoints[0, 30, 2] = 0.01
    assert not is_drawn(Visualizer(VisMetadata(schema=FACE68)).draw(gray(100, 100), instances), 4 * landmarks[30])


def test_the_schema_of_a_configuration():
    assert find_schema(tiny_cfg("DATASETS.TEST", ("synthetic_shapes_val",))) is None
    assert find_schema(tiny_cfg("DATASETS.TRAIN", ("synthetic_shapes_val", "aflw_train"))) is FACE19
    assert find_schema(tiny_cfg("MODEL.KEYPOINT.SCHEMA", "clothes294")) is CLOTHES294
