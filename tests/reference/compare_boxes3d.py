"""Boxes in space from the same maps, and the targets of orientation, ours and CenterNet's published code.

    git clone https://github.com/xingyizhou/CenterNet /tmp/CenterNet
    python tests/reference/compare_boxes3d.py --reference /tmp/CenterNet

Theirs are run as they are: ddd_decode, ddd_post_process and the losses. Where ours differs on purpose, both are shown:

* theirs moves a box's width and height into the picture as if they were a point, so that the shift is added to them;
* theirs leaves alpha between -3/2 pi and 3/2 pi, ours wraps it;
* theirs calculates with the first picture's calibration for all (one picture at a time is asked for here), and fits
  pictures in by their width alone (both sides get the same map between picture and grid here).
"""

from __future__ import annotations

import argparse
import math
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import torch
from compare_targets_decode import load
from torch import Tensor

import centernet_d2
from centernet_d2.modeling.branch.box3d_orientation import encode_angle
from centernet_d2.modeling.task import build_task

SIZE, GRID, CLASSES = (384, 1280), (96, 320), 3
# Height and width of pictures of KITTI; whether their resolution is kept.
PICTURES = (((375, 1242), False), ((370, 1224), False), ((376, 1241), True), ((374, 1238), True))
TOLERANCE = 1e-3
CALIBRATION = np.array(
    [[718.856, 0, 607.1928, 45.38225], [0, 718.856, 185.2157, -0.1130887], [0, 0, 1, 0.003779761]], dtype=np.float32
)


def our_task():
    cfg = centernet_d2.get_cfg()
    cfg.merge_from_file(str(Path(__file__).parents[2] / "configs/KITTI-3D/boxes3d_DLA_34_3dop.yaml"))
    cfg.MODEL.CENTERNET.NUM_CLASSES = CLASSES
    return build_task(cfg, [8]).eval()


def random_maps(seed: int) -> dict[str, Tensor]:
    """By their names. Sizes are positive: ours reads a negative one as zero; depths are between 1 m and 100 m."""
    generator = torch.Generator().manual_seed(seed)

    def normal(channels: int, deviation: float, mean: float) -> Tensor:
        return deviation * torch.randn(1, channels, *GRID, generator=generator) + mean

    return {
        "hm": normal(CLASSES, 2, -2),
        "wh": normal(2, 5, 20).clamp(min=0.1),
        "reg": normal(2, 0.3, 0.5),
        "dep": normal(1, 0.8, -2.5).clamp(-4.6, 0),
        "rot": normal(8, 1, 0),
        "dim": normal(3, 0.5, 2),
    }


def their_boxes(reference: Path, maps: dict[str, Tensor], center: np.ndarray, side: np.ndarray) -> np.ndarray:
    """(P, 14): class, then alpha, x1, y1, x2, y2, h, w, l, x, y, z, rotation_y, score, as they write them."""
    decode = load(reference, "models/decode").ddd_decode
    process = load(reference, "utils/post_process").ddd_post_process
    depth = 1.0 / (maps["dep"].sigmoid() + 1e-6) - 1.0
    found = decode(maps["hm"].sigmoid(), maps["rot"], depth, maps["dim"], wh=maps["wh"], reg=maps["reg"], K=100)
    options = types.SimpleNamespace(output_w=GRID[1], output_h=GRID[0], num_classes=CLASSES)
    (by_class,) = process(found.numpy().copy(), [center], [side], [CALIBRATION], options)
    parts = [np.insert(rows, 0, name - 1, axis=1) for name, rows in by_class.items() if len(rows)]
    return np.concatenate(parts)


def our_boxes(task, maps: dict[str, Tensor], picture: tuple[int, int], scale: float, shift: np.ndarray) -> np.ndarray:
    """The same; ``scale`` and ``shift`` (2,) lead from the grid to the picture."""
    names = {"hm": "heatmap", "wh": "box_size", "reg": "offset", "dep": "depth", "rot": "orientation"}
    outputs = {names.get(name, "dimensions"): x for name, x in maps.items()}
    candidates = task.candidates(outputs).transformed(
        torch.full((1, 2), scale), torch.from_numpy(shift[None].astype(np.float32))
    )
    (found,) = task.merge(candidates, 100).to_instances([picture], 0.0)
    found = task.finish(found, {"calib": CALIBRATION})
    columns = [
        *(found.pred_classes, found.pred_alpha, found.pred_boxes.tensor, found.pred_dimensions, found.pred_locations),
        *(found.pred_rotation_y, found.scores),
    ]
    return torch.cat([x.reshape(len(found), -1).float() for x in columns], dim=1).numpy()


def angle_between(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(np.arctan2(np.sin(a - b), np.cos(a - b))).max())


def compare_boxes(reference: Path, seed: int, picture: tuple[int, int], keep: bool) -> dict[str, float]:
    height, width = picture
    center = np.array([width / 2, height / 2], dtype=np.float32)
    side = np.array([SIZE[1], SIZE[0]] if keep else [width, height], dtype=np.int32)
    scale = side[0] / GRID[1]
    shift = center - scale * np.array([GRID[1] / 2, GRID[0] / 2])
    maps = random_maps(seed)
    theirs, ours = their_boxes(reference, maps, center, side), our_boxes(our_task(), maps, picture, scale, shift)
    theirs, ours = (rows[np.lexsort((rows[:, 6], -rows[:, -1]))] for rows in (theirs, ours))
    assert len(theirs) == len(ours)
    # A width w of theirs is scale * w + shift.
    slip = np.array([-shift[0], -shift[1], shift[0], shift[1]]) / 2
    return {
        "classes": np.abs(theirs[:, 0] - ours[:, 0]).max(),
        "alpha, wrapped": angle_between(theirs[:, 1], ours[:, 1]),
        "boxes without their shift of sizes, pixels": np.abs(theirs[:, 2:6] - slip - ours[:, 2:6]).max(),
        "  with it (differs on purpose)": np.abs(theirs[:, 2:6] - ours[:, 2:6]).max(),
        "dimensions, m": np.abs(theirs[:, 6:9] - ours[:, 6:9]).max(),
        "locations, m": np.abs(theirs[:, 9:12] - ours[:, 9:12]).max(),
        "rotation_y": angle_between(theirs[:, 12], ours[:, 12]),
        "scores": np.abs(theirs[:, 13] - ours[:, 13]).max(),
    }


def compare_orientation(reference: Path) -> dict[str, float]:
    """Targets at all angles, and the loss: that of belonging to bins, with perfect angles, and that of angles, where
    all is sure. Theirs averages angles over those that belong to a bin, which is half of the objects asked for here."""
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
    branch, compute = our_task().branches["orientation"], load(reference, "models/losses").compute_rot_loss
    wanted = ours[one].float()
    bins = wanted.unflatten(1, (2, 4))
    residual = torch.atan2(bins[..., 2], bins[..., 3])
    for name, noisy, factor in (("bins", logits, 1), ("angles", ~logits, 2)):
        found = torch.where(noisy, noise, wanted * torch.where(logits, 10, 1))
        cells = torch.stack([torch.arange(len(found)), torch.zeros(len(found), dtype=torch.long)], dim=1)[:, None]
        target = (torch.zeros(len(found), 1, dtype=torch.long), cells, wanted[:, None])
        loss = branch.loss(found.T[None, :, None], target, torch.tensor(float(len(found))))
        with warnings.catch_warnings(action="ignore"):  # of arguments that PyTorch has renamed since
            reference_loss = compute(found, belongs[one].long(), residual, torch.ones(len(found), 1))
        result[f"loss of {name}"] = (factor * loss - reference_loss).abs().item()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="a checkout of CenterNet")
    parser.add_argument("--maps", type=int, default=5, help="random maps for each picture")
    args = parser.parse_args()
    worst = compare_orientation(args.reference)
    for picture, keep in PICTURES:
        for seed in range(args.maps):
            found = compare_boxes(args.reference, seed, picture, keep)
            worst |= {name: max(float(value), worst.get(name, 0.0)) for name, value in found.items()}
    print(f"{args.maps} maps for each of {len(PICTURES)} pictures, 100 boxes each; largest differences:")
    for name, value in worst.items():
        print(f"  {name:46} {value:.1e}")
    wrong = [name for name, value in worst.items() if value > TOLERANCE and "on purpose" not in name]
    if wrong:
        sys.exit(f"more than {TOLERANCE}: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
