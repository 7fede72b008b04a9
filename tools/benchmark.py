#!/usr/bin/env python
"""Time the parts of the program against baselines, side by side in the same processes.

    tools/benchmark.py [--threads 1 2] [--parts loader targets loss decode deform pyramid assignment network step
                       predictor export allocator memory]
                       [--networks R_18_DCN DLA_34] [--reference PATH/TO/CenterNet] [--processes 3] [--device cuda]
    tools/benchmark.py --parts centerface --centerface PATH/TO/centerface.onnx

Ours and the baseline take turns; the medians and the 10th and 90th percentiles of at least a second of repeats in each
process are printed as a Markdown table, with baseline / ours as the ratio (the median of the processes' ratios, and the
extremes where there are several). The baselines are in ``tools/benchmarks/baselines.py``; with ``--reference`` the
reference implementation's own functions take their place where it has them, and its networks, training step and
predictor are timed, too.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

CHOICES = (
    *("loader", "targets", "loss", "decode", "deform", "pyramid", "assignment"),
    *("network", "step", "predictor", "export", "centerface", "allocator", "memory"),
)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=CHOICES, default=CHOICES, help="what to time (default: all)")
    parser.add_argument("--threads", type=int, nargs="+", help="CPU threads, one table each (default: all)")
    parser.add_argument("--processes", type=int, default=1, help="measure each part so often, each time in a new one")
    parser.add_argument("--seconds", type=float, default=1.0, help="of repeats at least, for each row and process")
    parser.add_argument("--networks", nargs="+", default=["R_18_DCN", "DLA_34"], help="names in configs/COCO-Detection")
    parser.add_argument("--batches", type=int, nargs="+", default=[1], help="images at once, of networks")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="(default: a GPU where there is one)")
    parser.add_argument("--reference", help="a checkout of CenterNet")
    parser.add_argument("--centerface", help="the published centerface.onnx, for the part of that name")
    args = parser.parse_args()
    if not args.centerface:
        args.parts = [part for part in args.parts if part != "centerface"]
    return args


if __name__ == "__main__":
    parse()  # --help and option errors come before the slow imports below

import cv2
import numpy as np
import torch
from benchmarks import baselines
from benchmarks import centerface as benchmark_centerface
from benchmarks import networks as benchmark_networks
from benchmarks import parts as benchmark_parts
from torch import Tensor
from torchvision.ops import deform_conv2d

from centernet_d2.engine.allocator import keep_freed_memory
from centernet_d2.ops.focal_loss import heatmap_focal_loss
from centernet_d2.ops.lsnet.pyramid_deform_conv import pyramid_deform_conv

PARTS = benchmark_parts.PARTS | benchmark_networks.PARTS | benchmark_centerface.PARTS

# Label, milliseconds of ours and of the baseline.
Measured = tuple[str, list[float], list[float] | None]


def measure_times(functions: list[Callable[[], Any]], device: str, seconds: float) -> list[list[float]]:
    """Milliseconds of each call; the functions take turns until each has had ``seconds``, and at least 5 calls."""
    for function in functions:
        function()
        function()
    predictions: list[list[float]] = [[] for _ in functions]
    while min(sum(x) for x in predictions) < seconds * 1000 or len(predictions[0]) < 5:
        for function, milliseconds in zip(functions, predictions, strict=True):
            if device == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter()
            function()
            if device == "cuda":
                torch.cuda.synchronize()
            milliseconds.append((time.perf_counter() - start) * 1000)
        if sum(sum(x) for x in predictions) > 60_000:
            break
    return predictions


def measure(part: str, threads: int, args: argparse.Namespace) -> list[Measured]:
    """All rows of ``part``, in a process of its own."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    args.published = None
    if args.reference:
        from benchmarks.reference import Reference

        args.published = Reference(args.reference)
        baselines.compute_radius, baselines.draw_gaussian = args.published.radius, args.published.draw_gaussian
    rows: list[Measured] = []
    for label, ours, plain in PARTS[part](args):
        predictions = measure_times([ours] if plain is None else [ours, plain], args.device, args.seconds)
        rows.append((label, predictions[0], predictions[1] if plain else None))
    return rows


def measure_allocator(threads: int, args: argparse.Namespace) -> list[Measured]:
    """Training steps on a CPU with freed memory kept, as ``Trainer`` does, against glibc's defaults: a process each,
    since what a process has set stays."""
    ours, plain = (run_process(time_steps, threads, args, keep) for keep in (True, False))
    return [(label, ours[label], plain[label]) for label in ours]


def time_steps(threads: int, args: argparse.Namespace, keep: bool) -> dict[str, list[float]]:
    torch.set_num_threads(threads)
    if keep:
        keep_freed_memory()
    args.device, args.published = "cpu", None
    steps = benchmark_networks.time_training_steps(args)
    return {f"{label}, freed memory kept": measure_times([step], "cpu", args.seconds)[0] for label, step, _ in steps}


def run_process(function: Callable[..., Any], *args: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def format_time(milliseconds: list[float]) -> str:
    low, high = np.percentile(milliseconds, [10, 90])
    return f"{statistics.median(milliseconds):.2f} [{low:.2f}-{high:.2f}]"


def print_rows(threads: int, runs: list[list[Measured]]) -> None:
    """One line for each label of ``runs``, the same rows from several processes."""
    for same in zip(*runs, strict=True):
        label, ours = same[0][0], [x for _, predictions, _ in same for x in predictions]
        plain = [x for _, _, predictions in same for x in predictions or ()]
        rest = "|"
        if plain:
            ratios = sorted(statistics.median(b) / statistics.median(a) for _, a, b in same if b)
            spread = f" ({ratios[0]:.1f}-{ratios[-1]:.1f})" if len(ratios) > 1 else ""
            rest = f"{format_time(plain)} | {statistics.median(ratios):.1f}{spread}"
        print(f"| {label} | {threads} | {format_time(ours)} | {rest} |", flush=True)


def measure_peak_mebibytes(function: Callable[[], Any]) -> float:
    """How far resident memory rises while ``function`` runs, in a process of its own (Linux, CPU)."""

    def run(connection: Any) -> None:
        torch.set_num_threads(1)
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before = read_status("VmRSS")
        function()
        connection.send((read_status("VmHWM") - before) / 1024)

    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=run, args=(sender,))
    process.start()
    process.join()
    return receiver.recv()


def read_status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def print_memory() -> None:
    print("\n| peak memory of | ours MiB | baseline MiB | ours / input | baseline / input |\n|---|---|---|---|---|")
    for points, images in [(1, 4), (9, 1), (9, 4)]:
        logits, sparse = benchmark_parts.make_loss_inputs(points, images, "cpu")
        dense = sparse.to_dense()
        print_memory_row(
            f"heatmap loss and gradient, points {points}, images {images}, logits",
            logits,
            lambda x=logits, y=sparse: heatmap_focal_loss(x, y).backward(),
            lambda x=logits, y=dense: baselines.focal_loss(x, y).backward(),
        )
    own, run = benchmark_parts.PYRAMID[0], benchmark_parts.run_with_gradients
    for size in benchmark_parts.PYRAMID[:3]:
        inputs = benchmark_parts.make_pyramid_inputs(size, own, 256, "cpu")
        plain = (benchmark_parts.make_pyramid_inputs(own, own, 256, "cpu")[0], inputs[1].flatten(1, 2), inputs[2])
        print_memory_row(
            f"pyramid deformable convolution, {own[0]}x{own[1]} reading {size[0]}x{size[1]}; baseline: torchvision's "
            "deformable convolution of its own level; features",
            plain[0],
            lambda x=inputs: run(pyramid_deform_conv, x),
            lambda x=plain: run(lambda f, o, w: deform_conv2d(f, o, w, padding=1), x),
        )


def print_memory_row(label: str, x: Tensor, ours: Callable[[], Any], plain: Callable[[], Any]) -> None:
    own, a, b = x.numel() * 4 / 2**20, measure_peak_mebibytes(ours), measure_peak_mebibytes(plain)
    print(f"| {label} {own:.0f} MiB | {a:.0f} | {b:.0f} | {a / own:.1f} | {b / own:.1f} |", flush=True)


def main() -> None:
    args = parse()
    args.threads = args.threads or [torch.get_num_threads()]
    args.device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.cuda.get_device_name() if args.device == "cuda" else platform.processor() or platform.machine()
    print(f"{device}, Python {platform.python_version()}, torch {torch.__version__}\n")
    print("| what | threads | ours ms [p10-p90] | baseline ms | ratio |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as args.folder:
        for threads in args.threads:
            for part in [x for x in args.parts if x in PARTS]:
                print_rows(threads, [run_process(measure, part, threads, args) for _ in range(args.processes)])
            if "allocator" in args.parts:
                print_rows(threads, [measure_allocator(threads, args) for _ in range(args.processes)])
    if "memory" in args.parts:
        print_memory()


if __name__ == "__main__":
    main()
