"""Scores of tracks: closed forms of small cases."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from centernet_d2.evaluation.average_precision import compute_box_iou
from centernet_d2.evaluation.tracking.metrics import HOTA_OVERLAPS, compare_frame
from tests.helpers.tracks import (
    LENGTH,
    Object,
    Track,
    at,
    evaluator,
    name_outputs,
    percent,
    process,
    scores,
    two,
)


def test_ground_truth_gives_100(caplog: pytest.LogCaptureFixture) -> None:
    predictions = scores(two, lambda k: name_outputs(two(k), {1: 7, 2: 9}))
    assert predictions == percent(1, 1, 1, 1, MT=2) and "Only" not in caplog.text


def test_objects_without_the_mark_of_regions_count() -> None:
    one = evaluator({1: [two(k) for k in range(LENGTH)]})
    for frame in one._dataset_dicts.values():
        for annotation in frame["annotations"]:
            del annotation["iscrowd"]
    process(one, 1, [name_outputs(two(k), {1: 7}) for k in range(LENGTH)])
    assert one.evaluate()["tracking"] == percent(0.5, 20 / 30, 0.5, 1, FN=LENGTH, MT=1, ML=1)


def test_one_track_id_changes_in_the_center() -> None:
    """One of two objects is found under two track ids, half of its frames each: one switch of 20 boxes.

    IDF1: the best whole track has 5 frames of the object: 15 of 20. Association: 10 boxes at 1, 10 at 5 / 10.
    """
    predictions = scores(two, lambda k: name_outputs(two(k), {1: 7, 2: 9 if k < 5 else 11}))
    assert predictions == percent(1 - 1 / 20, 15 / 20, 1, (10 * 1 + 10 * 0.5) / 20, IDSW=1, MT=2)


def test_two_track_ids_are_swapped_in_the_center() -> None:
    """Two switches; each pair of object and track shares 5 of 15 frames."""
    predictions = scores(two, lambda k: name_outputs(two(k), {1: 7, 2: 9} if k < 5 else {1: 9, 2: 7}))
    assert predictions == percent(1 - 2 / 20, 0.5, 1, 5 / 15, IDSW=2, MT=2)


def test_the_second_half_of_an_object_is_lost() -> None:
    """5 of 20 boxes are missed. IDF1 2 * 15 / (20 + 15). Association: 10 boxes at 1, 5 at 5 / 10."""
    predictions = scores(two, lambda k: name_outputs(two(k), {1: 7, 2: 9} if k < 5 else {1: 7}))
    assert predictions == percent(15 / 20, 30 / 35, 15 / 20, (10 + 5 * 0.5) / 15, FN=5, MT=1)


def test_an_object_is_never_found_and_a_track_follows_nothing() -> None:
    predictions = scores(two, lambda k: [*name_outputs(two(k), {1: 7}), (8, 0, at(600), 0.5)])
    assert predictions == percent(1 - 20 / 20, 20 / 40, 10 / 30, 1, FP=10, FN=10, MT=1, ML=1)


def test_nothing_is_found() -> None:
    assert scores(two, lambda k: []) == percent(0, 0, 0, 0, FN=20, ML=2)


@pytest.mark.parametrize(("overlap", "right"), [(0.49, False), (0.5, True), (0.76, True)])
def test_inexact_boxes(overlap: float, right: bool) -> None:
    """A box of ``overlap`` times the width has that overlap: right for MOTA from 0.5 on, for HOTA up to there."""
    wide = [0.0, 0.0, 100.0, 50.0]
    predictions = scores(lambda k: [(1, 0, wide, 0)], lambda k: [(4, 0, [0, 0, 100 * overlap, 50], 0.9)])
    fraction = float((overlap + 1e-6 >= HOTA_OVERLAPS).mean())
    assert [predictions[name] for name in ("HOTA", "DetA", "AssA")] == pytest.approx([100 * fraction] * 3)
    assert (predictions["MOTA"], predictions["IDF1"], predictions["FP"]) == (
        (100, 100, 0) if right else (-100, 0, LENGTH)
    )


def test_regions_are_neither_missed_nor_a_error_to_find() -> None:
    """A region that is found, one that is not, and a box at a region that overlaps too little."""

    def objects(frame: int) -> list[Object]:
        return [*two(frame), (3, 0, at(300), 1), (4, 0, at(500), 1), (5, 0, at(700), 1)]

    def tracks(frame: int) -> list[Track]:
        return [*name_outputs(objects(frame), {1: 7, 2: 8, 3: 9}), (10, 0, at(720), 0.9)]

    assert scores(objects, tracks) == percent(1 - 10 / 20, 40 / 50, 20 / 30, 1, FP=10, MT=2)


def test_the_best_match_decides_between_object_and_region() -> None:
    """A box goes to the object although it overlaps a region, and a second one there is forgiven."""
    ids, boxes = np.array([1, 2]), np.array([at(0), at(5)], dtype=np.float64)
    region = np.array([False, True])
    predictions = np.array([at(1), at(6)], dtype=np.float64)
    one = compare_frame(ids, boxes, region, np.array([5, 6]), predictions)
    assert one.pred_ids.tolist() == [5] and one.true_ids.tolist() == [1]
    assert one.overlaps == pytest.approx(np.array([[39 / 41]]))
    # Alone, the one that is nearer to the region belongs to it, though it overlaps the object by 34 / 46.
    one = compare_frame(ids, boxes, region, np.array([6]), predictions[1:])
    assert one.pred_ids.tolist() == [] and one.overlaps.shape == (1, 0)


def test_overlaps_against_counted_pixels() -> None:
    generator = np.random.default_rng(0)
    corners = generator.integers(0, 12, (2, 15, 4))
    a, b = (np.stack([x[:, 0], x[:, 1], x[:, 0] + x[:, 2], x[:, 1] + x[:, 3]], axis=1) for x in corners)
    masks = []
    for boxes in (a, b):
        mask = np.zeros((15, 30, 30), dtype=bool)
        for k, (x1, y1, x2, y2) in enumerate(boxes):
            mask[k, y1:y2, x1:x2] = True
        masks.append(mask.reshape(15, -1))
    shared = (masks[0][:, None] & masks[1]).sum(axis=2)
    union = (masks[0][:, None] | masks[1]).sum(axis=2)
    assert compute_box_iou(a.astype(float), b.astype(float)) == pytest.approx(shared / union.clip(min=1))


def best_hota(objects: list[list[Object]], tracks: list[list[Track]]) -> float:
    """HOTA of exact boxes by all ways to match each frame: what the definition maximizes."""
    ways: list[list[tuple[tuple[int, int], ...]]] = []
    for true, predictions in zip(objects, tracks, strict=True):
        pairs = [(t[0], f[0]) for t in true for f in predictions if t[2] == f[2]]
        ways.append([
            chosen
            for n in range(len(pairs) + 1)
            for chosen in itertools.combinations(pairs, n)
            if len({t for t, _ in chosen}) == len({f for _, f in chosen}) == n
        ])  # fmt: skip
    total = sum(map(len, objects)) + sum(map(len, tracks))
    frames = {(kind, one[0]): 0 for kind, rows in enumerate((objects, tracks)) for row in rows for one in row}
    for kind, rows in enumerate((objects, tracks)):
        for one in itertools.chain(*rows):
            frames[kind, one[0]] += 1
    best = 0.0
    for way in itertools.product(*ways):
        chosen = list(itertools.chain(*way))
        counts = {pair: chosen.count(pair) for pair in chosen}
        fractions = sum(n * n / (frames[0, t] + frames[1, f] - n) for (t, f), n in counts.items())
        best = max(best, math.sqrt(fractions / (total - len(chosen))))
    return 100 * best


def test_hota_matches_for_the_best_association() -> None:
    """Two tracks lie on one object, now the one first and now the other: all ways to choose are tried."""
    one: list[Object] = [(1, 0, at(0), 0)]
    long, short = (5, 0, at(0), 0.9), (3, 0, at(0), 0.9)
    tracks = [[short, long], [long], [long, short], [long], [short, long]]
    video = evaluator({1: [one] * 5})
    process(video, 1, tracks)
    assert video.evaluate()["tracking"]["HOTA"] == pytest.approx(best_hota([one] * 5, tracks))


def test_videos_do_not_share_track_ids() -> None:
    """The same numbers in two videos, on objects in another order; the first is half lost."""
    videos = {1: [two(k) for k in range(LENGTH)], 2: [two(k) for k in range(LENGTH)]}
    one = evaluator(videos)
    process(one, 1, [name_outputs(two(k), {1: 7} if k < 5 else {}) for k in range(LENGTH)])
    process(one, 2, [name_outputs(two(k), {1: 9, 2: 7}) for k in range(LENGTH)])
    predictions = one.evaluate()["tracking"]
    assert predictions == percent(25 / 40, 50 / 65, 25 / 40, (20 + 5 * 0.5) / 25, FN=15, MT=2, ML=1)


def test_classes_are_scored_apart_and_together() -> None:
    """The car is never found, and a car is found on the person; of regions, a person's forgives no car."""

    def objects(frame: int) -> list[Object]:
        return [(1, 0, at(0), 0), (2, 1, at(200), 0), (3, 0, at(400), 1)]

    def tracks(frame: int) -> list[Track]:
        return [(1, 0, at(0), 0.9), (2, 1, at(0), 0.9), (3, 1, at(400), 0.9)]

    predictions = scores(objects, tracks, class_names=("person", "car"))
    overall = {name: value for name, value in predictions.items() if "-" not in name}
    by_class = {
        one: {key.split("-")[0]: value for key, value in predictions.items() if key.endswith(f"-{one}")}
        for one in ("person", "car")
    }
    assert by_class["person"] == percent(1, 1, 1, 1, MT=1)
    assert by_class["car"] == percent(-2, 0, 0, 0, FP=20, FN=10, ML=1)
    assert overall == percent(1 - 30 / 20, 20 / 50, 10 / 40, 1, FP=20, FN=10, MT=1, ML=1)


def test_a_class_without_objects_has_no_score() -> None:
    predictions = scores(two, lambda k: name_outputs(two(k), {1: 7, 2: 9}), class_names=("person", "car"))
    assert predictions["MOTA"] == 100
    assert all(math.isnan(predictions[f"{name}-car"]) for name in ("MOTA", "IDF1", "HOTA", "DetA", "AssA"))
