"""3D boxes through the whole detector, from the same maps, and the targets of orientation, ours and CenterNet's
reference code.

    git clone https://github.com/xingyizhou/CenterNet /tmp/CenterNet
    python tools/reference/compare_boxes3d.py --reference /tmp/CenterNet

Theirs are run as they are: DddDetector and the losses. Where ours differs on purpose, both are shown:

* theirs moves a box's width and height into the image as if they were a point, so that the shift is added to them;
* theirs leaves alpha between -3/2 pi and 3/2 pi, ours wraps it;
* theirs, keeping the resolution, still has an input of 384 x 1280 (ours: what the image needs; theirs has further
  cells at the sides, where no objects are here), and puts images of odd sides between pixels, ours on whole ones.
"""

from __future__ import annotations

import argparse
import math
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from compare_targets_decode import load
from published_detectors import (
    Maps,
    Model,
    clip_rows,
    import_detectors,
    make_our_config,
    match_rows,
    run_ours,
    run_theirs,
)
from torch import Tensor

from centernet_d2.modeling.heads.box3d_orientation import encode_angle
from centernet_d2.modeling.tasks import build_task
from centernet_d2.ops.box3d_geometry import project
from centernet_d2.structures import Boxes3D

MODEL = Model("ddd", "dla_34", "KITTI-3D/boxes3d_DLA_34_3dop")
SIZE, GRID, CLASSES = (384, 1280), (96, 320), 3
# Height and width of images of KITTI, and whether their resolution is kept; cells that theirs has more at each side.
IMAGES = (((375, 1242), False), ((370, 1224), False), ((376, 1241), False), ((374, 1242), True), ((370, 1224), True))
ODD = ((375, 1241), True)
MARGIN = 4
# Columns of score, class, dimensions and location.
LOCATED = [4, 5, *range(7, 13)]
TOLERANCE = 1e-3
CALIBRATION = np.array(
    [[718.856, 0, 607.1928, 45.38225], [0, 718.856, 185.2157, -0.1130887], [0, 0, 1, 0.003779761]], dtype=np.float32
)


def sample_maps(seed: int, keep: bool) -> Maps:
    """By their names. Sizes are positive: ours reads a negative one as zero; depths are between 1 m and 100 m."""
    generator = torch.Generator().manual_seed(seed)

    def sample_normal(channels: int, deviation: float, mean: float) -> Tensor:
        return deviation * torch.randn(1, channels, *GRID, generator=generator) + mean

    maps = {
        "hm": sample_normal(CLASSES, 2, -2),
        "wh": sample_normal(2, 5, 20).clamp(min=0.1),
        "reg": sample_normal(2, 0.3, 0.5),
        "dep": sample_normal(1, 0.8, -2.5).clamp(-4.6, 0),
        "rot": sample_normal(8, 1, 0),
        "dim": sample_normal(3, 0.5, 2),
    }
    if keep:
        maps["hm"][..., :MARGIN] = maps["hm"][..., -MARGIN:] = -30
    return maps


def measure_added_size(reference: Path, image: tuple[int, int], keep: bool) -> np.ndarray:
    """(2,) what theirs adds to widths and heights: where it would put a point of the grid's corner."""
    transform = load(reference, "utils/image").transform_preds
    height, width = image
    side = np.array([SIZE[1], SIZE[0]] if keep else [width, height], dtype=np.int32)
    return transform(np.zeros((1, 2)), np.array([width / 2, height / 2], dtype=np.float32), side, GRID[::-1])[0]


def correct_sizes(rows: np.ndarray, added: np.ndarray) -> np.ndarray:
    """Their rows with boxes of the sizes they mean."""
    rows = rows.copy()
    rows[:, :4] += np.array([*added, *-added]) / 2
    return rows


def compare_boxes(reference: Path, seed: int, image: tuple[int, int], keep: bool) -> dict[str, float]:
    cfg = make_our_config(MODEL, CLASSES, keep, False)
    maps = sample_maps(seed, keep)
    own = {name: x[..., MARGIN:-MARGIN].contiguous() for name, x in maps.items()} if keep else maps
    pixels = np.random.default_rng(seed).integers(0, 256, (*image, 3), dtype=np.uint8)
    (our_input,), a = run_ours(MODEL, cfg, pixels, [own], calib=CALIBRATION)
    (their_input,), unmended = run_theirs(MODEL, cfg, pixels, [maps], calib=CALIBRATION)
    sides = slice(4 * MARGIN, -4 * MARGIN) if keep else slice(None)
    b = clip_rows(correct_sizes(unmended, measure_added_size(reference, image, keep)), image)
    partner = match_rows(a, b)
    # By the score, which nothing changes, and the location: boxes that only theirs leaves empty are in neither.
    b, unmended = b[partner], unmended[match_rows(a[:, LOCATED], unmended[:, LOCATED])]
    return {
        "input (of 255)": (our_input - their_input[..., sides]).abs().max().item() * max(cfg.MODEL.PIXEL_STD),
        "rows": abs(len(a) - len(b)),
        "rows without a partner": len(a) - len(set(partner)),
        "classes": np.abs(a[:, 5] - b[:, 5]).max(),
        "alpha, wrapped": measure_angle_between(a[:, 6], b[:, 6]),
        "boxes, mended, pixels": np.abs(a[:, :4] - b[:, :4]).max(),
        "  as they are (differs on purpose)": np.abs(a[:, :4] - unmended[:, :4]).max(),
        "dimensions, m": np.abs(a[:, 7:10] - b[:, 7:10]).max(),
        "locations, m": np.abs(a[:, 10:13] - b[:, 10:13]).max(),
        "rotation_y": measure_angle_between(a[:, 13], b[:, 13]),
        "corners in space, pixels": measure_corner_distance(reference, a, b),
        "scores": np.abs(a[:, 4] - b[:, 4]).max(),
    }


def measure_corner_distance(reference: Path, a: np.ndarray, b: np.ndarray) -> float:
    """Largest distance of corners in the image, of ours by our projection from theirs by theirs; where one is less
    than 1 m away from the camera's plane, pixels say nothing."""
    tools, predictions = load(reference, "utils/ddd_utils"), torch.from_numpy(a)
    boxes = Boxes3D(predictions[:, 7:10], predictions[:, 10:13], predictions[:, 13])
    own = project(boxes.compute_corners(), torch.from_numpy(CALIBRATION))
    worst = []
    for row, (points, depth) in zip(b, zip(own[..., :2].numpy(), own[..., 2], strict=True), strict=True):
        if depth.min() > 1:
            corners = tools.project_to_image(tools.compute_box_3d(row[7:10], row[10:13], row[13]), CALIBRATION)
            # The two start at different corners.
            worst.append(np.abs(points[:, None] - corners[None]).max(axis=-1).min(axis=1).max())
    return float(max(worst))


def measure_angle_between(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(np.arctan2(np.sin(a - b), np.cos(a - b))).max())


def compare_orientation(reference: Path) -> dict[str, float]:
    """Targets at all angles, and the loss: that of belonging to bins, with perfect angles, and that of angles, where
    all is sure. Theirs averages angles over those that belong to a bin, which is half of the objects requested here."""
    theirs = load(reference, "datasets/sample/ddd").DddDataset._alpha_to_8
    angles = np.linspace(-math.pi, math.pi, 1441)[:-1] + 1e-4
    expected = torch.tensor([theirs(None, a) for a in angles], dtype=torch.float64).unflatten(1, (2, 4))
    ours = encode_angle(torch.from_numpy(angles))
    belongs = ours.unflatten(1, (2, 4))[..., 1] > ours.unflatten(1, (2, 4))[..., 0]
    result = {
        "bins of all angles": float((expected[..., 1].bool() ^ belongs).sum()),
        "sine and cosine": (expected[..., 2:] - ours.unflatten(1, (2, 4))[..., 2:])[belongs].abs().max().item(),
    }
    one = belongs.sum(dim=1) == 1
    noise = torch.randn(int(one.sum()), 8, generator=torch.Generator().manual_seed(0))
    logits = torch.tensor([True, True, False, False]).repeat(2)
    head, compute = (
        build_task(make_our_config(MODEL, CLASSES, False, False), [8]).heads["orientation"],
        load(reference, "models/losses").compute_rot_loss,
    )
    wanted = ours[one].float()
    bins = wanted.unflatten(1, (2, 4))
    residual = torch.atan2(bins[..., 2], bins[..., 3])
    for name, noisy, factor in (("bins", logits, 1), ("angles", ~logits, 2)):
        predictions = torch.where(noisy, noise, wanted * torch.where(logits, 10, 1))
        cells = torch.stack([torch.arange(len(predictions)), torch.zeros(len(predictions), dtype=torch.long)], dim=1)[
            :, None
        ]
        target = (torch.zeros(len(predictions), 1, dtype=torch.long), cells, wanted[:, None])
        loss = head.loss(predictions.T[None, :, None], target, torch.tensor(float(len(predictions))))
        with warnings.catch_warnings(action="ignore"):  # of arguments that PyTorch has renamed since
            reference_loss = compute(predictions, belongs[one].long(), residual, torch.ones(len(predictions), 1))
        result[f"loss of {name}"] = (factor * loss - reference_loss).abs().item()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="a checkout of CenterNet")
    parser.add_argument("--maps", type=int, default=5, help="random maps for each image")
    args = parser.parse_args()
    import_detectors(args.reference)
    worst = compare_orientation(args.reference)
    for image, keep in IMAGES:
        for seed in range(args.maps):
            predictions = compare_boxes(args.reference, seed, image, keep)
            worst |= {name: max(float(value), worst.get(name, 0.0)) for name, value in predictions.items()}
    print(f"{args.maps} maps for each of {len(IMAGES)} images, 100 boxes each; largest differences:")
    for name, value in worst.items():
        print(f"  {name:46} {value:.1e}")
    print(f"a kept resolution of odd sides, {ODD[0]} (differs on purpose):")
    for name, value in compare_boxes(args.reference, 0, *ODD).items():
        print(f"  {name:46} {value:.1e}")
    wrong = [name for name, value in worst.items() if value > TOLERANCE and "on purpose" not in name]
    if wrong:
        sys.exit(f"more than {TOLERANCE}: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
