"""Multi-scale test with soft-NMS, ours and CenterNet's published detectors, from the same maps of the heads.

    git clone https://github.com/xingyizhou/CenterNet /tmp/CenterNet
    python tools/reference/compare_multi_scale.py --reference /tmp/CenterNet

The published scales, at kept resolution, as in the reference. Theirs has two defects (``published_detectors.DEFECTS``):
what soft-NMS suppresses stays as copies of other rows with old scores, and boxes overlap as if they were a pixel
larger.
Theirs is compared as it is, without the pixel, and without the copies too: the last is ours.

Two further ones are shown. Theirs rounds the scaled image to whole pixels, and its center too, but scales boxes back
by the plain factor: no matter for the sides compared here, which are multiples of 8. And it resizes images with pixel
centers at a half, but all else with centers at whole numbers: what the network sees is off by up to half a pixel.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from compare_detections import MODELS, TOLERANCE, iterate_differences, sample_maps
from published_detectors import (
    DEFECTS,
    Model,
    compute_grid_size,
    count_common,
    import_detectors,
    make_our_config,
    run_ours,
    run_theirs,
)
from torch import Tensor

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5)
EVEN, ODD = (208, 304), (201, 301)
# Few, so that soft-NMS has something to do.
CLASSES = {"ctdet": 1, "multi_pose": 1, "exdet": 4}
# Levels per column in the center of the image. It is steep, for levels are rounded.
SLOPE = 7.9
VARIANTS = (("as it is", ("flip",)), ("no pixel", ("flip", "pixel")), ("no pixel, no copies", DEFECTS))


def run_both_sides(
    model: Model, size: tuple[int, int], flip: bool, scales: Sequence[float], seed: int
) -> tuple[np.ndarray, dict[str, np.ndarray], tuple[list[Tensor], list[Tensor]]]:
    """Our rows, theirs by variant, and both sides' inputs, of an image whose center is a ramp, dark to bright."""
    generator = torch.Generator().manual_seed(seed)
    ramp = (128 + SLOPE * (np.arange(size[1]) - size[1] / 2)).clip(0, 255).round()
    image = np.tile(ramp.astype(np.uint8)[None, :, None], (size[0], 1, 3))
    cfg = make_our_config(model, CLASSES[model.task], True, flip, scales)
    if model.task == "multi_pose":
        cfg.TEST.DETECTIONS_PER_IMAGE = 100 * len(scales)  # theirs keeps them all
    maps = [
        sample_maps(model.task, compute_grid_size(model, size, True, scale), generator, cfg.MODEL.CENTERNET.NUM_CLASSES)
        for scale in scales
        for _ in range(1 + flip)
    ]
    our_inputs, rows = run_ours(model, cfg, image, maps)
    predictions = {name: run_theirs(model, cfg, image, maps, mended) for name, mended in VARIANTS}
    inputs = our_inputs[:: 1 + flip], predictions["as it is"][0]
    return rows, {name: answer[1] for name, answer in predictions.items()}, inputs


def show_placement(model: Model) -> None:
    """By how many pixels of the image theirs sees something else, and says it is somewhere else."""
    for scale in SCALES:
        _, _, inputs = run_both_sides(model, EVEN, False, [scale], 0)
        center = [x[0, 0, x.shape[2] // 2, x.shape[3] // 2 - 6 : x.shape[3] // 2 + 6] for (x,) in inputs]
        seen = (center[1] - center[0]).mean().item() * make_our_config(model, 1, True, False).MODEL.PIXEL_STD[0] / SLOPE
        rows, predictions, _ = run_both_sides(model, ODD, False, [scale], 0)
        said = dict(iterate_differences(rows, predictions["as it is"]))["boxes"]
        print(f"    scale {scale:4}: sees {seen:5.2f} px to the right; boxes, odd sides: {said:.2f} px off")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="a checkout of CenterNet")
    parser.add_argument("--models", nargs="+", default=["ctdet_DLA_34", "multi_pose_DLA_34", "exdet_DLA_34"])
    parser.add_argument("--images", type=int, default=2)
    args = parser.parse_args()
    import_detectors(args.reference)
    fine = True
    for name, flip, seed in itertools.product(args.models, (False, True), range(args.images)):
        rows, predictions, _ = run_both_sides(MODELS[name], EVEN, flip, SCALES, seed)
        print(f"{name} {'with' if flip else 'without'} flip test: {len(rows)} rows of ours")
        for variant, other in predictions.items():
            print(
                f"    theirs {variant:20}: {count_common(other, rows, TOLERANCE):3} of its {len(other):3} rows are ours"
            )
        mended = dict(iterate_differences(rows, predictions[VARIANTS[-1][0]]))
        fine &= max(mended.values()) <= TOLERANCE
        print("    largest differences, mended: " + ", ".join(f"{key} {value:.1e}" for key, value in mended.items()))
    print("theirs at one scale:")
    show_placement(MODELS["ctdet_DLA_34"])
    if not fine:
        sys.exit(f"some differences are larger than {TOLERANCE}")


if __name__ == "__main__":
    main()
