"""Easy, medium and hard average precision of detections around WIDER FACE's true faces, ours and a published port's.

    git clone https://github.com/zhly0/WiderFace-Evaluation /tmp/WiderFace-Evaluation
    pip install scipy
    python tools/reference/compare_wider_face.py --reference /tmp/WiderFace-Evaluation

Theirs is the Python port of the benchmark's tool that published face detectors are scored with, run as it is but for
reading the detections, which they want sorted, and what NumPy has dropped since. Its ground_truth folder is that of the
tool. It takes a minute or three.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import sys
import types
from pathlib import Path

import numpy as np

from centernet_d2.data.preparation.wider_face import DIFFICULTIES, read_difficulty
from centernet_d2.evaluation.wider_face import Detections, Faces, average_precisions

MAX_DETECTIONS = 50
TOLERANCE = 1e-6


def load_reference(folder: Path) -> types.ModuleType:
    vars(np)["float"] = float  # removed from NumPy
    sys.modules.setdefault("IPython", types.ModuleType("IPython")).embed = None
    sys.path.insert(0, str(folder))
    return importlib.import_module("evaluation")


def read_faces(folder: Path) -> dict[str, Faces]:
    lists = {name: read_difficulty(folder / f"wider_{name}_val.mat") for name in DIFFICULTIES}
    gt = {}
    for key, faces in lists["easy"].items():
        boxes = np.array(faces)[:, :4]
        boxes[:, 2:] += boxes[:, :2]
        counts = {name: np.array(one[key])[:, 4] > 0 for name, one in lists.items()}
        gt[key] = Faces(boxes, counts)
    return gt


def make_detections(gt: dict[str, Faces], seed: int) -> dict[str, Detections]:
    """Around the largest faces, some twice, some beside; a twentieth of the images has none."""
    rng = np.random.default_rng(seed)
    predictions = {}
    for key, faces in gt.items():
        sizes = faces.boxes[:, 2:] - faces.boxes[:, :2]
        chosen = np.argsort(-sizes.prod(axis=1))[:MAX_DETECTIONS]
        chosen = rng.choice(chosen, rng.integers(0, MAX_DETECTIONS) * (rng.random() > 0.05))
        moved = rng.normal(0, 0.15, (len(chosen), 2)) * sizes[chosen]
        boxes = np.hstack([faces.boxes[chosen, :2] + moved, faces.boxes[chosen, 2:] + moved]).round(1)
        scores = np.sort(rng.beta(2, 2, len(chosen)).round(4))[::-1]
        predictions[key] = Detections(boxes, scores)
    return predictions


def run_theirs(reference: types.ModuleType, folder: Path, predictions: dict[str, Detections]) -> dict[str, float]:
    rows: dict[str, dict[str, np.ndarray]] = {}
    for key, one in predictions.items():
        event, name = key.split("/")
        sized = np.hstack([one.boxes[:, :2], one.boxes[:, 2:] - one.boxes[:, :2], one.scores[:, None]])
        rows.setdefault(event, {})[name] = sized
    results: list[float] = []
    measure = reference.voc_ap
    reference.get_preds = lambda _: rows
    reference.voc_ap = lambda *curve: results.append(measure(*curve)) or results[-1]
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        np.errstate(all="ignore"),
    ):
        reference.evaluation("", str(folder))
    reference.voc_ap = measure
    return {name: 100 * value for name, value in zip(DIFFICULTIES, results, strict=True)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="a checkout of zhly0/WiderFace-Evaluation")
    folder = parser.parse_args().reference
    reference, gt = load_reference(folder), read_faces(folder / "ground_truth")
    worst = 0.0
    for seed in range(2):
        predictions = make_detections(gt, seed)
        number = sum(len(one.scores) for one in predictions.values())
        print(f"{len(gt)} images, {sum(len(one.boxes) for one in gt.values())} faces, {number} detections")
        ours, published = (
            average_precisions(gt, predictions),
            run_theirs(reference, folder / "ground_truth", predictions),
        )
        for name in DIFFICULTIES:
            error = abs(ours[name] - published[name])
            worst = max(worst, error)
            verdict = "ok " if error <= TOLERANCE else "BAD"
            print(f"{verdict} {name}: ours {ours[name]:.6f}, theirs {published[name]:.6f}, difference {error:.1e}")
    return int(not worst <= TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
