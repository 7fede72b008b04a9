#!/usr/bin/env python
"""Check and measure this program on a device, in one run of a few minutes: equality with a CPU, images per second, peak
memory, share of what the device can do, and waits of the host for it.

    tools/device_report.py [--device cuda] [--minutes 8] [--output output/device_report]

Writes <output>.json and <output>.md. What the time does not suffice for is left out, and listed. On a CPU networks get
small images and the figures say that the script works, no more. Nothing is downloaded, and no compiler is needed.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), help="(default: a GPU where there is one)")
    parser.add_argument("--minutes", type=float, help="for all (default: 8, on a CPU 4)")
    parser.add_argument("--output", default="output/device_report", help="files, without .json and .md")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="(default: all)")
    parser.add_argument("--tasks", nargs="*", help="configs of configs/Synthetic* to compare (default: all)")
    return parser.parse_args()


NETWORKS = {
    "R_18_DCN": "COCO-Detection/centernet_R_18_DCN_1pt.yaml",
    "DLA_34": "COCO-Detection/centernet_DLA_34_1pt.yaml",
    "HG_104": "COCO-Detection/centernet_HG_104_1pt.yaml",
    "LSNet_R_50": "COCO-LSNet-Detection/lsnet_box_R_50_1x.yaml",
}
if __name__ == "__main__":
    ARGS = parse()  # --help and option errors come before the slow imports below

import torch
from benchmarks.device import count_waits, describe, measure, write_markdown
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from torch import Tensor

from centernet_d2.analysis.model_cost import count_flops
from centernet_d2.data.build import build_train_loader
from centernet_d2.engine.acceleration import CudaGraphs
from centernet_d2.engine.setup import setup_cfg
from centernet_d2.layers.deform_conv import KERNELS, deform_conv

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Channels, output channels and side of the layers with the most samples: five such in DLA-34, then R_18_DCN's three.
DEFORMABLE = ((64, 64, 128), (512, 256, 16), (256, 128, 32), (128, 64, 64))
# Of CPU and device, relative to the largest value of a map or to a loss.
TOLERANCE = 1e-3


class Report:
    """What was measured, and how much time is left."""

    def __init__(self, device: torch.device, minutes: float) -> None:
        self.device, self.end = device, time.monotonic() + 60 * minutes
        self.small = device.type == "cpu"
        self.side = 128 if self.small else 512
        self.results: dict[str, Any] = {"equality": [], "speed": [], "left_out": []}

    def run(self, label: str, f: Callable[[], Any], part: str, seconds: float) -> None:
        """Add the rows of ``f`` to ``part``, unless less than ``seconds`` are left; an error is a row, too."""
        if time.monotonic() + seconds > self.end:
            self.results["left_out"].append(label)
            return
        try:
            rows = f()
        except (RuntimeError, ValueError, AssertionError) as error:
            rows = [{"what": label, "error": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}]
        print(f"{label}: {rows}", flush=True)
        self.results[part] += rows
        if not self.small:
            torch.cuda.empty_cache()


def compare_task(path: Path, device: torch.device) -> list[dict[str, Any]]:
    """Compare maps, losses and gradients of a model on the CPU and on ``device``: the largest differences, relative."""
    options = ["SOLVER.IMS_PER_BATCH", 1, "DATALOADER.NUM_WORKERS", 0, "MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu"]
    cfg = setup_cfg(str(path), [*options, "SEED", 0])
    batch = next(iter(build_train_loader(cfg)))
    torch.manual_seed(0)
    model = build_model(cfg)
    start = copy.deepcopy(model.state_dict())
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    results = []
    for place in (torch.device("cpu"), device):
        model.load_state_dict(start)  # training has changed the statistics
        model.to(place).zero_grad(set_to_none=True)
        losses = model.train()(batch)
        sum(losses.values()).backward()
        norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
        with torch.no_grad():
            maps = model.eval().predict_maps(model.preprocess_image(batch))
        parts = {"losses": torch.stack(list(losses.values())), "gradient": norm[None]} | maps
        results.append({name: x.detach().cpu().double() for name, x in parts.items()})
    worst = {
        name: float((results[1][name] - x).abs().max() / x.abs().max().clamp(min=1e-9))
        for name, x in results[0].items()
    }
    maps_worst = max(value for name, value in worst.items() if name not in ("losses", "gradient"))
    row = {"what": f"{path.parent.name}/{path.stem}", "losses": worst["losses"], "gradient": worst["gradient"]}
    return [{**row, "maps": maps_worst, "equal": max(worst.values()) < TOLERANCE}]


def build_network(name: str, report: Report) -> Any:
    """Build a network with random weights, in training."""
    cfg = setup_cfg(str(ROOT / "configs" / NETWORKS[name]), ["MODEL.WEIGHTS", "", "MODEL.DEVICE", report.device.type])
    return build_model(cfg)


def make_batch(model: Any, count: int, side: int) -> list[dict[str, Any]]:
    """Return images of noise with eight objects each, and what the task wants of them."""
    boxes = torch.tensor([[x, y, x + 0.2, y + 0.3] for x in (0.05, 0.3, 0.55, 0.75) for y in (0.1, 0.6)]) * side
    instances = Instances((side, side), gt_boxes=Boxes(boxes), gt_classes=torch.arange(8))
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    if "extreme_points" in model.task.required_fields:
        ends = [
            [middle[:, 0], boxes[:, 1]],
            [boxes[:, 0], middle[:, 1]],
            [middle[:, 0], boxes[:, 3]],
            [boxes[:, 2], middle[:, 1]],
        ]
        points = torch.stack([torch.stack([*xy, torch.ones(8)], dim=-1) for xy in ends], dim=1)
        instances.gt_extreme_points = points
    image = torch.randint(0, 256, (3, side, side), dtype=torch.uint8)
    return [{"image": image, "instances": instances} for _ in range(count)]


def time_training(name: str, count: int, precision: str, compiled: bool, report: Report) -> list[dict[str, Any]]:
    """Time forward, backward and the optimizer's step; count the host's waits in one of them."""
    device, model = report.device, build_network(name, report).train()
    optimizer, batch = torch.optim.AdamW(model.parameters(), 1e-6), make_batch(model, count, report.side)

    def step() -> None:
        with autocast(device, precision):
            losses = model(batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()

    flops = 3 * count_network(model, count, report)
    if compiled:
        model.compile(mode="reduce-overhead", with_losses=True)
    label = f"training, {name}" + ", compiled with CUDA graphs" * compiled
    return [finish_row(label, (count, report.side), precision, step, flops, report)]


def time_prediction(name: str, count: int, precision: str, graph: bool, report: Report) -> list[dict[str, Any]]:
    """Time the network up to its maps."""
    device, model = report.device, build_network(name, report).eval()
    images = torch.randn(count, 3, report.side, report.side, device=device)

    def compute_maps(images: Tensor) -> dict[str, Tensor]:
        with autocast(device, precision):
            return model.predict_maps(images)

    network = CudaGraphs(compute_maps) if graph else compute_maps

    def predict() -> None:
        with torch.no_grad():
            network(images)

    label = f"maps, {name}" + ", CUDA graph" * graph
    flops = count_network(model, count, report)
    return [finish_row(label, (count, report.side), precision, predict, flops, report)]


def time_deform_conv(layer: tuple[int, int, int], kernel: str, report: Report) -> list[dict[str, Any]]:
    """Time forward and backward of a deformable convolution of so many input and output channels and such a side."""
    channels, out_channels, side = layer
    device, count = report.device, 32
    if report.small:
        side, count = side // 4, 1
    x, offset_mask, weight = (
        torch.randn(*shape, device=device, requires_grad=True)
        for shape in ((count, channels, side, side), (count, 27, side, side), (out_channels, channels, 3, 3))
    )

    def step() -> None:
        with autocast(device, "bfloat16"):
            result = deform_conv(x.bfloat16(), offset_mask.bfloat16(), weight, None, kernel=kernel)
        result.sum().backward()

    label = f"deformable convolution, {channels} to {out_channels}, {kernel}"
    flops = 3 * 2 * 9 * channels * out_channels * side**2 * count
    return [finish_row(label, (count, side), "bfloat16", step, flops, report)]


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    dtype = PRECISIONS[precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def count_network(model: Any, count: int, report: Report) -> float:
    """Return the operations of one forward pass of ``count`` images, two for each multiplication with its addition."""
    training, image = model.training, torch.zeros(1, model.input_channels, report.side, report.side)
    flops = 2 * count * count_flops(model.eval().predict_maps, image.to(report.device))
    model.train(training)
    return flops


def finish_row(
    label: str, images: tuple[int, int], precision: str, f: Callable[[], Any], flops: float, report: Report
) -> dict[str, Any]:
    """Measure ``f``, which takes ``flops`` for ``images``, so many and of such a side."""
    device, memory = report.device, None
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = measure(f, device, 0.1 if report.small else 1.0)
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated(device) / 2**20
    peak = report.results["machine"]["peaks"]["float32" if precision == "float32" else "16 bits"]
    return {
        "what": label,
        "images": images[0],
        "side": images[1],
        "precision": precision,
        "images_per_second": images[0] / seconds,
        "peak_mib": memory,
        "share_of_peak": flops / seconds / peak,
        "waits": count_waits(f, device),
    }


def run_tests() -> list[dict[str, Any]]:
    """Run the tests that need a device, where there are tests."""
    command = [sys.executable, "-m", "pytest", "-q", "-k", "gpu or cuda", "tests/engine"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    return [{"what": "tests", "equal": done.returncode == 0, "output": done.stdout.splitlines()[-5:]}]


def measure_networks(report: Report, names: list[str], count: int) -> None:
    """Time training and prediction of ``count`` images."""
    seconds = 20.0 if report.small else 12.0
    for precision in ("float32", "bfloat16") if report.small else tuple(PRECISIONS)[::-1]:
        for name in names:
            label, settings = f"{name}, {count}, {precision}", (name, count, precision)
            report.run(f"training, {label}", lambda s=settings: time_training(*s, False, report), "speed", seconds)
            for graph in (False,) if report.small else (False, True):
                predict = lambda s=settings, g=graph: time_prediction(*s, g, report)  # noqa: E731
                report.run(f"maps, {label}" + ", graph" * graph, predict, "speed", seconds)


def measure_choices(report: Report) -> None:
    """Time what there are two ways of: deformable convolutions, and on a GPU a compiled training step."""
    for layer in DEFORMABLE:
        for kernel in KERNELS[1:]:
            time_it = lambda s=layer, k=kernel: time_deform_conv(s, k, report)  # noqa: E731
            report.run(f"deformable convolution, {layer}, {kernel}", time_it, "speed", 5.0)
    for count in () if report.small else (1, 32):
        graphs = lambda n=count: time_training("DLA_34", n, "bfloat16", True, report)  # noqa: E731
        report.run(f"training, DLA_34, {count}, compiled", graphs, "speed", 90.0)


def measure_all(report: Report, args: argparse.Namespace) -> None:
    """Fill the report, the most telling figures first."""
    report.results["machine"] = describe(report.device)
    # Batch normalization needs two images where maps of a small input have one cell.
    most, *fewer = (2,) if report.small else (32, 1, 16)
    measure_networks(report, args.networks, most)
    measure_choices(report)
    paths = [
        x
        for x in sorted((ROOT / "configs").glob("Synthetic*/[a-z]*.yaml"))
        if args.tasks is None or x.stem in args.tasks
    ]
    for path in paths:
        report.run(f"equality, {path.stem}", lambda p=path: compare_task(p, report.device), "equality", 20.0)
    if not report.small and (ROOT / "tests").is_dir():
        report.run("tests", run_tests, "equality", 60.0)
    for count in fewer:
        measure_networks(report, args.networks, count)


def main(args: argparse.Namespace) -> None:
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    report = Report(device, (4 if device.type == "cpu" else 8) if args.minutes is None else args.minutes)
    measure_all(report, args)
    output = Path(args.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".json").write_text(json.dumps(report.results, indent=1))
    text = write_markdown(report.results)
    output.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main(ARGS)
