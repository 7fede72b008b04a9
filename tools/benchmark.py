#!/usr/bin/env python
"""Time the parts of the program against straightforward baselines, side by side in one run.

    tools/benchmark.py [--threads 1 2] [--parts loader targets loss decode network step predictor memory]
                       [--networks R_18_DCN DLA_34] [--reference PATH/TO/CenterNet/src/lib] [--device cuda]

Ours and the baseline take turns; the medians and the 10th and 90th percentiles of at least a second of repeats are
printed
as a Markdown table, with baseline / ours as the ratio. The baselines are in ``tools/benchmark_baselines.py``; with
``--reference`` the published implementation's own functions take their place where they can be called.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import benchmark_baselines as baselines
import cv2
import numpy as np
import torch
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from centernet_d2 import get_cfg
from centernet_d2.data.dataset_mapper import CenterNetDatasetMapper
from centernet_d2.modeling.branch import GridBoxSize, GridHeatmap, GridOffset
from centernet_d2.modeling.task import GridPointTask
from centernet_d2.ops.focal import heatmap_focal_loss
from centernet_d2.structures import Targets

POINTS = {1: [4], 3: [0, 4, 8], 9: list(range(9))}
CLASSES, GRID = 80, 128
CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "COCO-Detection"

Row = tuple[str, Callable[[], Any], Callable[[], Any] | None]


def times(functions: list[Callable[[], Any]], device: str, seconds: float = 1.0) -> list[list[float]]:
    """Milliseconds of each call; the functions take turns until each has had ``seconds``, and at least 5 calls."""
    for function in functions:
        function()
        function()
    found: list[list[float]] = [[] for _ in functions]
    while min(sum(x) for x in found) < seconds * 1000 or len(found[0]) < 5:
        for function, milliseconds in zip(functions, found, strict=True):
            if device == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter()
            function()
            if device == "cuda":
                torch.cuda.synchronize()
            milliseconds.append((time.perf_counter() - start) * 1000)
        if sum(sum(x) for x in found) > 60_000:
            break
    return found


def shown(milliseconds: list[float]) -> str:
    low, high = np.percentile(milliseconds, [10, 90])
    return f"{statistics.median(milliseconds):.2f} [{low:.2f}-{high:.2f}]"


def random_objects(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Boxes in grid cells, sides log-uniform from 8 to 300 input pixels, and classes."""
    rng = np.random.default_rng(seed)
    sides = np.exp(rng.uniform(math.log(8), math.log(300), (count, 2))) / 4
    centers = rng.uniform(0, GRID, (count, 2))
    boxes = np.concatenate([centers - sides / 2, centers + sides / 2], axis=1).clip(0, GRID - 1).astype(np.float32)
    return boxes, rng.integers(0, CLASSES, count)


def make_task(points: int, device: str) -> GridPointTask:
    shared = {"point_flags": POINTS[points], "in_channels": [4], "head_channels": 4, "loss_weight": 1.0}
    heatmap = GridHeatmap(num_classes=CLASSES, **shared)
    return GridPointTask(
        branches={"heatmap": heatmap, "box_size": GridBoxSize(**shared), "offset": GridOffset(**shared)}
    ).to(device)


def loader_rows(args: argparse.Namespace) -> list[Row]:
    folder = Path(args.folder)
    rng = np.random.default_rng(0)
    smooth = cv2.resize(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC)
    picture = cv2.add(smooth, rng.integers(0, 24, smooth.shape, dtype=np.uint8))
    path = str(folder / "picture.jpg")
    cv2.imwrite(path, picture)
    mapper = CenterNetDatasetMapper(get_cfg(), is_train=True)
    boxes, classes = random_objects(8)
    annotations = [
        {"bbox": (box * 4).tolist(), "bbox_mode": 0, "category_id": int(c), "iscrowd": 0}
        for box, c in zip(boxes, classes, strict=True)
    ]
    record = {"file_name": path, "image_id": 1, "height": 480, "width": 640, "annotations": annotations}

    def plain() -> list[np.ndarray]:
        return [baselines.load(path, rng), *baselines.targets(boxes, classes, POINTS[1], CLASSES, GRID).values()]

    sample = mapper(record)
    ours = sample["image"].nbytes + sample["instances"].gt_boxes.tensor.nbytes + sample["instances"].gt_classes.nbytes
    theirs = sum(array.nbytes for array in plain())
    sizes = f"a sample is {ours / 2**20:.1f} MiB, the baseline's {theirs / 2**20:.1f}"
    return [(f"loader, 640x480 JPEG, 8 objects ({sizes})", lambda: mapper(record), plain)]


def target_rows(args: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    for points, count in [(1, 8), (1, 128), (3, 32), (9, 32)]:
        boxes, classes = random_objects(count)
        instances = Instances((GRID * 4, GRID * 4))
        instances.gt_boxes = Boxes(torch.from_numpy(boxes * 4))
        instances.gt_classes = torch.from_numpy(classes)
        task = make_task(points, args.device)

        def ours(task: GridPointTask = task, instances: Instances = instances) -> None:
            task.targets(Targets.from_instances([instances], 4, (GRID, GRID)).to(torch.device(args.device)))

        def plain(boxes: np.ndarray = boxes, classes: np.ndarray = classes, points: int = points) -> None:
            baselines.targets(boxes, classes, POINTS[points], CLASSES, GRID)

        rows.append((f"targets, {points} points, {count} objects", ours, plain))
    return rows


def loss_inputs(points: int, images: int, device: str) -> tuple[torch.Tensor, Any]:
    """Logits of ``images`` pictures and their sparse target, 32 objects each."""
    boxes, classes = random_objects(32 * images)
    index = torch.arange(images).repeat_interleave(32)
    count = torch.tensor(32.0 * images)
    objects = Targets(torch.from_numpy(boxes), torch.from_numpy(classes), index, images, (GRID, GRID), count)
    sparse = make_task(points, device).branches["heatmap"].target(objects.to(torch.device(device)))
    return (torch.randn(sparse.shape, device=device) - 4).requires_grad_(), sparse


def loss_rows(args: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    for points in (1, 9):
        logits, sparse = loss_inputs(points, 1, args.device)
        dense = sparse.dense()

        def ours(logits: torch.Tensor = logits, sparse: Any = sparse) -> None:
            heatmap_focal_loss(logits, sparse).backward()

        def plain(logits: torch.Tensor = logits, dense: torch.Tensor = dense) -> None:
            baselines.focal_loss(logits, dense).backward()

        rows.append((f"heatmap loss, forward and backward, {points} points", ours, plain))
    return rows


def peak_mebibytes(function: Callable[[], Any]) -> float:
    """How far resident memory rises while ``function`` runs, in a process of its own (Linux, CPU)."""

    def measure(connection: Any) -> None:
        torch.set_num_threads(1)
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before = _status("VmRSS")
        function()
        connection.send((_status("VmHWM") - before) / 1024)

    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=measure, args=(sender,))
    process.start()
    process.join()
    return receiver.recv()


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def print_memory() -> None:
    print("\n| peak memory of | ours MiB | baseline MiB | ours / logits | baseline / logits |\n|---|---|---|---|---|")
    for points, images in [(1, 4), (9, 1), (9, 4)]:
        logits, sparse = loss_inputs(points, images, "cpu")
        dense, own = sparse.dense(), logits.numel() * 4 / 2**20
        ours = peak_mebibytes(lambda x=logits, y=sparse: heatmap_focal_loss(x, y).backward())
        plain = peak_mebibytes(lambda x=logits, y=dense: baselines.focal_loss(x, y).backward())
        label = f"heatmap loss and gradient, {points} points, {images} pictures, logits {own:.0f} MiB"
        print(f"| {label} | {ours:.0f} | {plain:.0f} | {ours / own:.1f} | {plain / own:.1f} |", flush=True)


def decode_rows(args: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    for points, count in [(1, 1), (1, 8), (3, 1), (9, 1), (9, 8)]:
        task = make_task(points, args.device)
        maps = {
            name: torch.randn(count, branch.out_channels, GRID, GRID, device=args.device) * 1.2 - 4
            for name, branch in task.branches.items()
        }

        def ours(task: GridPointTask = task, maps: dict[str, torch.Tensor] = maps) -> None:
            with torch.no_grad():
                task.candidates(maps)

        def merged(task: GridPointTask = task, maps: dict[str, torch.Tensor] = maps) -> None:
            with torch.no_grad():
                task.merge(task.candidates(maps), 100)

        def plain(maps: dict[str, torch.Tensor] = maps, points: int = points) -> None:
            with torch.no_grad():
                baselines.decode(maps["heatmap"], maps["box_size"], maps["offset"], points)

        rows.append((f"decode, {points} points, batch {count}", ours, plain))
        if points > 1:
            rows.append((f"decode and merge, {points} points, batch {count}", merged, plain))
    return rows


def network(name: str, args: argparse.Namespace) -> Any:
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / f"centernet_{name}_1pt.yaml"))
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS, cfg.MODEL.CENTERNET.NUM_CLASSES = args.device, "", CLASSES
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ()
    return cfg


def network_rows(args: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    for name in args.networks:
        model = build_model(network(name, args)).eval()
        for count in args.batches:
            batch = torch.randn(count, 3, 512, 512, device=args.device)
            for dtype in [None] + ([torch.float16] if args.device == "cuda" else [torch.bfloat16]):

                def ours(model: Any = model, batch: torch.Tensor = batch, dtype: Any = dtype) -> None:
                    with torch.no_grad(), torch.autocast(args.device, dtype=dtype, enabled=dtype is not None):
                        model.outputs(batch)

                label = "float32" if dtype is None else str(dtype).removeprefix("torch.")
                rows.append((f"forward, {name}, batch {count}, 512x512, {label}", ours, None))
    return rows


def step_rows(args: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    for name in args.networks:
        model = build_model(network(name, args)).train()
        optimizer = torch.optim.Adam(model.parameters(), 1e-4)
        boxes, classes = random_objects(8)
        instances = Instances((512, 512))
        instances.gt_boxes, instances.gt_classes = Boxes(torch.from_numpy(boxes * 4)), torch.from_numpy(classes)
        image = torch.randint(0, 256, (3, 512, 512), dtype=torch.uint8)
        inputs = [{"image": image, "instances": instances}] * 2

        def ours(model: Any = model, optimizer: Any = optimizer, inputs: Any = inputs) -> None:
            optimizer.zero_grad()
            sum(model(inputs).values()).backward()
            optimizer.step()

        rows.append((f"training step, {name}, batch 2, 512x512", ours, None))
    return rows


def predictor_rows(args: argparse.Namespace) -> list[Row]:
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    rows: list[Row] = []
    for name in args.networks:
        predictor = DefaultPredictor(network(name, args))
        rows.append((f"predictor, {name}, 640x480 picture", lambda predictor=predictor: predictor(picture), None))
    return rows


PARTS = {
    "loader": loader_rows, "targets": target_rows, "loss": loss_rows, "decode": decode_rows,
    "network": network_rows, "step": step_rows, "predictor": predictor_rows,
}  # fmt: skip


def use_reference(path: str) -> None:
    """Let the published implementation's drawing and decoding stand for the baselines of one point."""
    import sys

    sys.path.insert(0, path)
    from utils.image import draw_umich_gaussian, gaussian_radius

    baselines.radius = lambda height, width, overlap=0.7: gaussian_radius((height, width), overlap)
    baselines.draw_gaussian = lambda heatmap, x, y, r: draw_umich_gaussian(heatmap, (x, y), r)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=[*PARTS, "memory"], default=[*PARTS, "memory"])
    parser.add_argument("--threads", type=int, nargs="+", default=[torch.get_num_threads()])
    parser.add_argument("--networks", nargs="+", default=["R_18_DCN", "DLA_34"], help="names in configs/COCO-Detection")
    parser.add_argument("--batches", type=int, nargs="+", default=[1])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--reference", help="folder src/lib of a CenterNet checkout")
    args = parser.parse_args()
    if args.reference:
        use_reference(args.reference)
    device = torch.cuda.get_device_name() if args.device == "cuda" else platform.processor() or platform.machine()
    print(f"{device}, Python {platform.python_version()}, torch {torch.__version__}\n")
    print("| what | threads | ours ms [p10-p90] | baseline ms | ratio |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as args.folder:
        for threads in args.threads:
            torch.set_num_threads(threads)
            cv2.setNumThreads(threads)
            for part in [x for x in args.parts if x in PARTS]:
                for label, ours, plain in PARTS[part](args):
                    found = times([ours] if plain is None else [ours, plain], args.device)
                    ratio = statistics.median(found[1]) / statistics.median(found[0]) if plain else math.nan
                    rest = f"{shown(found[1])} | {ratio:.1f}" if plain else "|"
                    print(f"| {label} | {threads} | {shown(found[0])} | {rest} |", flush=True)
    if "memory" in args.parts:
        print_memory()


if __name__ == "__main__":
    main()
