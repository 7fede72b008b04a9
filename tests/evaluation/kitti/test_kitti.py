"""KITTI's evaluator: ground truth, hand-made cases, and the same counting in plain loops."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from detectron2.data import MetadataCatalog
from detectron2.utils import comm

from centernet_d2.data.datasets.kitti import CLASS_NAMES, KITTI_METADATA
from centernet_d2.evaluation import build_evaluator, common
from centernet_d2.evaluation.kitti.evaluator import KittiEvaluator
from centernet_d2.evaluation.kitti.metrics import (
    DIFFICULTIES,
    LOOSE,
    OFFICIAL,
    Image,
    Objects,
    select_recall_thresholds,
    select_scene,
)
from tests.evaluation.kitti import kitti_loops
from tests.evaluation.kitti.kitti_objects import (
    CAR,
    COUNT,
    along,
    evaluated,
    evaluator,
    instances,
    predictions,
    random_images,
    random_object,
    repeated,
    shifted,
)
from tests.helpers.tiny import tiny_cfg


def test_ground_truth_is_found():
    rng = np.random.default_rng(0)
    images = []
    for _ in range(COUNT):
        true = [random_object(rng, name) for name in CLASS_NAMES]
        for k, one in enumerate(true):
            one.update(box=[200.0 * k, 100, 200 * k + 80, 160], place=[10.0 * k, 1.5, 20], occluded=0, truncated=0.0)
        images.append((true, [predictions(one, float(rng.random())) for one in true]))
    results = evaluated(images)
    assert list(results) == ["kitti_2d", "kitti_aos", "kitti_bev", "kitti_3d", "kitti_bev_loose", "kitti_3d_loose"]
    for task, values in results.items():
        measure = "AOS" if task == "kitti_aos" else "AP"
        names = {f"{measure}{n}-{c}-{d}" for n in (40, 11) for c in CLASS_NAMES for d in ("easy", "moderate", "hard")}
        assert set(values) == names | {f"{measure}40", f"{measure}11"}
        assert all(value == pytest.approx(100, abs=1e-9) for value in values.values())


def test_one_missed_object_leaves_the_last_recall_empty():
    results = evaluated([([CAR], [predictions(CAR)])] * (COUNT - 1) + [([CAR], [])])
    for task, measure in (("kitti_2d", "AP"), ("kitti_aos", "AOS"), ("kitti_3d", "AP")):
        assert results[task][f"{measure}40-car-easy"] == pytest.approx(100 * 39 / 40)
        assert results[task][f"{measure}11-car-easy"] == pytest.approx(100 * 10 / 11)
    # There are no others, and the mean is over what there is.
    assert math.isnan(results["kitti_2d"]["AP40-pedestrian-easy"])
    assert results["kitti_2d"]["AP40"] == results["kitti_2d"]["AP40-car-moderate"]


BAD = {**CAR, "box": shifted(CAR["box"], 300), "place": [10.0, 1.5, 60]}
LOW = {**BAD, "box": [400.0, 100, 440, 124.5]}
VAN, TRUCK, SITTING = ({**BAD, "type": kind} for kind in ("van", "truck", "person_sitting"))
# Of a detection 60 wide, 43 and 41: more and less than 0.7.
REGION, SMALL_REGION = ({**BAD, "type": "dontcare", "box": [400, 0, 400 + width, 300]} for width in (43, 41))
CASES = {
    "nothing else": ([], [], 100),
    "an object twice": ([], [CAR], 50),
    "another place": ([], [BAD], 50),
    "two other places": ([], [BAD, {**BAD, "box": shifted(BAD["box"], 90)}], 100 / 3),
    "too low": ([], [LOW], 100),
    "a low one of another class": ([], [{**LOW, "type": "cyclist"}], 100),
    "another class": ([], [{**BAD, "type": "cyclist"}], 100),
    "in a DontCare region": ([REGION], [BAD], 100),
    "less in a DontCare region": ([SMALL_REGION], [BAD], 50),
    "twice in a DontCare region": ([REGION, REGION], [BAD, {**BAD, "box": shifted(BAD["box"], 200)}], 50),
    "a van": ([VAN], [BAD], 100),
    "a truck": ([TRUCK], [BAD], 50),
    "a sitting person": ([SITTING], [BAD], 50),
    "a sitting person found as a pedestrian": ([SITTING], [{**BAD, "type": "pedestrian"}], 100),
    "an occluded car": ([{**BAD, "occluded": 1}], [BAD], 100),
    "a truncated car": ([{**BAD, "truncated": 0.16}], [BAD], 100),
    "a low car, found taller": ([{**BAD, "box": [400, 100, 460, 139]}], [{**BAD, "box": [400, 100, 460, 141]}], 100),
    "a car out of sight": ([{**BAD, "occluded": 3}], [], 100),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_an_error(name):
    """All scores are equal, so everything counts at every recall."""
    true, objects, expected = CASES[name]
    results = repeated([CAR, *true], [predictions(one) for one in (CAR, *objects)])
    assert results["kitti_2d"]["AP40-car-easy"] == pytest.approx(expected)
    assert results["kitti_2d"]["AP11-car-easy"] == pytest.approx(expected)


def test_an_overlap_of_just_the_least_is_none():
    """Half of a pedestrian is not found by it, and half in a DontCare region is not excused; a little more is."""
    person = {**CAR, "type": "pedestrian", "box": [100.0, 100, 160, 164]}
    away = {**person, "box": [400.0, 100, 460, 164], "place": [10.0, 1.5, 60]}
    for width, expected in ((30, 50), (30.5, 100)):
        half = {**person, "box": [100.0, 100, 100 + width, 164]}
        results = repeated([person], [predictions(half)])["kitti_2d"]
        assert results["AP40-pedestrian-easy"] == pytest.approx(expected if expected == 100 else 0)
        region = {**away, "type": "dontcare", "box": [400, 0, 400 + width, 300]}
        results = repeated([person, region], [predictions(person), predictions(away)])["kitti_2d"]
        assert results["AP40-pedestrian-easy"] == pytest.approx(expected)


def test_limits_of_difficulties():
    """Heights 40 and 25, occlusion 0, 1 and 2, truncation 0.15, 0.3 and 0.5 still count, and a little more does not."""
    heights = np.array([40, 39.5, 25, 24.5, *[60] * 10])
    occluded, truncated = np.zeros(14, dtype=np.int64), np.zeros(14)
    occluded[4:8], truncated[8:] = range(4), (0.15, 0.16, 0.3, 0.31, 0.5, 0.51)
    boxes = np.stack([0 * heights, 0 * heights, 30 + 0 * heights, heights], axis=1)
    true = Objects(np.array(["car"] * 14), boxes, occluded=occluded, truncated=truncated)
    found = Objects(np.array(["car"] * 14), boxes, scores=np.ones(14))
    expected = {"easy": [0, 4, 8], "moderate": [0, 1, 2, 4, 5, 8, 9, 10], "hard": [0, 1, 2, 4, 5, 6, 8, 9, 10, 11, 12]}
    for level, counted in expected.items():
        scene = select_scene(Image(true, found), "2d", "car", DIFFICULTIES[level], 0.7)
        assert scene.must.nonzero()[0].tolist() == counted
        assert scene.small.nonzero()[0].tolist() == ([1, 2, 3] if level == "easy" else [3])


def test_regions_do_not_excuse_in_space():
    results = repeated([CAR, REGION], [predictions(CAR), predictions(BAD)])
    assert (results["kitti_2d"]["AP40"], results["kitti_bev"]["AP40"], results["kitti_3d"]["AP40"]) == (100, 50, 50)


def test_low_detections_can_take_an_object_but_never_count():
    """The object is 26 high; a detection of 24 overlaps it by 0.92."""
    true = {**CAR, "box": [100.0, 100, 160, 126]}
    low = {**CAR, "box": [100.0, 100, 160, 124]}
    assert repeated([true], [predictions(low)])["kitti_2d"]["AP40-car-moderate"] == 0
    for kind in ("car", "cyclist"):
        # It scores higher, so that there is no score to evaluate at.
        results = repeated([true], [predictions(true, 0.5), predictions(low, 0.9, type=kind)])
        assert results["kitti_2d"]["AP40-car-moderate"] == 0
        assert (
            repeated([true], [predictions(low, 0.4, type=kind), predictions(true, 0.5)])["kitti_2d"][
                "AP40-car-moderate"
            ]
            == 100
        )


def test_objects_choose_in_the_order_of_the_label_file():
    """A van and a car at one place: the first of them has the detection."""
    van = {**CAR, "type": "van"}
    assert repeated([CAR, van], [predictions(CAR)])["kitti_2d"]["AP40"] == 100
    assert repeated([van, CAR], [predictions(CAR)])["kitti_2d"]["AP40"] == 0


@pytest.mark.parametrize("total", [1, 40, 42, 100, 399, 400])
def test_scores_are_read_at_41_recalls(total):
    """The k-th hit has the score -k and the recall k / total."""
    for hits in {1, total // 3 + 1, total}:
        scores = -np.arange(1.0, hits + 1)
        read = select_recall_thresholds(np.random.default_rng(0).permutation(scores), total)
        assert read.tolist() == kitti_loops.thresholds(scores.tolist(), total)
        assert len(read) <= 41 and read[-1] == -hits
        # Each hit is read once, so the nearest ones are different only where there are more of them than recalls.
        if total >= 100:
            wanted = np.linspace(0, 1, 41)[: len(read) - 1]
            nearest = np.abs(scores[:, None] / total + wanted).min(axis=0)
            assert np.abs(-read[:-1] / total - wanted) == pytest.approx(nearest)


def test_difficulties():
    levels = [CAR, {**BAD, "occluded": 1}, {**TRUCK, "type": "car", "box": [800, 0, 860, 90], "truncated": 0.5}]
    missed = repeated(levels, [predictions(CAR)])["kitti_2d"]
    fractions = [missed[f"AP40-car-{level}"] for level in ("easy", "moderate", "hard")]
    # Of 41, 82 and 123 objects 41 are found, all with one score: recall goes on until 1, 1/2 and 1/3.
    assert fractions == pytest.approx([100, 50, 32.5], abs=2.6)
    assert len(set(fractions)) == 3


@pytest.mark.parametrize("angle", [0, math.pi / 3, math.pi / 2, math.pi, -math.pi / 3, 2 * math.pi])
def test_orientation(angle):
    results = repeated([CAR], [predictions(CAR, alpha=CAR["alpha"] + angle)])
    assert results["kitti_2d"]["AP40"] == 100
    assert results["kitti_aos"]["AOS40"] == pytest.approx(50 * (1 + math.cos(angle)), abs=1e-9)
    both = repeated([CAR], [predictions(CAR, alpha=CAR["alpha"] + angle), predictions(BAD)])
    assert both["kitti_aos"]["AOS11"] == pytest.approx(25 * (1 + math.cos(angle)), abs=1e-9)


def test_overlaps_in_space():
    """A car moved by s along its length l overlaps by (l - s) / (l + s); raised by r of h, by (h - r) / (h + r)."""

    def scores(**changes: Any) -> list[float]:
        results = repeated([CAR], [predictions(CAR, **changes)])
        assert results["kitti_2d"]["AP40"] == 100
        return [results[f"kitti_{task}"]["AP40"] for task in ("bev", "3d", "bev_loose", "3d_loose")]

    assert scores(place=along(CAR, 4 * 0.29 / 1.71)) == [100, 100, 100, 100]  # 0.71
    assert scores(place=along(CAR, 4 * 0.31 / 1.69)) == [0, 0, 100, 100]  # 0.69
    assert scores(place=along(CAR, 4 * 0.51 / 1.49)) == [0, 0, 0, 0]  # 0.49
    assert scores(place=[2, 1.5 - 1.5 * 0.31 / 1.69, 20]) == [100, 0, 100, 100]
    assert scores(size=[0.74, 1.6, 4]) == [100, 0, 100, 0]
    assert scores(ry=0.6 + math.pi) == [100, 100, 100, 100]


@pytest.mark.parametrize("seed", range(3))
def test_against_plain_loops(seed):
    images = random_images(seed, 60)
    results = evaluated(images)
    seen = set()
    for task, kind, overlaps in (
        ("kitti_2d", "2d", OFFICIAL),
        ("kitti_bev", "bev", OFFICIAL),
        ("kitti_3d", "3d", OFFICIAL),
        ("kitti_bev_loose", "bev", LOOSE),
        ("kitti_3d_loose", "3d", LOOSE),
    ):
        for name, level in itertools.product(CLASS_NAMES, kitti_loops.LIMITS):
            values = kitti_loops.average_precisions(images, kind, name, level, overlaps[name])
            ours = [results[task][f"AP{count}-{name}-{level}"] for count in (40, 11)]
            if kind == "2d":
                ours += [results["kitti_aos"][f"AOS{count}-{name}-{level}"] for count in (40, 11)]
            assert ours == pytest.approx(values[: len(ours)], abs=1e-9, nan_ok=True), (task, name, level)
            seen.add(round(values[0], 6))
    assert len(seen) > 20


def test_what_is_not_predicted_is_not_measured(tmp_path):
    one = evaluator([[CAR]] * COUNT, tmp_path)
    for number in range(COUNT):
        flat = instances([predictions(CAR)])
        for field in ("pred_alpha", "pred_dimensions", "pred_locations", "pred_rotation_y"):
            flat.remove(field)
        one.process([{"image_id": number}], [{"instances": flat}])
    results = one.evaluate()
    assert list(results) == ["kitti_2d"] and results["kitti_2d"]["AP40"] == 100
    expected = "Car -1 -1 -10 100 100 160 150 -1 -1 -1 -1000 -1000 -1000 -10 0.9\n"
    assert (tmp_path / "000000.txt").read_text() == expected


def test_values_that_are_no_numbers_find_nothing():
    assert repeated([CAR], [predictions(CAR, place=[math.nan, 1.5, 20])])["kitti_2d"]["AP40"] == 0
    assert repeated([CAR], [predictions(CAR), predictions(CAR, math.inf)])["kitti_2d"]["AP40"] == 100


def test_processes_share_images(monkeypatch):
    """Two processes, one image in both."""
    images = random_images(7, 20)
    expected = evaluated(images)
    parts = []
    for numbers in (range(11), range(10, 20)):
        one = evaluator([true for true, _ in images])
        for number in numbers:
            one.process([{"image_id": number}], [{"instances": instances(images[number][1])}])
        parts.append(one._predictions)
    monkeypatch.setattr(common, "gather_arrays", lambda data: parts)
    results = one.evaluate()
    assert list(results) == list(expected)
    for task, values in results.items():
        assert values == pytest.approx(expected[task], nan_ok=True)
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert one.evaluate() == {}


def test_files_for_the_server(tmp_path):
    """In a folder that is made, or there already."""
    out = tmp_path / "made" / "out"
    one = evaluator([[CAR], [CAR]], out)
    one.process(
        [{"image_id": 1}], [{"instances": instances([predictions(CAR, 0.123456), predictions(BAD, type="cyclist")])}]
    )
    one.process([{"image_id": 0}], [{"instances": instances([])}])
    one.evaluate()
    one.evaluate()
    assert (out / "000000.txt").read_text() == ""
    assert (out / "000001.txt").read_text().splitlines() == [
        "Car -1 -1 0.5 100 100 160 150 1.5 1.6 4 2 1.5 20 0.6 0.123456",
        "Cyclist -1 -1 0.5 400 100 460 150 1.5 1.6 4 10 1.5 60 0.6 0.9",
    ]


def test_it_is_what_the_metadata_names(tmp_path, caplog):
    assert KITTI_METADATA["evaluator_type"] == "kitti"
    name = evaluator([[CAR]])._dataset_name
    one = build_evaluator(tiny_cfg("OUTPUT_DIR", str(tmp_path)), name)
    assert isinstance(one, KittiEvaluator)
    assert one.evaluate() == {}
    assert f"Only 0 of the 1 images of {name}" in caplog.text
    MetadataCatalog.remove(name)
    MetadataCatalog.get(name).set(thing_classes=["car", "tram"])
    with pytest.raises(ValueError, match="has the classes car, tram, not of car, pedestrian, cyclist"):
        KittiEvaluator(name)
