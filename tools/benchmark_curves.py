#!/usr/bin/env python
"""Plot the cost of a step against the number of points, objects, images and pixels, and print its growth.

    tools/benchmark_curves.py [--output curves.png] [--threads 1] [--seconds 0.5] [--network R_18_DCN]

Lines are divided by their first value, so all begin at 1; gray is linear growth. "Growth" in the table is the
exponent between the two largest sizes: 1 is linear, 0 nothing.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("benchmark_curves.png"), help="the figure")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of repeats at least, for each value")
    parser.add_argument("--network", default="R_18_DCN", help="a name in configs/COCO-Detection")
    return parser.parse_args()


if __name__ == "__main__":
    parse()  # --help and option errors come before the slow imports below

import cv2
import matplotlib
import torch
from benchmark import measure_times
from benchmarks.networks import make_config
from benchmarks.parts import GRID, make_loss_inputs, make_task, sample_instances, sample_maps
from detectron2.modeling import build_model

from centernet_d2.engine.acceleration import accelerate
from centernet_d2.ops.focal_loss import heatmap_focal_loss
from centernet_d2.structures import Targets

matplotlib.use("Agg")
from matplotlib import pyplot as plt

# Name, sizes, and a function of a size to what is timed.
Curve = tuple[str, Sequence[int], Callable[[int], Callable[[], Any]]]


def make_targets(points: int, objects: int, images: int = 1) -> Callable[[], Any]:
    task, instances = make_task(points, "cpu"), [sample_instances(objects, seed) for seed in range(images)]
    return lambda: task.encode(Targets.from_instances(instances, 4, (GRID, GRID)))


def loss(points: int, images: int = 1) -> Callable[[], Any]:
    logits, sparse = make_loss_inputs(points, images, "cpu")
    return lambda: heatmap_focal_loss(logits, sparse).backward()


def make_decoding(points: int, images: int = 1) -> Callable[[], Any]:
    task = make_task(points, "cpu")
    maps = sample_maps(task, images, "cpu")
    return torch.no_grad()(lambda: task.merge(task.decode(maps), 100))


def forward(args: argparse.Namespace) -> Callable[[int, int], Callable[[], Any]]:
    """Of the network as ``Predictor`` runs it, by the side of square images and their number."""
    cfg = make_config(args.network, argparse.Namespace(device="cpu"))
    model = build_model(cfg).eval()
    accelerate(model, cfg)

    def run(side: int, images: int) -> Callable[[], Any]:
        batch = torch.randn(images, 3, side, side)
        return torch.no_grad()(lambda: model.run_network(batch))

    return run


def make_panels(args: argparse.Namespace) -> dict[str, list[Curve]]:
    """Curves by what they are drawn against."""
    network_time = forward(args)
    points, images = (1, 3, 9), (1, 2, 4, 8, 16)
    return {
        "points of an object": [
            ("targets, 32 objects", points, lambda n: make_targets(n, 32)),
            ("loss and gradient", points, loss),
            ("decoding and merging", points, make_decoding),
        ],
        "objects in an image": [
            (f"targets, points {k}", (1, 3, 10, 30, 100, 300, 1000), lambda n, k=k: make_targets(k, n)) for k in (1, 9)
        ],
        "images in a batch": [
            ("targets, 8 objects each", images, lambda n: make_targets(1, 8, n)),
            ("loss and gradient", images, lambda n: loss(1, n)),
            ("decoding", images, lambda n: make_decoding(1, n)),
            (f"network, {args.network}, 256x256", images[:4], lambda n: network_time(256, n)),
        ],
        "input pixels": [
            (f"network, {args.network}", (128**2, 256**2, 512**2, 1024**2), lambda n: network_time(math.isqrt(n), 1)),
        ],
    }  # fmt: skip


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    figure, axes = plt.subplots(2, 2, figsize=(10, 8), layout="constrained")
    print("| cost of | against | milliseconds | growth |\n|---|---|---|---|")
    for (against, curves), axis in zip(make_panels(args).items(), axes.flat, strict=True):
        longest: Sequence[int] = max((sizes for _, sizes, _ in curves), key=len)
        for name, sizes, make in curves:
            cost = [statistics.median(measure_times([make(n)], "cpu", args.seconds)[0]) for n in sizes]
            growth = math.log(cost[-1] / cost[-2]) / math.log(sizes[-1] / sizes[-2])
            values = ", ".join(f"{n}: {ms:.2f}" for n, ms in zip(sizes, cost, strict=True))
            print(f"| {name} | {against} | {values} | {growth:.2f} |", flush=True)
            axis.plot(sizes, [ms / cost[0] for ms in cost], marker="o", label=f"{name} ({cost[0]:.2g} ms)")
        axis.plot(longest, [n / longest[0] for n in longest], color="lightgrey", zorder=0, label="linear")
        axis.set(xscale="log", yscale="log", xlabel=against, ylabel="times the first value")
        axis.set_xticks(longest, [f"{n:,}" for n in longest], minor=False, rotation=30)
        axis.minorticks_off()
        axis.legend(fontsize="small")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.output, dpi=90)
    print(f"\n{args.output}")


if __name__ == "__main__":
    main()
