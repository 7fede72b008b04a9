"""Drawn faces: the landmarks are where the images show them, and left is right in a flip."""

from __future__ import annotations

import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from centernet_d2.data.image_io import read_image
from centernet_d2.data.schemas import FACE68
from centernet_d2.data.schemas.face5 import from_face68
from centernet_d2.data.synthetic.canvas import Canvas, smooth
from centernet_d2.data.synthetic.face_model import FaceShape, place_head, project, sample_shape
from centernet_d2.data.synthetic.faces import FacesConfig, draw, draw_face, sample_layout, sample_look
from centernet_d2.data.validation.checks import check_annotations

FLIP = FACE68.flip_indices()
FLIP_X = np.array([-1.0, 1.0])


def flipped_points(points: np.ndarray, width: float = 0.0) -> np.ndarray:
    """The 99 points of a head in the flipped image, in their order."""
    rest = [*range(76, 67, -1), *range(85, 76, -1), *range(96, 85, -1), 98, 97]
    return np.array([width, 0.0]) + FLIP_X * points[[*FLIP, *rest]]


def test_a_head_that_looks_ahead_is_its_own_flipped_image():
    points = place_head(FaceShape())[:, :2]
    np.testing.assert_allclose(flipped_points(points), points, atol=1e-12)
    assert points[30, 0] == 0
    assert points[36, 0] == -points[45, 0] < -0.5


def test_the_flipped_face_rotated_the_other_way_is_the_flipped_image():
    rng = np.random.default_rng(0)
    for _ in range(50):
        shape, (yaw, pitch, roll) = sample_shape(rng), rng.uniform(-35, 35, size=3)
        seen = project(place_head(shape), yaw, pitch, roll)
        other = project(place_head(shape.flip()), -yaw, pitch, -roll)
        np.testing.assert_allclose(flipped_points(seen), other, atol=1e-12)


def test_the_flipped_points_are_synthetic_as_the_flipped_image():
    rng = np.random.default_rng(1)
    for index in range(10):
        look = replace(sample_look(rng), light=np.array([0.0, 0.1]))
        (face,) = sample_layout(FacesConfig(min_objects=1, max_objects=1), 5, index)
        images = []
        for points in (face.points, flipped_points(face.points, 192)):
            canvas = Canvas(np.full((192, 192, 3), 99, np.uint8))
            draw_face(canvas, points, look)
            images.append(canvas.finish(0.0, rng).astype(int))
        assert (images[0] != 99).mean() > 0.05
        assert np.abs(images[0][:, ::-1] - images[1]).mean() < 0.5


def test_turning_is_that_of_a_solid_head():
    """Distances in space survive any turn; without perspective, those in the image are the shortened ones."""
    points = place_head(FaceShape())
    rotated = project(points * 1e-6, 20, 10, 30) / 1e-6
    angles = np.radians([20, 10, 30])
    yaw, pitch, roll = (cv2.Rodrigues(axis * a)[0] for axis, a in zip(np.eye(3)[[1, 0, 2]], angles, strict=True))
    np.testing.assert_allclose(rotated, (points @ (roll @ pitch @ yaw).T)[:, :2], atol=1e-5)


def test_faces_keep_to_the_configuration_and_lie_in_the_image():
    config = FacesConfig(max_objects=3, min_size=40, max_size=90)
    images = [sample_layout(config, 0, index) for index in range(150)]
    faces = [face for image in images for face in image]
    landmarks = np.array([face.landmarks for face in faces])
    assert landmarks.min() >= -1e-9 and landmarks.max() <= 192 + 1e-9
    boxes = np.array([face.box for face in faces])
    np.testing.assert_array_equal(boxes[:, :2], landmarks.min(axis=1))
    np.testing.assert_array_equal(boxes[:, 2:], landmarks.max(axis=1))
    sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    assert sides.min() >= 40 - 1e-9 and sides.max() <= 90 + 1e-9
    assert {len(image) for image in images} == {1, 2, 3}
    touching = (np.abs(np.hstack([boxes[:, :2], 192 - boxes[:, 2:]])) < 1e-6).any(axis=1).mean()
    assert 0.03 < touching < 0.2
    eyes = landmarks[:, 45] - landmarks[:, 36]
    tilt = np.degrees(np.arctan2(eyes[:, 1], eyes[:, 0]))
    assert 25 < np.abs(tilt).max() < 50 and np.abs(tilt.mean()) < 4


@pytest.mark.parametrize("name", ["right_eye", "left_eye"])
def test_shutting_an_eye_moves_its_own_lids_only(name):
    moved = np.abs(place_head(replace(FaceShape(), **{name: 0.0})) - place_head(FaceShape())).max(axis=1) > 1e-6
    lids = {"right_eye": [37, 38, 40, 41], "left_eye": [43, 44, 46, 47]}[name]
    assert np.flatnonzero(moved[:68]).tolist() == lids


def test_opening_the_mouth_lowers_lip_and_chin():
    change = (place_head(replace(FaceShape(), mouth_open=0.4)) - place_head(FaceShape()))[:, 1]
    assert change[66] - change[62] == pytest.approx(0.4) and change[57] > 0.2 > -0.1 > change[51]
    assert change[8] > 0.2 and change[[0, 16, *range(17, 48)]] == pytest.approx(0)


def test_the_jaw_is_where_skin_ends():
    """Along the jaw's normal, the image changes at the landmark: the face inside, the background outside."""
    rng = np.random.default_rng(3)
    for index in range(5):
        (face,) = sample_layout(FacesConfig(min_objects=1, max_objects=1, min_size=120), 2, index)
        look = replace(sample_look(rng), bald=True)
        canvas = Canvas(np.full((192, 192, 3), 255, np.uint8))
        draw_face(canvas, face.points, look)
        drawn = canvas.finish(0.0, rng).min(axis=2) < 253
        for k in range(2, 15):
            along = face.landmarks[k + 1] - face.landmarks[k - 1]
            outwards = np.array([-along[1], along[0]]) / np.linalg.norm(along)
            for step, expected in ((-3, True), (3.5, False)):
                x, y = np.floor(face.landmarks[k] + step * outwards).astype(int)
                assert not (0 <= x < 192 and 0 <= y < 192) or drawn[y, x] == expected


def test_smooth_goes_through_its_points_and_keeps_lines_straight():
    points = np.random.default_rng(4).uniform(0, 10, size=(7, 2))
    np.testing.assert_allclose(smooth(points)[::4], points)
    np.testing.assert_allclose(smooth(points, closed=True)[::4], points)
    assert len(smooth(points)) == 25 and len(smooth(points, closed=True)) == 28
    line = np.stack([np.arange(5.0), 2 * np.arange(5.0)], axis=1)
    np.testing.assert_allclose(smooth(line), np.stack([np.arange(17), np.arange(17) * 2], axis=1) / 4)


def test_a_image_depends_on_seed_and_index_only():
    config = FacesConfig(height=160)
    first = draw(config, 3, 5)
    assert first.shape == (160, 192, 3) and first.dtype == np.uint8
    assert np.array_equal(first, draw(config, 3, 5))
    assert not np.array_equal(first, draw(config, 3, 6)) and not np.array_equal(first, draw(config, 4, 5))


@pytest.mark.parametrize("split, count", [("train", 2000), ("val", 200)])
def test_registered_sets_are_standard_detectron2_data(split, count):
    dataset_dicts = DatasetCatalog.get(f"synthetic_faces_{split}")
    assert len(dataset_dicts) == count
    assert check_annotations(dataset_dicts, ["face"], num_keypoints=68) == []
    metadata = MetadataCatalog.get(f"synthetic_faces_{split}")
    assert metadata.evaluator_type == "face_landmarks" and metadata.keypoint_schema == "face68"
    assert read_image(dataset_dicts[7]).shape == (dataset_dicts[7]["height"], dataset_dicts[7]["width"], 3)
    numbers = [annotation["id"] for dataset_dict in dataset_dicts for annotation in dataset_dict["annotations"]]
    assert numbers == list(range(1, len(numbers) + 1))
    keypoints = np.array([a["keypoints"] for r in dataset_dicts for a in r["annotations"]]).reshape(-1, 68, 3)
    assert (keypoints[:, :, 2] == 2).all()


def test_faces_of_five_points_are_those_of_68():
    """The same images and boxes; points by the rule of ``from_face68``, whose test is with the schemas."""
    many, few = (DatasetCatalog.get(f"synthetic_{name}_val") for name in ("faces", "faces5"))
    assert check_annotations(few, ["face"], num_keypoints=5) == []
    metadata = MetadataCatalog.get("synthetic_faces5_val")
    assert metadata.keypoint_names[2] == "nose" and metadata.keypoint_schema == "face5"
    for all_points, five in zip(many[:20], few[:20], strict=True):
        assert np.array_equal(read_image(all_points), read_image(five))
        for a, b in zip(all_points["annotations"], five["annotations"], strict=True):
            assert a["bbox"] == b["bbox"]
            points = np.reshape(b["keypoints"], (5, 3))
            assert np.array_equal(points[:, :2], from_face68(np.reshape(a["keypoints"], (68, 3))[:, :2]))


def test_drawing_is_quick():
    best = min(_seconds(lambda: draw(FacesConfig(), 0, 11)) for _ in range(10))
    assert best < 0.02


def _seconds(function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
