"""What ``tools/benchmark.py`` times beside a baseline, but for networks (``networks.py``)."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from benchmarks import baselines
from detectron2.structures import Boxes, Instances
from torch import Tensor

from centernet_d2 import get_cfg
from centernet_d2.data.dataset_mapper import CenterNetDatasetMapper
from centernet_d2.layers.deform_conv import deform_conv
from centernet_d2.modeling.heads import BoxSizeHead, ClassHeatmapHead, PointOffsetHead
from centernet_d2.modeling.tasks import DetectionTask
from centernet_d2.ops.focal_loss import heatmap_focal_loss
from centernet_d2.ops.lsnet.level_assignment import assign_atss, assign_centroid
from centernet_d2.ops.lsnet.pyramid_deform_conv import pyramid_deform_conv
from centernet_d2.structures import Targets
from centernet_d2.structures.transfer import move

POINTS = {1: [4], 3: [0, 4, 8], 9: list(range(9))}
CLASSES, GRID = 80, 128
#: Levels of a feature pyramid of an image of 800x1216: height, width.
PYRAMID = ((100, 152), (50, 76), (25, 38), (13, 19), (7, 10))

# What is timed, ours, and the baseline where there is one.
Row = tuple[str, Callable[[], Any], Callable[[], Any] | None]


def sample_objects(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Boxes in grid cells, sides log-uniform from 8 to 300 input pixels, and classes."""
    rng = np.random.default_rng(seed)
    sides = np.exp(rng.uniform(math.log(8), math.log(300), (count, 2))) / 4
    centers = rng.uniform(0, GRID, (count, 2))
    boxes = np.concatenate([centers - sides / 2, centers + sides / 2], axis=1).clip(0, GRID - 1).astype(np.float32)
    return boxes, rng.integers(0, CLASSES, count)


def sample_instances(count: int, seed: int = 0) -> Instances:
    """As a loader gives them, in input pixels."""
    boxes, classes = sample_objects(count, seed)
    instances = Instances((GRID * 4, GRID * 4))
    instances.gt_boxes, instances.gt_classes = Boxes(torch.from_numpy(boxes * 4)), torch.from_numpy(classes)
    return instances


def make_task(points: int, device: str) -> DetectionTask:
    shared = {"point_flags": POINTS[points], "in_channels": [4], "head_channels": 4, "loss_weight": 1.0}
    heatmap = ClassHeatmapHead(num_classes=CLASSES, **shared)
    return DetectionTask(
        heads={"heatmap": heatmap, "box_size": BoxSizeHead(**shared), "offset": PointOffsetHead(**shared)}
    ).to(device)


def time_loader(args: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    rng = np.random.default_rng(0)
    boxes, classes = sample_objects(8)
    for width, height, reduced in [(640, 480, False), (1920, 1080, False), (1920, 1080, True)]:
        smooth = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        image = cv2.resize(smooth, (width, height), interpolation=cv2.INTER_CUBIC)
        image = cv2.add(image, rng.integers(0, 24, image.shape, dtype=np.uint8))
        path = str(Path(args.folder) / f"{width}.jpg")
        cv2.imwrite(path, image)
        cfg = get_cfg()
        cfg.INPUT.REDUCED_DECODING = reduced
        mapper = CenterNetDatasetMapper(cfg, is_train=True)
        annotations = [
            {"bbox": (box * 4).tolist(), "bbox_mode": 0, "category_id": int(c), "iscrowd": 0}
            for box, c in zip(boxes, classes, strict=True)
        ]
        dataset_dict = {"file_name": path, "image_id": 1, "height": height, "width": width, "annotations": annotations}

        def run_ours(mapper: CenterNetDatasetMapper = mapper, dataset_dict: dict[str, Any] = dataset_dict) -> None:
            mapper(dataset_dict)

        def run_plain(path: str = path) -> None:
            baselines.load(path, rng)
            baselines.make_targets(boxes, classes, POINTS[1], CLASSES, GRID)

        label = f"loader, {width}x{height} JPEG, 8 objects" + ", reduced decoding" * reduced
        rows.append((label, run_ours, run_plain))
    return rows


def time_targets(args: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    for points, count, images in [(1, 8, 1), (1, 8, 16), (1, 128, 1), (3, 32, 1), (9, 32, 1), (9, 32, 16)]:
        task = make_task(points, args.device)
        instances = [sample_instances(count, seed) for seed in range(images)]
        arrays = [sample_objects(count, seed) for seed in range(images)]

        def run_ours(task: DetectionTask = task, instances: list[Instances] = instances) -> None:
            move(task.encode(Targets.from_instances(instances, 4, (GRID, GRID))), torch.device(args.device))

        def run_plain(arrays: list[Any] = arrays, points: int = points) -> None:
            for boxes, classes in arrays:
                baselines.make_targets(boxes, classes, POINTS[points], CLASSES, GRID)

        rows.append((f"targets, points {points}, images {images}, objects {count} each", run_ours, run_plain))
    return rows


def make_loss_inputs(points: int, images: int, device: str) -> tuple[Tensor, Any]:
    """Logits of ``images`` images and their sparse target, 32 objects each."""
    boxes, classes = sample_objects(32 * images)
    index = torch.arange(images).repeat_interleave(32)
    count = torch.tensor(32.0 * images)
    objects = Targets(torch.from_numpy(boxes), torch.from_numpy(classes), index, images, (GRID, GRID), count)
    sparse = move(make_task(points, device).heads["heatmap"].encode(objects), torch.device(device))
    return (torch.randn(sparse.shape, device=device) - 4).requires_grad_(), sparse


def time_loss(args: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    for points in (1, 9):
        logits, sparse = make_loss_inputs(points, 1, args.device)
        dense = sparse.to_dense()

        def run_ours(logits: Tensor = logits, sparse: Any = sparse) -> None:
            heatmap_focal_loss(logits, sparse).backward()

        def run_plain(logits: Tensor = logits, dense: Tensor = dense) -> None:
            baselines.focal_loss(logits, dense).backward()

        rows.append((f"heatmap loss, forward and backward, points {points}", run_ours, run_plain))
    return rows


def time_deform_conv(args: argparse.Namespace) -> list[Row]:
    """Those of DLA-34's and ResNet-18's necks at 512x512; the baseline is torchvision's kernel."""
    rows: list[Row] = []
    for channels, out_channels, side in [(64, 64, 128), (128, 64, 64), (256, 128, 32), (512, 256, 16)]:
        x = torch.randn(1, channels, side, side, device=args.device, requires_grad=True)
        positions = torch.randn(1, 27, side, side, device=args.device, requires_grad=True)
        weight = torch.randn(out_channels, channels, 3, 3, device=args.device, requires_grad=True)
        inputs = (x, positions, weight)

        def run_kernel(x: Tensor, positions: Tensor, weight: Tensor) -> Tensor:
            offset, mask = positions.split([18, 9], dim=1)
            return torchvision.ops.deform_conv2d(x, offset, weight, padding=1, mask=mask.sigmoid())

        def run_own(x: Tensor, positions: Tensor, weight: Tensor) -> Tensor:
            return deform_conv(x, positions, weight, None)

        def run_with_gradients(function: Callable[..., Tensor], inputs: Any = inputs) -> None:
            torch.autograd.grad(function(*inputs).sum(), inputs)

        def forward(function: Callable[..., Tensor], inputs: Any = inputs) -> None:
            with torch.no_grad():
                function(*inputs)

        for label, run in (("forward", forward), ("forward and backward", run_with_gradients)):
            name = f"deformable convolution, {channels} to {out_channels}, {side}x{side}, {label}"
            rows.append((name, partial(run, run_own), partial(run, run_kernel)))
    return rows


def make_pyramid_inputs(
    size: tuple[int, int], own: tuple[int, int], out_channels: int, device: str
) -> tuple[Tensor, Tensor, Tensor]:
    """256 features of a map of ``size``, kernel points some cells away, and the weights of 3x3 taps."""
    features = torch.randn(1, 256, *size, device=device, requires_grad=True)
    points = (3 * torch.randn(1, 9, 2, *own, device=device)).requires_grad_()
    return features, points, (0.01 * torch.randn(out_channels, 256, 3, 3, device=device)).requires_grad_()


def run_with_gradients(function: Callable[..., Tensor], inputs: Any) -> None:
    torch.autograd.grad(function(*inputs).sum(), inputs)


def time_pyramid(args: argparse.Namespace) -> list[Row]:
    """Of the second level of an image of 800x1216, which reads itself and its neighbors, in LSNet's second stage; and
    of one output, which is nearly the reading alone, without the matrix product that both have."""
    rows: list[Row] = []
    own, ours, plain = PYRAMID[1], pyramid_deform_conv, baselines.pyramid_deform_conv

    @torch.no_grad()
    def forward(function: Callable[..., Tensor], inputs: Any) -> None:
        function(*inputs)

    for level, out_channels in [(1, 256), (0, 256), (2, 256), (1, 1)]:
        size = PYRAMID[level]
        inputs = make_pyramid_inputs(size, own, out_channels, args.device)
        for label, run in (("forward", forward), ("forward and backward", run_with_gradients)):
            where = f"256 to {out_channels}, {own[0]}x{own[1]} reading {size[0]}x{size[1]}"
            name = f"pyramid deformable convolution, {where}, {label}"
            rows.append((name, partial(run, ours, inputs), partial(run, plain, inputs)))
    return rows


def make_assignment_inputs(images: int, count: int, device: str) -> tuple[Tensor, Tensor, Tensor, Tensor, list[int]]:
    """Points, strides, proposals and boxes of an image of 800x1216, ``count`` objects each, and cells of each level."""
    points, strides = [], []
    for (height, width), stride in zip(PYRAMID, (8, 16, 32, 64, 128), strict=True):
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        points.append(stride * torch.stack([x, y], dim=-1).flatten(0, 1).float())
        strides.append(torch.full((height * width,), float(stride)))
    place, stride = torch.cat(points).to(device), torch.cat(strides).to(device)
    boxes = torch.stack([torch.from_numpy(sample_objects(count, seed)[0]) for seed in range(images)])
    boxes = boxes.to(device) * torch.tensor([1216, 800] * 2, device=device) / GRID
    center = place + stride[:, None] * torch.randn(images, len(place), 2, device=device)
    half = stride[:, None] * (0.5 + 2 * torch.rand(images, len(place), 2, device=device))
    proposals = torch.cat([center - half, center + half], dim=-1)
    return place, stride, proposals, boxes, [height * width for height, width in PYRAMID]


def time_assignment(args: argparse.Namespace) -> list[Row]:
    """Both assignments of LSNet."""
    rows: list[Row] = []
    for images, count in [(1, 40), (8, 40), (1, 400)]:
        inputs = make_assignment_inputs(images, count, args.device)
        valid = torch.ones(images, count, dtype=torch.bool, device=args.device)

        def run_ours(inputs: Any = inputs, valid: Tensor = valid) -> None:
            points, strides, proposals, boxes, counts = inputs
            assign_centroid(points, strides, boxes, valid)
            assign_atss(proposals, counts, boxes, valid)

        def run_plain(inputs: Any = inputs) -> None:
            points, strides, proposals, boxes, counts = inputs
            for own, own_boxes in zip(proposals, boxes, strict=True):
                baselines.assign_centroid(points, strides, own_boxes)
                baselines.assign_atss(own, counts, own_boxes)

        rows.append((f"assignment, 800x1216, images {images}, objects {count} each", run_ours, run_plain))
    return rows


def sample_maps(task: DetectionTask, count: int, device: str, smooth: bool = False) -> dict[str, Tensor]:
    """Of noise, which has the most peaks; or ``smooth``, as trained networks give them. No box has a negative side."""
    maps = {
        name: torch.randn(count, head.out_channels, GRID, GRID, device=device) * 1.2 - 4
        for name, head in task.heads.items()
    }
    if smooth:
        coarse = F.avg_pool2d(maps["heatmap"], 4)
        maps["heatmap"] = F.interpolate(coarse, scale_factor=4, mode="bicubic") * 4 + 12
    maps["box_size"].abs_()
    return maps


def time_decoding(args: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    cases = [(points, 1, smooth) for points in (1, 3, 9) for smooth in (False, True)]
    for points, count, smooth in [*cases, (1, 8, False), (9, 8, False)]:
        task = make_task(points, args.device)
        maps = sample_maps(task, count, args.device, smooth)

        @torch.no_grad()
        def run_ours(task: DetectionTask = task, maps: dict[str, Tensor] = maps) -> None:
            task.decode(maps)

        @torch.no_grad()
        def decode_and_merge(task: DetectionTask = task, maps: dict[str, Tensor] = maps) -> None:
            task.merge(task.decode(maps), 100)

        @torch.no_grad()
        def run_plain(maps: dict[str, Tensor] = maps, points: int = points) -> None:
            if points == 1 and args.published:
                args.published.decode(maps["heatmap"], maps["box_size"], maps["offset"])
            else:
                baselines.decode(maps["heatmap"], maps["box_size"], maps["offset"], points)

        label = f"points {points}, images {count}, {'smooth maps' if smooth else 'noise'}"
        rows.append((f"decode, {label}", run_ours, run_plain))
        if points > 1:
            rows.append((f"decode and merge, {label}", decode_and_merge, run_plain))
    return rows


PARTS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "loader": time_loader, "targets": time_targets, "loss": time_loss, "decode": time_decoding,
    "deform": time_deform_conv,
    "pyramid": time_pyramid, "assignment": time_assignment,
}  # fmt: skip
