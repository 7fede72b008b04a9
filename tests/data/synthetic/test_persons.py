"""Drawn persons: joints are where the images show them, hidden ones are under something, and left is not right."""

from __future__ import annotations

import timeit
from itertools import combinations

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances

from centernet_d2.data.datasets.custom import register_custom_datasets
from centernet_d2.data.image_io import read_image
from centernet_d2.data.schemas import POSE17
from centernet_d2.data.synthetic.canvas import Canvas
from centernet_d2.data.synthetic.generation import register_synthetic
from centernet_d2.data.synthetic.person_model import Pose, compute_joints, make_parts, sample_pose
from centernet_d2.data.synthetic.persons import PersonsConfig, draw, draw_person, sample_layout, sample_look
from centernet_d2.data.synthetic.shapes import compute_overlap
from centernet_d2.data.validation.checks import check_annotations
from centernet_d2.evaluation import build_evaluator
from tests.helpers.runs import engine_cfg

FLIP = POSE17.flip_indices()
LEFT = [k for k, name in enumerate(POSE17.names) if name.startswith("left")]
BONES = [(5, 7, 0.18), (7, 9, 0.17), (11, 13, 0.24), (13, 15, 0.23)]


def standing(yaw: float) -> Pose:
    return Pose(yaw, 0.0, np.zeros(2), np.tile([20.0, 0, 5, 0], (2, 1)), np.tile([5.0, 0, 0], (2, 1)))


def some_poses(count: int) -> list[Pose]:
    rng = np.random.default_rng(0)
    return [sample_pose(rng, 60, 20, 0.4) for _ in range(count)]


def test_the_flipped_pose_is_the_flipped_image():
    for pose in some_poses(50):
        np.testing.assert_allclose(compute_joints(pose.flip()), compute_joints(pose)[FLIP] * [-1, 1, 1], atol=1e-12)


def test_a_flipped_person_is_synthetic_as_the_flipped_image():
    rng = np.random.default_rng(1)
    for pose in some_poses(20):
        look, images = sample_look(rng), []
        for one in (pose, pose.flip()):
            body = [type(p)(p.material, 96 + 90 * p.outline, p.shows) for p in make_parts(one)]
            canvas = Canvas(np.full((192, 192, 3), 128, np.uint8))
            draw_person(canvas, body, look)
            images.append(canvas.finish(0.0, rng).astype(int))
        assert (images[0] != 128).any(axis=2).mean() > 0.04
        assert np.abs(images[0][:, ::-1] - images[1]).mean() < 0.5


def test_limbs_keep_their_lengths_and_flip_pairs_are_alike():
    for pose in some_poses(50):
        points = compute_joints(pose)
        for start, end, length in BONES:
            for a, b in ((start, end), (FLIP[start], FLIP[end])):
                assert np.linalg.norm(points[a] - points[b]) == pytest.approx(length)
        assert np.linalg.norm(points[5] - points[6]) == pytest.approx(0.26)


def test_left_is_right_from_the_front_and_left_from_the_back():
    for yaw, side in ((0, 1), (30, 1), (180, -1), (150, -1)):
        x = compute_joints(standing(yaw))[:, 0] * side
        assert (x[LEFT][2:] > x[FLIP[LEFT]][2:]).all()
    # A turn to the person's right brings the left shoulder to the front, and the nose to the image's left.
    rotated = compute_joints(standing(30))
    assert rotated[5, 2] < rotated[6, 2] and rotated[0, 0] < 0


def test_a_standing_person_is_upright():
    y = compute_joints(standing(0))[:, 1]
    assert y[1] < y[0] < y[5] < y[7] < y[9] and y[5] < y[11] < y[13] < y[15]
    height = np.ptp(np.concatenate([part.outline for part in make_parts(standing(0))])[:, 1])
    assert 0.9 < height < 1.2


def test_face_and_chest_are_seen_from_the_front_only():
    shown = {yaw: {k for part in make_parts(standing(yaw)) for k in part.shows} for yaw in (0, 90, 180)}
    assert shown[0] == set(range(17)) and shown[180] == set(range(3, 17))
    # From the left side.
    assert {1, 3} <= shown[90] and not {2, 4} & shown[90]
    materials = [{part.material for part in make_parts(standing(yaw))} for yaw in (0, 180)]
    assert materials[0] - materials[1] == {"opening", "nose", "eyes"}


def test_layout_keeps_to_the_configuration():
    config = PersonsConfig(min_size=60, max_size=130, cut=0.3)
    images = [sample_layout(config, 0, index) for index in range(150)]
    assert {len(image) for image in images} == {1, 2, 3}
    persons = [person for image in images for person in image]
    cut = 0
    for person in persons:
        outline = np.concatenate([part.outline for part in person.parts])
        low, high = outline.min(axis=0), outline.max(axis=0)
        assert 60 - 1e-6 <= (high - low).max() <= 130 + 1e-6
        assert (person.box[:2] >= low.clip(0) - 1e-4).all() and (person.box[2:] <= high.clip(max=192) + 1e-4).all()
        beyond = np.maximum(-low, high - 192) / (high - low)
        cut += beyond.max() > 1e-6
        assert beyond.max() <= 0.3 + 1e-6
        labeled = person.keypoints[person.keypoints[:, 2] > 0]
        assert (labeled[:, :2] >= 0).all() and (labeled[:, :2] <= 192).all()
        assert not person.keypoints[person.keypoints[:, 2] == 0].any()
    assert 0.2 < cut / len(persons) < 0.4
    for image in images:
        assert all(compute_overlap(a.box, b.box) <= config.max_overlap + 1e-9 for a, b in combinations(image, 2))
    seen = np.concatenate([person.keypoints[:, 2] for person in persons])
    assert set(seen) == {0, 1, 2}
    assert all((seen == value).mean() > 0.02 for value in (0, 1, 2)) and (seen == 2).mean() > 0.6


def test_hidden_is_what_another_part_is_painted_over():
    """Against the image itself: every part is painted in a number of its own, sixteen pixels for one."""
    config, scale, compared = PersonsConfig(min_objects=2), 16, 0
    for index in range(12):
        persons = sample_layout(config, 3, index)
        painted = np.full((192 * scale, 192 * scale), -1, np.int32)
        number, last = 0, []
        for person in persons:
            last.append({})
            for part in person.parts:
                cv2.fillPoly(painted, [np.rint(part.outline * scale - 0.5).astype(np.int32)], number)
                last[-1].update(dict.fromkeys(part.shows, number))
                number += 1
        for person, shown in zip(persons, last, strict=True):
            for k, (x, y, seen) in enumerate(person.keypoints):
                column, row = int(x * scale), int(y * scale)
                around = painted[max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4]
                if seen == 0 or len(np.unique(around)) > 1:  # at an edge
                    continue
                compared += 1
                assert (seen == 1) == (around[0, 0] > shown[k])
    assert compared > 200


def test_the_box_is_that_of_what_is_synthetic():
    rng = np.random.default_rng(4)
    for index in range(20):
        (person,) = sample_layout(PersonsConfig(max_objects=1, cut=0.5), 4, index)
        canvas = Canvas(np.full((192, 192, 3), 250, np.uint8))
        draw_person(canvas, person.parts, dict.fromkeys(sample_look(rng), np.zeros(3)))
        y, x = np.nonzero((canvas.finish(0.0, rng) < 125).all(axis=2))
        np.testing.assert_allclose([x.min(), y.min(), x.max() + 1, y.max() + 1], person.box, atol=1.5)


def test_a_image_depends_on_seed_and_index_only():
    config = PersonsConfig(height=160, max_size=150)
    first = draw(config, 3, 5)
    assert first.shape == (160, 192, 3) and first.dtype == np.uint8
    assert np.array_equal(first, draw(config, 3, 5))
    assert not np.array_equal(first, draw(config, 3, 6)) and not np.array_equal(first, draw(config, 4, 5))


def test_registered_sets_are_standard_detectron2_data():
    dataset_dicts = DatasetCatalog.get("synthetic_persons_val")
    assert len(dataset_dicts) == 200
    assert check_annotations(dataset_dicts, ["person"], num_keypoints=17) == []
    metadata = MetadataCatalog.get("synthetic_persons_train")
    assert metadata.evaluator_type == "coco" and metadata.keypoint_schema == "pose17"
    assert metadata.keypoint_names == list(POSE17.names)
    assert read_image(dataset_dicts[7]).shape == (192, 192, 3)


def answers(dataset_dicts, change=lambda keypoints: keypoints):
    """The ground truth, as a network would give it."""
    for dataset_dict in dataset_dicts:
        found = Instances((dataset_dict["height"], dataset_dict["width"]))
        annotations = [a for a in dataset_dict["annotations"] if not a["iscrowd"]]
        boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations]
        found.pred_boxes = Boxes(torch.tensor(boxes))
        found.scores = torch.ones(len(annotations))
        found.pred_classes = torch.zeros(len(annotations), dtype=torch.int64)
        keypoints = torch.tensor([a["keypoints"] for a in annotations]).reshape(-1, 17, 3)
        found.pred_keypoints = change(keypoints)
        # A network puts unlabeled joints somewhere on the body.
        center = found.pred_boxes.get_centers()[:, None].expand(-1, 17, -1)
        found.pred_keypoints[..., :2] = torch.where(keypoints[..., 2:] > 0, found.pred_keypoints[..., :2], center)
        yield dataset_dict, found


def evaluated(name, tmp_path, change=lambda keypoints: keypoints) -> dict:
    evaluator = build_evaluator(engine_cfg(tmp_path), name)
    evaluator.reset()
    for dataset_dict, found in answers(DatasetCatalog.get(name), change):
        evaluator.process([dataset_dict], [{"instances": found}])
    return evaluator.evaluate()


def test_the_ground_truth_scores_100_and_exchanged_sides_do_not(tmp_path):
    name = "synthetic_persons_of_this_test"
    register_synthetic(name, PersonsConfig(), num_images=12, seed=5)
    try:
        results = evaluated(name, tmp_path)
        assert results["keypoints"]["AP"] == pytest.approx(100) and results["bbox"]["AP"] == pytest.approx(100)
        assert evaluated(name, tmp_path, lambda keypoints: keypoints[:, FLIP])["keypoints"]["AP"] < 20
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_the_ground_truth_of_cocos_photos_scores_100(shared_data, tmp_path):
    """Also with persons without a labeled joint, which count for boxes only."""
    folder, name = shared_data / "coco_person", "persons_of_this_test"
    cfg = engine_cfg(tmp_path).clone()
    cfg.defrost()
    cfg.DATASETS.CUSTOM = [[name, "pose17", str(folder / "test_coco.json"), str(folder)]]
    register_custom_datasets(cfg)
    results = evaluated(name, tmp_path)
    assert results["keypoints"]["AP"] == pytest.approx(100) and results["bbox"]["AP"] == pytest.approx(100)
    assert sum(len(dataset_dict["annotations"]) for dataset_dict in DatasetCatalog.get(name)) == 14


def test_drawing_is_quick():
    assert min(timeit.repeat(lambda: draw(PersonsConfig(), 0, 11), number=1, repeat=10)) < 0.03
