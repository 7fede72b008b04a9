"""Drawn streets: the annotations against hand-written geometry, and what can be seen against the image."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances

from centernet_d2.data.datasets.kitti import CLASS_NAMES
from centernet_d2.data.image_io import read_image
from centernet_d2.data.synthetic.street_scenes import (
    Scene,
    StreetScenesConfig,
    annotate,
    draw,
    sample_calibration,
    sample_layout,
)
from centernet_d2.data.validation.checks import check_annotations
from centernet_d2.data.validation.issues import raise_issues
from centernet_d2.evaluation.kitti.evaluator import KittiEvaluator

CONFIG = StreetScenesConfig()
SCENES = [(annotate(CONFIG, 3, i), sample_calibration(CONFIG, 3, i), sample_layout(CONFIG, 3, i)) for i in range(60)]


def corners_of(annotation: dict) -> np.ndarray:
    """(8, 3) by hand: of a box that stands on its location, its length along (cos, -sin) of rotation_y in x, z."""
    height, width, length = annotation["dim"]
    front = np.array([math.cos(annotation["rotation_y"]), 0, -math.sin(annotation["rotation_y"])])
    aside, down = np.array([-front[2], 0, front[0]]), np.array([0, 1.0, 0])
    return np.array(
        [
            np.array(annotation["location"]) + a * length / 2 * front + b * width / 2 * aside - c * height * down
            for a in (-1, 1)
            for b in (-1, 1)
            for c in (0, 1)
        ]
    )


def test_annotations_are_those_of_the_geometry():
    count = 0
    for objects, matrix, _ in SCENES:
        for one in objects:
            seen = corners_of(one) @ matrix[:, :3].T + matrix[:, 3]
            seen = seen[:, :2] / seen[:, 2:]
            x1, y1, x2, y2 = *seen.min(axis=0), *seen.max(axis=0)
            cut = [max(x1, 0), max(y1, 0), min(x2, CONFIG.width), min(y2, CONFIG.height)]
            assert one["bbox"] == pytest.approx(cut)
            area = (cut[2] - cut[0]) * (cut[3] - cut[1])
            assert one["truncated"] == pytest.approx(1 - area / ((x2 - x1) * (y2 - y1)))
            assert 0 <= one["truncated"] <= CONFIG.max_truncation
            center = np.array(one["location"]) - [0, one["dim"][0] / 2, 0]
            u, _, w = matrix[:, :3] @ center + matrix[:, 3]
            turn = one["rotation_y"] - math.atan2(u / w - matrix[0, 2], matrix[0, 0]) - one["alpha"]
            assert math.sin(turn) == pytest.approx(0, abs=1e-9) and math.cos(turn) > 0
            assert one["location"][1] == CONFIG.camera_height, "it stands on the ground"
            assert CONFIG.nearest <= one["depth"] == one["location"][2] <= CONFIG.farthest
            count += 1
    assert count > 100


def test_all_kinds_of_objects_and_views_are_there():
    every = [one for objects, *_ in SCENES for one in objects]
    assert {one["category_id"] for one in every} == {0, 1, 2} and {one["occluded"] for one in every} == {0, 1, 2}
    alphas = np.array([one["alpha"] for one in every])
    assert (np.histogram(alphas, bins=8, range=(-math.pi, math.pi))[0] > 5).all()
    points = np.array([matrix[:2, 2] for _, matrix, _ in SCENES])
    assert (np.ptp(points, axis=0) > [15, 7]).all(), "cameras differ"
    assert min(one["bbox"][3] - one["bbox"][1] for one in every) > 25, "none is too low for the benchmark"


def distances(scene: Scene) -> np.ndarray:
    """(P, height, width): how far along the ray of each pixel's center a box begins; infinity where it is not met."""
    x, y = np.meshgrid(np.arange(CONFIG.width) + 0.5, np.arange(CONFIG.height) + 0.5)
    back = np.linalg.inv(scene.calibration[:, :3])
    rays, origin = np.stack([x, y, np.ones_like(x)], axis=-1) @ back.T, -back @ scene.calibration[:, 3]
    result = []
    for (h, w, length), place, turn in zip(*(x.numpy() for x in scene.boxes), strict=True):
        front = np.array([math.cos(turn), 0, -math.sin(turn)])
        axes = np.stack([front, [0, 1, 0], [-front[2], 0, front[0]]])
        low, high = np.array([-length / 2, -h, -w / 2]), np.array([length / 2, 0, w / 2])
        start, along = axes @ (origin - place), rays @ axes.T
        ends = np.sort(np.stack([(low - start) / along, (high - start) / along]), axis=0)
        enter, leave = ends[0].max(axis=-1), ends[1].min(axis=-1)
        result.append(np.where(enter < leave, enter, np.inf))
    return np.array(result).reshape(-1, CONFIG.height, CONFIG.width)


def test_what_hides_what_is_that_of_rays():
    """Later objects are nearer wherever both are met, and visible shares are those of the nearest."""
    fractions, both = [], 0
    for _, _, scene in SCENES:
        met = distances(scene)
        for i in range(len(met)):
            for later in met[i + 1 :]:
                together = np.isfinite(met[i]) & np.isfinite(later)
                assert (later[together] < met[i][together]).all()
                both += together.sum()
            expected = (met.argmin(axis=0) == i)[np.isfinite(met[i])].mean()
            # Outlines are cut to pixels in another way.
            assert scene.visible[i] == pytest.approx(expected, abs=0.05)
            fractions.append(expected)
    assert both > 5000 and (np.array(fractions) < 0.8).sum() > 10 and min(fractions) > 0.27


def test_occlusion_has_kittis_grades():
    grades = {0: (0.85, 1.0), 1: (0.5, 0.85), 2: (0.3, 0.5)}
    for _, _, scene in SCENES:
        for grade, fraction in zip(scene.grade_occlusion(), scene.visible, strict=True):
            assert grades[grade][0] <= fraction <= grades[grade][1]


def test_boxes_stand_apart():
    for _, _, scene in SCENES:
        positions = scene.boxes.locations[:, [0, 2]].numpy()
        radii = np.hypot(*scene.boxes.dimensions[:, 1:].numpy().T) / 2
        for i in range(len(positions)):
            for j in range(i):
                assert np.hypot(*(positions[i] - positions[j])) > radii[i] + radii[j]


def test_the_front_is_lit():
    """A car that looks at the camera shows lamps, one that looks away red lights."""
    bright, red = {}, {}
    for alpha in (math.pi / 2, -math.pi / 2):
        index = next(
            i
            for i in range(3000)
            for one in annotate(CONFIG, 4, i)
            if one["category_id"] == CLASS_NAMES.index("car")
            and abs(one["alpha"] - alpha) < 0.2
            and one["occluded"] == one["truncated"] == 0
        )
        (car,) = [one for one in annotate(CONFIG, 4, index) if abs(one["alpha"] - alpha) < 0.2][:1]
        x1, y1, x2, y2 = np.rint(car["bbox"]).astype(int)
        colors = draw(replace(CONFIG, noise=0.0), 4, index)[y1:y2, x1:x2].reshape(-1, 3).astype(int)
        red[alpha] = ((colors[:, 0] > 100) & (colors[:, 1:] < 50).all(axis=1)).mean()
        bright[alpha] = ((colors[:, 0] > 140) & (colors[:, 0] - colors[:, 2] > 20) & (colors[:, 1] > 130)).mean()
    assert red[-math.pi / 2] > 0.02 > red[math.pi / 2] and bright[math.pi / 2] > 0.02


def test_a_image_depends_on_seed_and_index_only():
    first = draw(CONFIG, 3, 5)
    assert first.shape == (128, 256, 3) and first.dtype == np.uint8
    assert np.array_equal(first, draw(CONFIG, 3, 5))
    assert not np.array_equal(first, draw(CONFIG, 3, 6)) and not np.array_equal(first, draw(CONFIG, 4, 5))
    assert annotate(CONFIG, 3, 5) == annotate(CONFIG, 3, 5) != annotate(CONFIG, 3, 6)


def test_registered_sets_are_evaluated_as_kitti():
    """The ground truth, found, is all there is to find; half a meter off, it is not (of pedestrians)."""
    assert "synthetic_boxes3d_train" in DatasetCatalog
    dataset_dicts = DatasetCatalog.get("synthetic_boxes3d_val")
    assert len(dataset_dicts) == 200 and dataset_dicts[3]["calib"].shape == (3, 4)
    raise_issues("synthetic_boxes3d_val", check_annotations(dataset_dicts, list(CLASS_NAMES)))
    assert read_image(dataset_dicts[7]).shape == (128, 256, 3)
    assert MetadataCatalog.get("synthetic_boxes3d_val").evaluator_type == "kitti"
    for shift, expected in ((0.0, 100), (0.5, 0)):
        evaluator = KittiEvaluator("synthetic_boxes3d_val")
        for dataset_dict in (dataset_dict for dataset_dict in dataset_dicts[:80] if dataset_dict["annotations"]):
            evaluator.process([dataset_dict], [{"instances": gt_as_predictions(dataset_dict, shift)}])
        results = evaluator.evaluate()
        for name in CLASS_NAMES:
            assert results["kitti_2d"][f"AP40-{name}-moderate"] == pytest.approx(100)
            assert results["kitti_aos"][f"AOS40-{name}-moderate"] == pytest.approx(100)
        assert results["kitti_3d"]["AP40-pedestrian-moderate"] == pytest.approx(expected, abs=5)


def gt_as_predictions(dataset_dict: dict, shift: float) -> Instances:
    columns = {
        name: torch.tensor([one[name] for one in dataset_dict["annotations"]])
        for name in dataset_dict["annotations"][0]
    }
    found = Instances((dataset_dict["height"], dataset_dict["width"]))
    found.pred_boxes, found.pred_classes = Boxes(columns["bbox"].reshape(-1, 4)), columns["category_id"]
    found.scores = torch.linspace(0.9, 0.5, len(columns["bbox"]))
    found.pred_dimensions, found.pred_locations = columns["dim"], columns["location"] + torch.tensor([0, 0, shift])
    found.pred_alpha, found.pred_rotation_y = columns["alpha"], columns["rotation_y"]
    return found
