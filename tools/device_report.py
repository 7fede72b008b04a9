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
import platform
import subprocess
import sys
import time
import warnings
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
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from torch import Tensor

from centernet_d2.analysis.model_cost import count_flops
from centernet_d2.data.build import build_train_loader
from centernet_d2.engine.acceleration import CudaGraphs
from centernet_d2.engine.setup import setup_cfg

# Dense peaks by a part of the device's name: operations per second of float32 (TF32) and of 16 bits, bytes per second.
# From the makers' data sheets.
PEAKS = {
    "H200": (494.7e12, 989.4e12, 4.8e12),
    "H100": (494.7e12, 989.4e12, 3.35e12),
    "A100": (156e12, 312e12, 1.555e12),
    "L4": (60e12, 121e12, 0.3e12),
    "V100": (15.7e12, 125e12, 0.9e12),
    "T4": (8.1e12, 65e12, 0.32e12),
}
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Of CPU and device, relative to the largest value of a map or to a loss.
TOLERANCE = 1e-3


class Report:
    """What was measured, and how much time is left."""

    def __init__(self, device: torch.device, minutes: float) -> None:
        self.device, self.end = device, time.monotonic() + 60 * minutes
        self.small = device.type == "cpu"
        self.side = 128 if self.small else 512
        self.found: dict[str, Any] = {"equality": [], "speed": [], "left_out": []}

    def run(self, label: str, f: Callable[[], Any], part: str, seconds: float) -> None:
        """Add the rows of ``f`` to ``part``, unless less than ``seconds`` are left; an error is a row, too."""
        if time.monotonic() + seconds > self.end:
            self.found["left_out"].append(label)
            return
        try:
            rows = f()
        except (RuntimeError, ValueError, AssertionError) as error:
            rows = [{"what": label, "error": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}]
        print(f"{label}: {rows}", flush=True)
        self.found[part] += rows
        if not self.small:
            torch.cuda.empty_cache()


def describe(device: torch.device) -> dict[str, Any]:
    """Return names and versions, and the device's peaks, which are measured where the table lacks it."""
    name = platform.processor() or platform.machine() if device.type == "cpu" else torch.cuda.get_device_name(device)
    known = next((peaks for part, peaks in PEAKS.items() if device.type == "cuda" and part in name), None)
    peaks = known or (measure_peak(device, torch.float32), measure_peak(device, torch.bfloat16), measure_copy(device))
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "peaks": dict(zip(("float32", "16 bits", "bytes"), peaks, strict=True)),
        "peaks_from": "data sheet" if known else "measured: matrix product, copy",
    }


def measure_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Return operations per second (2 of each multiply-add) of a square matrix product."""
    side = 512 if device.type == "cpu" else 8192
    a = torch.ones(side, side, dtype=dtype, device=device)
    return 2 * side**3 / measure(lambda: a @ a, device, 0.2)


def measure_copy(device: torch.device) -> float:
    """Return bytes per second that are read and written."""
    a = torch.ones(1 << (24 if device.type == "cpu" else 28), device=device)
    b = torch.empty_like(a)
    return 8 * a.numel() / measure(lambda: b.copy_(a), device, 0.2)


def measure(f: Callable[[], Any], device: torch.device, seconds: float) -> float:
    """Return seconds of a call: of at least 2, after 2 others, and of at least ``seconds`` in all."""
    for _ in range(2):
        f()
    count, total = 0, 0.0
    while total < seconds or count < 2:
        count = max(2 * count, 2)
        synchronize(device)
        start = time.perf_counter()
        for _ in range(count):
            f()
        synchronize(device)
        total = time.perf_counter() - start
    return total / count


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


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


def time_training(name: str, count: int, precision: str, report: Report) -> list[dict[str, Any]]:
    """Time forward, backward and the optimizer's step; count the host's waits in one of them."""
    device, model = report.device, build_network(name, report).train()
    optimizer, batch = torch.optim.AdamW(model.parameters(), 1e-6), make_batch(model, count, report.side)

    def step() -> None:
        with autocast(device, precision):
            losses = model(batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()

    return [finish_row(f"training, {name}", count, precision, step, 3.0, model, report)]


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
    return [finish_row(label, count, precision, predict, 1.0, model, report)]


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    dtype = PRECISIONS[precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def finish_row(
    label: str, count: int, precision: str, f: Callable[[], Any], passes: float, model: Any, report: Report
) -> dict[str, Any]:
    """Measure ``f``, which costs ``passes`` forward passes of the network."""
    device, memory = report.device, None
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = measure(f, device, 0.1 if report.small else 1.0)
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated(device) / 2**20
    image = torch.zeros(1, model.input_channels, report.side, report.side, device=device)
    flops = 2 * passes * count * count_flops(model.eval().predict_maps, image)
    peak = report.found["machine"]["peaks"]["float32" if precision == "float32" else "16 bits"]
    return {
        "what": label,
        "images": count,
        "side": report.side,
        "precision": precision,
        "images_per_second": count / seconds,
        "peak_mib": memory,
        "share_of_peak": flops / seconds / peak,
        "waits": count_waits(f, device),
    }


def count_waits(f: Callable[[], Any], device: torch.device) -> int | None:
    """Return how often PyTorch warns of an operation that waits; None on a CPU."""
    if device.type != "cuda":
        return None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        f()
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(x.message) for x in caught)


def run_tests() -> list[dict[str, Any]]:
    """Run the tests that need a device, where there are tests."""
    command = [sys.executable, "-m", "pytest", "-q", "-k", "gpu or cuda", "tests/engine"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    return [{"what": "tests", "equal": done.returncode == 0, "output": done.stdout.splitlines()[-5:]}]


def write_markdown(found: dict[str, Any]) -> str:
    """Return the tables that go into docs/benchmarks.md."""
    machine = found["machine"]
    lines = [f"{machine['device']}, PyTorch {machine['torch']}; peaks ({machine['peaks_from']}): " + ", ".join(
        f"{name} {value / 1e12:.3g}e12/s" for name, value in machine["peaks"].items()), ""]  # fmt: skip
    lines += [
        "| CPU and device, largest relative difference | maps | losses | gradient | equal |",
        "|---|---|---|---|---|",
    ]
    for row in found["equality"]:
        numbers = [f"{row[key]:.0e}" if key in row else "" for key in ("maps", "losses", "gradient")]
        lines.append(f"| {row['what']} | {' | '.join(numbers)} | {row.get('error') or row['equal']} |")
    lines += [
        "",
        "| what | images | precision | images/s | peak MiB | share of peak | waits |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found["speed"]:
        if "error" in row:
            lines.append(f"| {row['what']} | | | {row['error']} | | | |")
            continue
        memory, waits = (row[key] if row[key] is not None else "-" for key in ("peak_mib", "waits"))
        memory = memory if isinstance(memory, str) else f"{memory:.0f}"
        lines.append(
            f"| {row['what']} | {row['images']} x {row['side']}x{row['side']} | {row['precision']} "
            f"| {row['images_per_second']:.1f} | {memory} | {100 * row['share_of_peak']:.1f} % | {waits} |"
        )
    if found["left_out"]:
        lines += ["", "Left out for lack of time: " + ", ".join(found["left_out"])]
    return "\n".join(lines) + "\n"


def measure_all(report: Report, args: argparse.Namespace) -> None:
    """Fill the report, the most telling figures first."""
    report.found["machine"] = describe(report.device)
    counts, precisions = ((1,), ("float32", "bfloat16")) if report.small else ((32, 1, 16), tuple(PRECISIONS)[::-1])
    for count in counts:
        for precision in precisions:
            for name in args.networks:
                label, settings = f"{name}, {count}, {precision}", (name, count, precision)
                seconds = 20.0 if report.small else 12.0
                report.run(f"training, {label}", lambda s=settings: time_training(*s, report), "speed", seconds)
                for graph in (False,) if report.small else (False, True):
                    predict = lambda s=settings, g=graph: time_prediction(*s, g, report)  # noqa: E731
                    report.run(f"maps, {label}" + ", graph" * graph, predict, "speed", seconds)
    paths = [
        x
        for x in sorted((ROOT / "configs").glob("Synthetic*/[a-z]*.yaml"))
        if args.tasks is None or x.stem in args.tasks
    ]
    for path in paths:
        report.run(f"equality, {path.stem}", lambda p=path: compare_task(p, report.device), "equality", 20.0)
    if not report.small and (ROOT / "tests").is_dir():
        report.run("tests", run_tests, "equality", 60.0)


def main(args: argparse.Namespace) -> None:
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    report = Report(device, (4 if device.type == "cpu" else 8) if args.minutes is None else args.minutes)
    measure_all(report, args)
    output = Path(args.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".json").write_text(json.dumps(report.found, indent=1))
    text = write_markdown(report.found)
    output.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main(ARGS)
