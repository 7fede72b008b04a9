"""Scores of random tracks, ours and TrackEval's (the benchmarks' own code).

    pip install --no-deps --target /tmp/trackeval trackeval
    python tools/reference/compare_tracking.py --reference /tmp/trackeval

Videos are random: objects come and go, tracks lose, swap and take over objects, boxes are inexact, some objects are
distractors. Theirs is run as it is: MOTChallenge's preprocessing, then CLEAR, Identity and HOTA, summed over videos.

CLEAR can differ where a track loses its object and finds it again: motmetrics keeps that match, TrackEval only
those of the frame just before; and it counts objects as mostly tracked from 80 % of their frames, TrackEval above that.
Hence the two kinds of videos: without gaps all must agree; with gaps identity and HOTA, and the others are shown.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from pathlib import Path

import numpy as np

from centernet_d2.evaluation.average_precision import compute_box_iou
from centernet_d2.evaluation.tracking.metrics import Frame, compare_frame, compute_scores

TOLERANCE = 1e-6
# Ours -> kind, name and factor of theirs.
THEIRS = {
    **{name: ("CLEAR", name, 1) for name in ("IDSW", "MT", "ML")},
    **{name: ("CLEAR", f"CLR_{name}", 1) for name in ("FP", "FN")},
    "MOTA": ("CLEAR", "MOTA", 100),
    "IDF1": ("Identity", "IDF1", 100),
    **{name: ("HOTA", name, 100) for name in ("HOTA", "DetA", "AssA")},
}
Raw = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def sample_video(rng: np.random.Generator, gaps: bool) -> list[Raw]:
    """Of each frame the arguments of ``compare_frame``."""
    count, length = int(rng.integers(1, 12)), int(rng.integers(20, 60))
    place, step = rng.uniform(0, 120, (count, 2)), rng.normal(0, 2, (count, 2))
    size, distractor = rng.uniform(25, 60, (count, 2)), rng.random(count) < 0.2
    first, last = np.sort(rng.integers(0, length + 1, (count, 2))).T
    track, frames, born = np.arange(1, count + 1), [], count
    for k in range(length):
        place = place + step + rng.normal(0, 1, place.shape)
        there = (first <= k) & (k < last)
        boxes = np.hstack([place, place + size])
        for i in np.flatnonzero(rng.random(count) < 0.04):
            if rng.random() < 0.5:
                j = rng.integers(count)
                track[i], track[j] = track[j], track[i]
            else:
                born += 1
                track[i] = born
        seen = there & (rng.random(count) > (0.15 if gaps else 0))
        noise = 0.12 * size.mean() * rng.normal(size=boxes.shape) * (1 if gaps else 0.2)
        false = rng.uniform(0, 150, (int(rng.integers(0, 3)), 2))
        predictions = np.vstack([(boxes + noise)[seen], np.hstack([false, false + 40])])
        ids = np.concatenate([track[seen], 10_000 + 10 * k + np.arange(len(false))])
        frames.append((np.flatnonzero(there) + 1, boxes[there], distractor[there], ids, predictions))
    return frames


def score_theirs(videos: list[list[Raw]]) -> dict[str, float]:
    from trackeval.datasets import MotChallenge2DBox
    from trackeval.metrics import CLEAR, HOTA, Identity

    dataset = MotChallenge2DBox.__new__(MotChallenge2DBox)
    dataset.benchmark, dataset.do_preproc, dataset.valid_class_numbers = "MOT17", True, list(range(1, 14))
    classes = {"pedestrian": 1, "person_on_vehicle": 2, "static_person": 7, "distractor": 8, "reflection": 12}
    dataset.class_name_to_class_id = classes
    metrics = {"CLEAR": CLEAR({"PRINT_CONFIG": False}), "Identity": Identity({"PRINT_CONFIG": False}), "HOTA": HOTA()}
    results: dict[str, dict[str, dict]] = {name: {} for name in metrics}
    for number, frames in enumerate(videos):
        data = dataset.get_preprocessed_seq_data(convert_video(frames), "pedestrian")
        for name, metric in metrics.items():
            results[name][str(number)] = metric.eval_sequence(data)
    combined = {name: metric.combine_sequences(results[name]) for name, metric in metrics.items()}
    return {ours: factor * float(np.mean(combined[kind][name])) for ours, (kind, name, factor) in THEIRS.items()}


def convert_video(frames: list[Raw]) -> dict:
    return {
        "num_timesteps": len(frames),
        "seq": "random",
        "gt_ids": [one[0] for one in frames],
        "gt_dets": [one[1] for one in frames],
        "gt_classes": [np.where(one[2], 8, 1) for one in frames],
        "gt_extras": [{"zero_marked": np.where(one[2], 0, 1)} for one in frames],
        "tracker_ids": [one[3] for one in frames],
        "tracker_dets": [one[4] for one in frames],
        "tracker_classes": [np.ones(len(one[3]), dtype=int) for one in frames],
        "tracker_confidences": [np.ones(len(one[3])) for one in frames],
        "similarity_scores": [compute_box_iou(one[1], one[4]) for one in frames],
    }


def score_ours(videos: list[list[Raw]]) -> dict[str, float]:
    compared: list[list[Frame]] = [[compare_frame(*frame) for frame in frames] for frames in videos]
    return compute_scores(compared)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="the folder that TrackEval was installed to")
    parser.add_argument("--sets", type=int, default=100, help="of three videos, of each kind")
    args = parser.parse_args()
    sys.path.insert(0, str(args.reference))
    wrong = []
    for gaps in (False, True):
        worst: dict[str, float] = {}
        for seed in range(args.sets):
            rng = np.random.default_rng([seed, gaps])
            videos = [sample_video(rng, gaps) for _ in range(3)]
            with contextlib.redirect_stdout(io.StringIO()):
                theirs = score_theirs(videos)
            ours = score_ours(videos)
            worst |= {name: max(abs(theirs[name] - ours[name]), worst.get(name, 0)) for name in theirs}
        print(f"{args.sets} sets of three videos {'with' if gaps else 'without'} gaps; largest differences:")
        print("\n".join(f"  {name:5} {value:.1e}" for name, value in worst.items()))
        wrong += [
            name for name, value in worst.items() if value > TOLERANCE and not (gaps and THEIRS[name][0] == "CLEAR")
        ]
    if wrong:
        sys.exit(f"more than {TOLERANCE}: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
