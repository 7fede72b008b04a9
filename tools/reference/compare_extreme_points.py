"""Edge aggregation, targets and decoding of extreme points, ours and CenterNet's reference code ("exdet"), on the same
numbers.

    git clone https://github.com/xingyizhou/CenterNet /tmp/CenterNet
    python tools/reference/compare_extreme_points.py --reference /tmp/CenterNet

Theirs is run as it is, on a CPU. It holds K^4 groups, so K is small here. Where the two are meant to differ, both are
shown.
"""

from __future__ import annotations

import argparse
import sys
import types
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))

from centernet_d2.modeling.tasks.extreme_points import ExtremePointTask
from centernet_d2.ops.extreme_points import SIDES
from tests.modeling.tasks.test_extreme_points import extreme_cfg, extremes, flipped, targets_of
from tools.reference.compare_targets_decode import load

CLASSES, K, TOLERANCE = 3, 16, 1e-5


def make_our_task(*opts: object) -> ExtremePointTask:
    published = ("MODEL.EXTREME.CENTER_LOOKUP", "cells", "MODEL.EXTREME.TOPK", K)
    return ExtremePointTask(extreme_cfg(*published, *opts), [1]).eval()


def sample_maps(task: ExtremePointTask, seed: int) -> dict[str, Tensor]:
    """Maps of objects, blurred by noise that makes many further peaks."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(8, 2, generator=generator) * 70
    boxes = torch.cat([low, low + 12 + 40 * torch.rand(8, 2, generator=generator)], dim=1)
    gt = extremes(boxes, torch.randint(0, CLASSES, (8,), generator=generator), seed=seed)
    maps = {}
    for name, perfect in task.encode_dense(targets_of(gt)).items():
        noise = torch.randn(perfect.shape, generator=generator)
        maps[name] = perfect.clamp(-4, 2) + noise if "heatmap" in name else perfect + 0.1 * noise
    return maps


def run_theirs(decode: types.ModuleType, maps: dict[str, Tensor], weight: float, agnostic: bool) -> Tensor:
    """(1, 1000, 14) of their decoder: box, score, four points, class; in grid cells."""
    function = decode.agnex_ct_decode if agnostic else decode.exct_decode
    top, left, bottom, right, center = (maps[f"{side}_heatmap"].sigmoid() for side in (*SIDES, "center"))
    if weight:  # before, because their decoder reads what this gives with a view that today's PyTorch refuses
        top, bottom = (decode._h_aggregate(heat, weight).contiguous() for heat in (top, bottom))
        left, right = (decode._v_aggregate(heat, weight).contiguous() for heat in (left, right))
    return function(top, left, bottom, right, center, *(maps[f"{side}_offset"] for side in SIDES), K=K)


def compare_decoding(decode: types.ModuleType, seed: int, weight: float, agnostic: bool) -> float:
    """Largest difference of boxes, scores, points and classes over all groups that are an object."""
    task = make_our_task("MODEL.EXTREME.EDGE_AGGREGATION", weight, "MODEL.EXTREME.CLASS_AGNOSTIC", agnostic)
    maps = sample_maps(task, seed)
    ours, rows = task.decode(maps), run_theirs(decode, maps, weight, agnostic)[0]
    rows = rows[rows[:, 4] > 0]  # what they keep
    kept = ours.scores[0] > 0
    points = ours.points["keypoints"][0, kept, :, :2].flatten(1)
    predictions = torch.cat(
        [ours.boxes[0, kept], ours.scores[0, kept, None], points, ours.classes[0, kept, None]], dim=1
    )
    if len(predictions) != len(rows):
        return float("inf")
    # Groups of one score may come in any order.
    print(f"    {len(rows)} groups")
    return float((predictions[:, None] - rows[None]).abs().amax(dim=2).min(dim=1).values.max()) if len(rows) else 0.0


def compare_aggregation(decode: types.ModuleType) -> float:
    from centernet_d2.ops.extreme_points import aggregate_edges

    maps = torch.rand(2, 3, 17, 23, generator=torch.Generator().manual_seed(0)).mul(8).round() / 8
    across = (aggregate_edges(maps, -1, 0.1) - decode._h_aggregate(maps, 0.1)).abs().max()
    return float(torch.maximum(across, (aggregate_edges(maps, -2, 0.1) - decode._v_aggregate(maps, 0.1)).abs().max()))


def show_differences(decode: types.ModuleType) -> None:
    """What is different on purpose."""
    agnostic = make_our_task("MODEL.EXTREME.CLASS_AGNOSTIC", True)
    scores = run_theirs(decode, sample_maps(agnostic, 0), 0.0, True)[0, :, 4]
    print("without flip test theirs flips the worse half of an image's rows, here with")
    print(f"    {int((scores[len(scores) // 2 :] > 0).sum())} of {int((scores > 0).sum())} objects; ours flips none")
    task = make_our_task("MODEL.EXTREME.EDGE_AGGREGATION", 0.0)
    gt = extremes([[10, 12, 60, 70]], [1])
    back = task.decode(task.encode_dense(targets_of(flipped(gt))))
    merged = task.merge(back.transform(torch.tensor([[-4.0, 4.0]]), torch.tensor([[128.0, 0.0]])), 1)
    away = (merged.points["keypoints"][0, 0, :, :2] - gt.gt_keypoints.tensor[0, :, :2]).abs().max()
    print(
        f"points of a flipped image: theirs stay flipped (boxes alone are rotated); ours are {float(away):.1e} px off"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="a checkout of xingyizhou/CenterNet")
    decode = load(parser.parse_args().reference, "models/decode")
    errors = {"aggregation": compare_aggregation(decode)}
    for agnostic in (False, True):
        for weight in (0.0, 0.1):
            name = f"decoding, {'agnostic' if agnostic else 'per class'}, aggregation {weight}"
            print(name)
            errors[name] = max(compare_decoding(decode, seed, weight, agnostic) for seed in range(3))
    show_differences(decode)
    for name, error in errors.items():
        print(f"{'ok ' if error <= TOLERANCE else 'BAD'} {name}: {error:.1e}")
    return int(max(errors.values()) > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
