"""Boxes and joints in pixels of the image, ours and CenterNet's published detectors, from the same maps of the heads.

    git clone https://github.com/xingyizhou/CenterNet /tmp/CenterNet
    python tools/reference/compare_detections.py --reference /tmp/CenterNet

Every reference model of ctdet, multi_pose and exdet (ddd: ``compare_boxes3d.py``), fixed and kept resolution, with and
without flip test, on images of odd sides and of sides that need no padding. Only the network is replaced, by random
maps.

Theirs of exdet has three defects (``published_detectors.DEFECTS``): what it says is compared as it is, and mended.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from published_detectors import (
    DEFECTS,
    Maps,
    Model,
    compute_grid_size,
    count_common,
    import_detectors,
    make_our_config,
    match_rows,
    run_ours,
    run_theirs,
)

MODELS = {
    "ctdet_DLA_34": Model("ctdet", "dla_34", "COCO-Detection/centernet_DLA_34_1pt"),
    "ctdet_R_18_DCN": Model("ctdet", "resdcn_18", "COCO-Detection/centernet_R_18_DCN_1pt"),
    "ctdet_R_101_DCN": Model("ctdet", "resdcn_101", "COCO-Detection/centernet_R_101_DCN_1pt"),
    "ctdet_HG_104": Model("ctdet", "hourglass", "COCO-Detection/centernet_HG_104_1pt"),
    "multi_pose_DLA_34": Model("multi_pose", "dla_34", "COCO-Keypoints/pose_DLA_34"),
    "multi_pose_HG_104": Model("multi_pose", "hourglass", "COCO-Keypoints/pose_HG_104"),
    "exdet_DLA_34": Model("exdet", "dla_34", "COCO-Extreme/extreme_DLA_34"),
    "exdet_HG_104": Model("exdet", "hourglass", "COCO-Extreme/extreme_HG_104"),
}
# Channels, standard deviation and mean of the random maps. Sizes are positive: ours reads a negative one as zero, and
# turns an object over whose extreme points are the wrong way round in one cell. Extreme points are of few classes, for
# else hardly any four would be of the same.
_CLASSES = {"ctdet": 80, "multi_pose": 1, "exdet": 4}
_BOXES = {"wh": (2, 0, 20), "reg": (2, 0.3, 0.5)}
MAPS = {
    "ctdet": {"hm": (80, 2, -2), **_BOXES},
    "multi_pose": {"hm": (1, 2, -2), **_BOXES, "hps": (34, 5, 0), "hm_hp": (17, 2, -2), "hp_offset": (2, 0.3, 0.5)},
    "exdet": {
        **{f"hm_{side}": (4, 2, -2) for side in "tlbrc"},
        **{f"reg_{side}": (2, 0.05, mean) for side, mean in zip("tlbr", (0.2, 0.2, 0.8, 0.8), strict=True)},
    },
}
# Kept resolution or not, height and width.
IMAGES = ((False, (480, 640)), (False, (301, 200)), (True, (200, 300)), (True, (201, 301)), (True, (256, 384)))
# Pixels, and of scores.
TOLERANCE = 1e-3


def sample_maps(task: str, size: tuple[int, int], generator: torch.Generator, classes: int | None = None) -> Maps:
    """Of one image whose grid has ``size`` (height, width), by reference names."""
    settings = dict(MAPS[task])
    if classes is not None and "hm" in settings:
        settings["hm"] = (classes, *settings["hm"][1:])
    maps = {
        name: mean + std * torch.randn(1, channels, *size, generator=generator)
        for name, (channels, std, mean) in settings.items()
    }
    if "wh" in maps:
        maps["wh"] += 20 * torch.rand(maps["wh"].shape, generator=generator)
    return maps


def iterate_differences(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[str, float]]:
    """Of rows of ours and theirs, each with the nearest one of its class."""
    yield "rows", abs(len(a) - len(b))
    partner = match_rows(a, b)
    yield "rows without a partner", len(a) - len(set(partner))
    yield "boxes", np.abs(a[:, :4] - b[partner, :4]).max()
    yield "scores", np.abs(a[:, 4] - b[partner, 4]).max()
    if b.shape[1] > 6:
        yield "joints", np.abs(a[:, 6:] - b[partner, 6:]).max()


def compare(model: Model, size: tuple[int, int], keep: bool, flip: bool, seed: int) -> tuple[dict[str, float], str]:
    """Largest differences of one random image of ``size`` (height, width) and random maps; a line on defects."""
    generator = torch.Generator().manual_seed(seed)
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    grid = compute_grid_size(model, size, keep)
    maps = [sample_maps(model.task, grid, generator) for _ in range(1 + flip)]
    cfg = make_our_config(model, _CLASSES[model.task], keep, flip)
    (our_input, *_), a = run_ours(model, cfg, image, maps)
    (their_input,), b = run_theirs(model, cfg, image, maps, DEFECTS)
    levels = (our_input - their_input).abs().max().item() * max(cfg.MODEL.PIXEL_STD)
    line = ""
    if model.task == "exdet":
        _, unmended = run_theirs(model, cfg, image, maps)
        line = f"as it is, {count_common(unmended, a, TOLERANCE)} of its {len(unmended)} rows are ours"
    return {"input (of 255)": levels, **dict(iterate_differences(a, b))}, line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="a checkout of CenterNet")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--images", type=int, default=2)
    args = parser.parse_args()
    import_detectors(args.reference)
    fine = True
    for name in args.models:
        for (keep, size), flip in itertools.product(IMAGES, (False, True)):
            worst: dict[str, float] = {}
            for seed in range(args.images):
                predictions, line = compare(MODELS[name], size, keep, flip, seed)
                worst |= {key: max(value, worst.get(key, 0.0)) for key, value in predictions.items()}
            fine &= max(worst.values()) <= TOLERANCE
            shown = ", ".join(f"{key} {value:.1e}" for key, value in worst.items())
            print(
                f"{name:17} {size} {'keep' if keep else 'fixed':5} {'flip' if flip else '':4}: {shown}; {line}",
                flush=True,
            )
    if not fine:
        sys.exit(f"some differences are larger than {TOLERANCE}")


if __name__ == "__main__":
    main()
