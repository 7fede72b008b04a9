"""Drawn videos: every frame stands alone, track ids last, and boxes and joints are where the images show them."""

from __future__ import annotations

from itertools import groupby, pairwise

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from centernet_d2.data.image_io import read_image
from centernet_d2.data.schemas import POSE17
from centernet_d2.data.synthetic import pose_videos as synthetic_pose_videos
from centernet_d2.data.synthetic import videos as synthetic_videos
from centernet_d2.data.synthetic.persons import sample_look
from centernet_d2.data.synthetic.pose_videos import PoseVideosConfig, sample_walking_persons
from centernet_d2.data.synthetic.shapes import CLASS_NAMES, OUTLINES, SyntheticConfig, fit_outline
from centernet_d2.data.synthetic.videos import (
    Motion,
    MovingShape,
    TracksConfig,
    compute_box_in_image,
    measure_visible_fractions,
    sample_moving_shapes,
)
from centernet_d2.data.validation.checks import check_annotations

KINDS = {"tracks": (TracksConfig(), synthetic_videos), "pose_videos": (PoseVideosConfig(), synthetic_pose_videos)}
kinds = pytest.mark.parametrize(("config", "module"), KINDS.values(), ids=KINDS)


@pytest.fixture(scope="module", params=KINDS)
def dataset_dicts(request) -> list[dict]:
    return DatasetCatalog.get(f"synthetic_{request.param}_val")


def center(annotation) -> np.ndarray:
    return np.array(annotation["bbox"]).reshape(2, 2).mean(axis=0)


def inside(annotation) -> bool:
    """Whether an object of a set as registered is whole, and not cut by a side of the image."""
    return min(annotation["bbox"]) > 0 and max(annotation["bbox"]) < 128


def steps(dataset_dicts):
    """(before, after) annotations of the same object in consecutive frames."""
    for earlier, later in pairwise(dataset_dicts):
        if earlier["video_id"] == later["video_id"]:
            before = {a["track_id"]: a for a in earlier["annotations"]}
            yield from ((before[a["track_id"]], a) for a in later["annotations"] if a["track_id"] in before)


@kinds
def test_a_frame_is_the_same_alone_and_in_order(config, module):
    in_order = [(module.draw(config, 3, index), module.annotate(config, 3, index)) for index in range(30)]
    for index in (29, 24, 11, 0):
        assert np.array_equal(module.draw(config, 3, index), in_order[index][0])
        assert module.annotate(config, 3, index) == in_order[index][1]
    images = [image for image, _ in in_order] + [module.draw(config, 4, 0)]
    assert len({image.tobytes() for image in images}) == 31
    assert images[0].shape == (128, 128, 3) and images[0].dtype == np.uint8
    # Nothing but noise and moving objects tells two frames of a video apart; another video looks different all over.
    assert np.mean(images[0] != images[1]) > 0.5
    assert np.median(np.abs(images[0].astype(int) - images[23])) <= 2 * config.noise
    assert np.median(np.abs(images[23].astype(int) - images[24])) > 2 * config.noise


def test_dataset_dicts_are_videos_in_order(dataset_dicts):
    names = ["person"] if "keypoints" in dataset_dicts[0]["annotations"][0] else ["shape"]
    assert check_annotations(dataset_dicts, names, num_keypoints=17 if names == ["person"] else None) == []
    videos = [
        (number, list(frames))
        for number, frames in groupby(dataset_dicts, key=lambda dataset_dict: dataset_dict["video_id"])
    ]
    assert [number for number, _ in videos] == list(range(1, 13))
    for _, frames in videos:
        assert [dataset_dict["frame"] for dataset_dict in frames] == list(range(24))
        classes = {(a["track_id"], a["category_id"]) for dataset_dict in frames for a in dataset_dict["annotations"]}
        assert len(classes) == len({track for track, _ in classes}) > 1 and min(classes)[0] >= 1
        for dataset_dict in frames:
            tracks = [a["track_id"] for a in dataset_dict["annotations"]]
            assert len(set(tracks)) == len(tracks)
    assert read_image(dataset_dicts[30]).shape == (128, 128, 3)


def test_sets_are_scored_as_tracks_and_training_and_validation_differ():
    for split in ("train", "val"):
        shapes, persons = (MetadataCatalog.get(f"synthetic_{kind}_{split}") for kind in KINDS)
        assert shapes.evaluator_type == persons.evaluator_type == "tracking"
        assert shapes.thing_classes == ["shape"] and persons.thing_classes == ["person"]
        assert persons.keypoint_schema == "pose17" and persons.keypoint_names == list(POSE17.names)
    train = DatasetCatalog.get("synthetic_tracks_train")
    assert len(train) == 2000 and train[-1]["video_id"] == 250 and train[-1]["frame"] == 7
    boxes = {str(a["bbox"]) for dataset_dict in train for a in dataset_dict["annotations"]}
    val = DatasetCatalog.get("synthetic_tracks_val")
    assert boxes.isdisjoint(str(a["bbox"]) for dataset_dict in val for a in dataset_dict["annotations"])


def test_shapes_move_smoothly_and_are_thrown_back_come_or_go():
    dataset_dicts = DatasetCatalog.get("synthetic_tracks_val")
    lengths = [np.linalg.norm(center(b) - center(a)) for a, b in steps(dataset_dicts) if inside(a) and inside(b)]
    assert max(lengths) <= 12 + 1e-6 and np.median(lengths) > 6
    growth = [abs(np.ptp(b["bbox"][::2]) / np.ptp(a["bbox"][::2]) - 1) for a, b in steps(dataset_dicts) if inside(a)]
    assert np.median(growth) < 0.03
    fates = set()
    for _, frames in groupby(dataset_dicts, key=lambda dataset_dict: dataset_dict["video_id"]):
        paths: dict[int, list] = {}
        for dataset_dict in frames:
            for a in dataset_dict["annotations"]:
                paths.setdefault(a["track_id"], []).append((dataset_dict["frame"], a))
        for path in paths.values():
            whole = np.array([center(a) for _, a in path if inside(a)])
            turns = np.diff(np.sign(np.diff(whole, axis=0)), axis=0).any(axis=1).sum() if len(whole) > 2 else 0
            # At most once on every side in the time that the way from side to side takes.
            assert turns <= 6
            fates |= {"thrown back"} if turns else set()
            fates |= {"comes"} if path[0][0] > 0 else set()
            fates |= {"goes"} if path[-1][0] < 23 else set()
    assert fates == {"thrown back", "comes", "goes"}


def test_persons_move_smoothly():
    config = PoseVideosConfig()
    for video in range(10):
        for person in sample_walking_persons(config, 1, video):
            points = np.array([person.place_at(frame)[0] for frame in range(24)])
            hips = points[:, 11:13].mean(axis=1)
            assert np.linalg.norm(np.diff(hips, axis=0), axis=1).max() <= config.max_speed + 0.02 * config.max_size
            relative = (points - hips[:, None]) / person.motion.size
            assert 0.02 < np.linalg.norm(np.diff(relative, axis=0), axis=2).max() < 0.3
            # One foot is in front, then the other.
            assert len(set(np.sign(points[:, 15, 0] - points[:, 16, 0]))) == 2


def test_the_nearest_object_of_the_class_is_often_another_one(dataset_dicts):
    """So an association needs the motion."""
    wrong, total, others = 0, 0, 0
    for earlier, later in pairwise(dataset_dicts):
        if earlier["video_id"] != later["video_id"]:
            continue
        tracks = {a["track_id"] for a in earlier["annotations"]}
        for a in later["annotations"]:
            same = [b for b in earlier["annotations"] if b["category_id"] == a["category_id"]]
            if a["track_id"] in tracks:
                nearest = min(same, key=lambda b: np.linalg.norm(center(b) - center(a)))
                wrong += nearest["track_id"] != a["track_id"]
                others += len(same) > 1
                total += 1
    assert others / total > 0.5 and 0.05 < wrong / total < 0.4


@pytest.fixture
def flat(monkeypatch) -> np.ndarray:
    """No clutter: what is drawn shows. The background's color."""
    gray = np.array([128.0, 128, 128])
    for module in (synthetic_videos, synthetic_pose_videos):
        monkeypatch.setattr(
            module, "draw_clutter", lambda config, rng: np.full((config.height, config.width, 3), 128, np.uint8)
        )
    return gray


def test_colors_last(flat):
    config = TracksConfig(noise=0.0)
    for video in range(6):
        colors: dict[int, list[np.ndarray]] = {}
        for frame in range(24):
            index = video * 24 + frame
            image = synthetic_videos.draw(config, 2, index)
            annotations = synthetic_videos.annotate(config, 2, index)
            for i, a in enumerate(annotations):
                x, y = center(a)
                later = [b["bbox"] for b in annotations[i + 1 :]]
                occluded_by = any(box[0] - 2 < x < box[2] + 2 and box[1] - 2 < y < box[3] + 2 for box in later)
                kind = CLASS_NAMES[synthetic_videos.sample_moving_shapes(config, 2, video)[a["track_id"] - 1].category]
                if inside(a) and not occluded_by and kind != "crescent":
                    colors.setdefault(a["track_id"], []).append(image[int(y), int(x)].astype(int))
        assert sum(map(len, colors.values())) > 20
        for same in colors.values():
            assert np.ptp(same, axis=0).max() <= 1
            assert np.linalg.norm(same[0] - flat) > 20


def test_boxes_are_those_of_the_pixels_synthetic(flat, monkeypatch):
    monkeypatch.setattr(synthetic_videos, "_sample_contrasting_color", lambda *_: np.full(3, 255.0))
    config, cut = TracksConfig(noise=0.0, min_objects=1, max_objects=1), 0
    for index in range(0, 24 * 60, 7):
        image = synthetic_videos.draw(config, 5, index)
        annotations = synthetic_videos.annotate(config, 5, index)
        coverage = (image[..., 0] - flat[0]) / 127
        if not annotations:
            assert coverage.sum() < config.min_visible * (1.1 * config.max_size) ** 2
            continue
        y, x = np.nonzero(coverage > 0.6)
        drawn = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])
        error = (drawn - annotations[0]["bbox"]) * [1, 1, -1, -1]
        # Painting is about 0.3 pixels exact; sharp tips cover little of theirs.
        assert error.min() > -0.7 and error.max() < 3
        cut += not inside(annotations[0])
    assert cut > 10


def test_the_box_in_the_image_against_filled_polygons():
    config, rng = SyntheticConfig(height=40, width=60, min_size=1, max_size=20), np.random.default_rng(0)
    fine, compared = 16, 0
    for number in range(180):
        outline = list(OUTLINES.values())[number % len(OUTLINES)]
        x, y, width, height = rng.uniform([-25, -25, 8, 8], [60, 40, 30, 30])
        outline = fit_outline(outline, (x, y, x + width, y + height), rng.uniform(-90, 90))
        filled = np.zeros((40 * fine, 60 * fine), np.uint8)
        cv2.fillPoly(filled, [np.rint(outline * fine - 0.5).astype(np.int32)], 1)
        rows, columns = np.nonzero(filled)
        if len(rows) < fine**2:
            continue
        expected = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / fine
        np.testing.assert_allclose(compute_box_in_image(config, [outline]), expected, atol=0.15)
        compared += 0 in expected or 60 in expected or 40 in expected
    assert compared > 50


def test_a_prong_beside_a_corner_does_not_reach_it():
    """A bracket around the corner (0, 0): one arm is in the image, the other above it."""
    bracket = np.array([[-9, -9], [5, -9], [5, -6], [-6, -6], [-6, 4], [5, 4], [5, 7], [-9, 7]], dtype=float)
    assert compute_box_in_image(SyntheticConfig(), [bracket]) == (0, 4, 5, 7)


def test_visible_fractions_in_closed_form():
    def square(x: float, y: float, side: float) -> np.ndarray:
        return np.array([x, y]) + side * np.array([[0, 0], [1, 0], [1, 1], [0, 1]])

    config = SyntheticConfig(height=64, width=64, min_size=1, max_size=20)
    scene = [
        [square(10, 10, 20)],
        [square(20, 10, 20)],
        [square(-10, 54, 20)],
        [square(70, 0, 20)],
        [square(44, 44, 4)],
    ]
    scene += [[square(40, 40, 10), square(45, 40, 10)]]
    np.testing.assert_allclose(measure_visible_fractions(config, scene), [0.5, 1, 0.25, 0, 0, 1], atol=0.06)


def test_occluded_objects_pause_and_keep_their_track_id(monkeypatch):
    still = Motion((64, 64), (0, 0), 30, 0.0, None)
    passing = Motion((19, 64), (6, 0), 10, 0.0, None)
    rectangle = CLASS_NAMES.index("rectangle")
    scene = [MovingShape(motion, rectangle, (1, 1), 0.0, 0.0) for motion in (passing, still)]
    monkeypatch.setattr(synthetic_videos, "sample_moving_shapes", lambda *_: scene)
    seen = [{a["track_id"] for a in synthetic_videos.annotate(TracksConfig(), 0, frame)} for frame in range(20)]
    # Its center is at 19 + 6 f; the other covers 49 to 79. It leaves at 128.
    for frame, tracks in enumerate(seen):
        left, right = 14 + 6 * frame, 24 + 6 * frame
        shown = 1 - max(0, min(right, 79) - max(left, 49)) / 10 - max(0, right - 128) / 10
        if abs(shown - 0.2) > 0.1:
            assert tracks == ({1, 2} if shown > 0.2 else {2})
    assert {1, 2} in seen[:5] and {2} in seen and {1, 2} in seen[10:]


def test_companions_look_alike_and_go_together():
    pairs = [
        (a, b)
        for video in range(40)
        for a, b in pairwise(sample_moving_shapes(TracksConfig(), 6, video))
        if b.motion.companion
    ]
    assert len(pairs) > 20
    for leader, companion in pairs:
        assert leader.category == companion.category and leader.sides == companion.sides
        assert 0.9 <= companion.motion.size / leader.motion.size <= 1
        gap = np.linalg.norm(np.subtract(companion.motion.start, leader.motion.start))
        assert 0.9 * leader.motion.size <= gap <= 1.5 * max(12, 0.9 * leader.motion.size) * 1.05
        change = np.subtract(companion.motion.velocity, leader.motion.velocity)
        assert np.linalg.norm(change) <= 0.05 * 12


def test_visible_joints_are_synthetic_where_they_are_said_to_be(flat, monkeypatch):
    """Everybody in one color of their own."""
    hues = np.array([[255.0, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [0, 255, 255]])
    config, right, total, hidden = PoseVideosConfig(noise=0.0, companions=0.0, max_size=80), 0, 0, 0
    for index in range(0, 24 * 20, 11):
        looks = iter(hues)
        monkeypatch.setattr(
            synthetic_pose_videos, "sample_look", lambda rng, looks=looks: dict.fromkeys(sample_look(rng), next(looks))
        )
        image = synthetic_pose_videos.draw(config, 7, index).astype(float)
        for a in synthetic_pose_videos.annotate(config, 7, index):
            keypoints = np.array(a["keypoints"]).reshape(17, 3)
            labeled = keypoints[keypoints[:, 2] > 0]
            x1, y1, x2, y2 = a["bbox"]
            assert np.all((labeled[:, :2] >= [x1 - 1e-6, y1 - 1e-6]) & (labeled[:, :2] <= [x2 + 1e-6, y2 + 1e-6]))
            for x, y, seen in labeled:
                pixel = image[min(int(y), 127), min(int(x), 127)]
                closeness = [np.dot(pixel, hue) / np.linalg.norm(pixel) / np.linalg.norm(hue) for hue in hues]
                right += seen == 2 and np.argmax(closeness) == a["track_id"] - 1
                total += seen == 2
                hidden += seen == 1
    assert total > 500 and hidden > 50 and right / total > 0.97


@pytest.mark.parametrize(("field", "value"), [("frames", 0), ("min_speed", 20), ("min_size", 200)])
def test_impossible_configurations_are_named(field, value):
    with pytest.raises(ValueError, match=field):
        TracksConfig(**{field: value})
