"""On drawn tracks, scores are those of MOTChallenge's own evaluator TrackEval: its numbers, and itself if installed."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("motmetrics")
from centernet_d2.evaluation.average_precision import compute_box_iou
from centernet_d2.evaluation.tracking.metrics import Frame, compare_frame, compute_scores

# Of draw_frames(seed), by TrackEval 1.3.0: MOTA, IDF1, HOTA, DetA, AssA, IDSW, FP, FN, MT, ML.
PUBLISHED = {
    0: [20.39801, 39.143731, 29.754444, 26.953904, 32.974376, 7, 39, 114, 2, 0],
    1: [16.176471, 40.650407, 29.465348, 30.938566, 28.262044, 6, 41, 67, 2, 2],
    3: [39.02439, 62.348178, 43.91229, 38.548296, 50.171577, 2, 37, 36, 4, 0],
    4: [5.0, 32.352941, 26.251662, 22.184231, 31.365521, 4, 37, 73, 1, 2],
}
NAMES = ["MOTA", "IDF1", "HOTA", "DetA", "AssA", "IDSW", "FP", "FN", "MT", "ML"]


def draw_frames(seed: int, length: int = 37) -> list[Frame]:
    """Eight objects that come and go, found inexactly or not at all, under ids that change, and false tracks.

    None has a multiple of five frames, of which 80 % can be found exactly: TrackEval's MT asks for more, motmetrics'
    for as many.
    """
    random = np.random.default_rng(seed)
    starts, ends = random.integers(0, 15, 8), random.integers(16, length, 8)
    ends += (ends - starts) % 5 == 0
    places, speeds, rates = random.uniform(0, 150, (8, 2)), random.normal(0, 2, (8, 2)), random.uniform(0, 1.2, 8)
    ids, frames = np.arange(8), []
    for k in range(length):
        ids = np.where(random.random(8) < 0.05, random.permutation(ids), ids)
        true = np.flatnonzero((starts <= k) & (k < ends))
        found = true[random.random(len(true)) < rates[true]]
        corners = places + k * speeds
        boxes = np.hstack([corners, corners + 40])
        noisy = boxes[found] + random.normal(0, 5, (len(found), 4))
        predicted, first = np.unique(ids[found], return_index=True)
        x, y = random.uniform(0, 150, 2)
        tracks, false = np.append(predicted, 20 + k // 9), [x, y, x + 40, y + 40]
        frames.append(Frame(true, tracks, compute_box_iou(boxes[true], np.vstack([noisy[first], false]))))
    return frames


def evaluate_by_trackeval(frames: list[Frame]) -> list[float]:
    metrics = pytest.importorskip("trackeval.metrics")
    true = np.unique(np.concatenate([frame.true_ids for frame in frames]))
    tracks = np.unique(np.concatenate([frame.pred_ids for frame in frames]))
    data = {
        "num_timesteps": len(frames),
        "num_gt_ids": len(true),
        "num_tracker_ids": len(tracks),
        "num_gt_dets": sum(len(frame.true_ids) for frame in frames),
        "num_tracker_dets": sum(len(frame.pred_ids) for frame in frames),
        "gt_ids": [np.searchsorted(true, frame.true_ids) for frame in frames],
        "tracker_ids": [np.searchsorted(tracks, frame.pred_ids) for frame in frames],
        "similarity_scores": [frame.overlaps for frame in frames],
    }
    quiet = {"PRINT_CONFIG": False}
    values = metrics.CLEAR(quiet).eval_sequence(data) | metrics.Identity(quiet).eval_sequence(data)
    values |= metrics.HOTA().eval_sequence(data)
    fractions = [100 * float(np.mean(values[name])) for name in NAMES[:5]]
    return fractions + [int(values[f"CLR_{name}" if name in ("FP", "FN") else name]) for name in NAMES[5:]]


@pytest.mark.parametrize("seed", PUBLISHED)
def test_scores_are_those_of_trackeval(seed: int) -> None:
    scores = compute_scores([draw_frames(seed)])
    assert [scores[name] for name in NAMES] == pytest.approx(PUBLISHED[seed], abs=1e-6)


def test_trackeval_itself() -> None:
    """motmetrics lets an object go on with a track of long ago; TrackEval only with that of the previous frame."""
    pytest.importorskip("trackeval")
    equal = []
    for seed in range(40):
        frames = draw_frames(seed)
        expected = dict(zip(NAMES, evaluate_by_trackeval(frames), strict=True))
        scores = compute_scores([frames])
        for name in ("IDF1", "HOTA", "DetA", "AssA", "FP", "FN"):
            assert scores[name] == pytest.approx(expected[name], abs=1e-9), (seed, name)
        assert scores["IDSW"] <= expected["IDSW"]
        equal.append(all(scores[name] == pytest.approx(expected[name], abs=1e-9) for name in NAMES))
    assert sum(equal) >= 35


@pytest.mark.parametrize(("height", "left"), [(20, 0), (19.9, 1)])
def test_half_of_an_ignored_region_is_enough(height: float, left: int) -> None:
    region, track = np.array([[0.0, 0, 40, 40]]), np.array([[0.0, 0, 40, height]])
    frame = compare_frame(np.array([1]), region, np.array([True]), np.array([7]), track)
    assert len(frame.true_ids) == 0 and len(frame.pred_ids) == left and frame.overlaps.shape == (0, left)
