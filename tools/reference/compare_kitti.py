"""KITTI's average precisions and orientation similarities of random detections, ours and a published port's.

    git clone https://github.com/traveller59/kitti-object-eval-python /tmp/kitti-object-eval-python
    pip install numba scipy
    python tools/reference/compare_kitti.py --reference /tmp/kitti-object-eval-python

Theirs is the Python port of the benchmark's kit that many 3D detectors are scored with, run as it is; its GPU kernel of
rotated boxes runs in Numba's simulator. It takes a few minutes.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import types
from pathlib import Path

import numpy as np
import torch

from centernet_d2.evaluation.kitti.metrics import DIFFICULTIES, LOOSE, OFFICIAL, Image, Objects, average_precisions
from centernet_d2.structures.boxes3d import Boxes3D

IMAGES = 40
TRUE_TYPES = ["Car", "Car", "Pedestrian", "Cyclist", "Van", "Person_sitting", "DontCare"]
CLASSES = ["car", "pedestrian", "cyclist"]
KINDS = ["2d", "bev", "3d"]
TOLERANCE = 1e-6


def load_reference(folder: Path) -> types.ModuleType:
    os.environ["NUMBA_ENABLE_CUDASIM"] = "1"
    sys.path.insert(0, str(folder))
    # Their import of the kernel names the project that it was taken from.
    for name in ("second", "second.core", "second.core.non_max_suppression"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["second.core.non_max_suppression.nms_gpu"] = importlib.import_module("rotate_iou")
    return importlib.import_module("eval")


def make_truth(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One image's objects as the port reads them from a label file: sizes are length, height, width."""
    number = int(rng.integers(4, 14))
    corner, size = rng.uniform(0, [1000, 250], (number, 2)), rng.uniform(15, 120, (number, 2))
    return {
        "name": rng.choice(TRUE_TYPES, number),
        "bbox": np.hstack([corner, corner + size]),
        "alpha": rng.uniform(-np.pi, np.pi, number),
        "dimensions": rng.uniform([3, 1.4, 1.5], [5, 1.8, 2], (number, 3)),
        "location": rng.uniform([-20, 1, 5], [20, 2, 50], (number, 3)),
        "rotation_y": rng.uniform(-np.pi, np.pi, number),
        "occluded": rng.integers(0, 4, number),
        "truncated": rng.choice([0.0, 0.1, 0.2, 0.4, 0.8], number),
    }


def make_predictions(truth: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Near the true objects, some twice, some of another class; a fifth lies anywhere."""
    count = len(truth["name"])
    chosen = rng.choice(count, int(rng.integers(count, 2 * count)))
    names = np.where(np.isin(truth["name"], ["Car", "Pedestrian", "Cyclist"]), truth["name"], "Car")[chosen]
    other = rng.random(len(chosen)) < 0.1
    noise = rng.choice([0.01, 0.05, 0.3], len(chosen))[:, None]
    size = truth["bbox"][chosen, 2:] - truth["bbox"][chosen, :2]
    anywhere = rng.random((len(chosen), 1)) < 0.2
    return {
        "name": np.where(other, rng.choice(["Car", "Pedestrian", "Cyclist"], len(chosen)), names),
        "bbox": truth["bbox"][chosen]
        + noise * np.hstack([size, size]) * rng.normal(0, 1, (len(chosen), 4)).clip(-1, 1)
        + 300 * anywhere,
        "alpha": truth["alpha"][chosen] + rng.normal(0, 0.5, len(chosen)),
        "dimensions": truth["dimensions"][chosen] * np.exp(noise * rng.normal(0, 1, (len(chosen), 3))),
        "location": truth["location"][chosen] + noise * rng.normal(0, 2, (len(chosen), 3)),
        "rotation_y": truth["rotation_y"][chosen] + noise[:, 0] * rng.normal(0, 1, len(chosen)),
        "score": rng.permutation(1000)[: len(chosen)] / 1000,
    }


def convert(one: dict[str, np.ndarray]) -> Objects:
    height_width_length = one["dimensions"][:, [1, 2, 0]]
    return Objects(
        types=np.char.lower(one["name"]),
        boxes=one["bbox"],
        alpha=one["alpha"],
        boxes_3d=Boxes3D(*(torch.tensor(x) for x in (height_width_length, one["location"], one["rotation_y"]))),
        scores=one.get("score"),
        occluded=one.get("occluded"),
        truncated=one.get("truncated"),
    )


def run_theirs(reference: types.ModuleType, truth: list, predictions: list, overlaps: dict[str, float]) -> dict:
    """Their figures by kind, class, difficulty and measure."""
    wanted = np.array([[[overlaps[name] for name in CLASSES]] * len(KINDS)])
    result = {}
    for metric, kind in enumerate(KINDS):
        with np.errstate(all="ignore"):
            curves = reference.eval_class(
                truth, predictions, [0, 1, 2], [0, 1, 2], metric, wanted, kind == "2d", num_parts=len(truth)
            )
        for number, name in enumerate(CLASSES):
            for level, difficulty in enumerate(DIFFICULTIES):
                for measure, key in (("AP", "precision"), ("AOS", "orientation"))[: 2 if kind == "2d" else 1]:
                    curve = 100 * curves[key][number, level, 0]
                    result[kind, name, difficulty, f"{measure}40"] = curve[1:].mean()
                    result[kind, name, difficulty, f"{measure}11"] = curve[::4].mean()
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="a checkout of kitti-object-eval-python")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="of the random sets (default: 0 1)")
    args = parser.parse_args()
    reference, worst = load_reference(args.reference), 0.0
    for seed in args.seeds:
        rng = np.random.default_rng(seed)
        truth = [make_truth(rng) for _ in range(IMAGES)]
        predictions = [make_predictions(one, rng) for one in truth]
        images = [Image(convert(a), convert(b)) for a, b in zip(truth, predictions, strict=True)]
        for overlaps in (OFFICIAL, LOOSE):
            published = run_theirs(reference, truth, predictions, overlaps)
            for (kind, name, difficulty, measure), theirs in published.items():
                ours = average_precisions(images, kind, name, DIFFICULTIES[difficulty], overlaps[name])[measure]
                worst = max(worst, abs(ours - theirs))
                verdict = "ok " if abs(ours - theirs) <= TOLERANCE else "BAD"
                print(f"{verdict} {kind} {name} {difficulty} {measure}: ours {ours:.6f}, theirs {theirs:.6f}")
    print(f"largest difference {worst:.1e}")
    return int(not worst <= TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
