"""Gaussian radius, targets, losses and decoding of one point, ours and CenterNet's reference code, on the same numbers.

    git clone https://github.com/xingyizhou/CenterNet /tmp/CenterNet
    python tools/reference/compare_targets_decode.py --reference /tmp/CenterNet

Theirs is run as it is: the target code of its COCO loader on an image of the network's size, its loss modules and its
decoder. Where the two are meant to differ, the scenes keep out of the way or the factor is put in; comments say where.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import types
import warnings
from pathlib import Path

import cv2
import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor

from centernet_d2.modeling.heads import BoxSizeHead, ClassHeatmapHead, PointOffsetHead
from centernet_d2.modeling.tasks import DetectionTask
from centernet_d2.ops.gaussian import gaussian_radius
from centernet_d2.structures import Targets

SIZE, STRIDE, CLASSES, TOLERANCE = 512, 4, 5, 1e-5
GRID = SIZE // STRIDE


def load(reference: Path, name: str) -> types.ModuleType:
    """A module of theirs, by its file below src/lib: some of their packages import what needs a compiler."""
    path = reference / "src" / "lib" / f"{name}.py"
    if not path.is_file():
        sys.exit(f"{reference} is no checkout of CenterNet: it has no src/lib/{name}.py")
    library = str(reference / "src" / "lib")
    if library not in sys.path:
        sys.path.insert(0, library)
    return importlib.import_module(name.replace("/", "."))


def sample_scene(seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Boxes (P, 4) in input pixels and classes (P,).

    Theirs clips boxes to the last cell's index, one short of the border, and divides the focal loss by the number of
    *different* cells at 1: so no box touches the last cell, and no two centers of a class share one.
    """
    generator = torch.Generator().manual_seed(seed)
    side = 3 + 250 * torch.rand(count, 2, generator=generator) ** 3
    low = torch.rand(count, 2, generator=generator) * (SIZE - STRIDE - side)
    boxes = torch.cat([low, low + side], dim=1)
    classes = torch.randint(0, CLASSES, (count,), generator=generator)
    cells = ((boxes[:, :2] + boxes[:, 2:]) / 2 / STRIDE).long()
    keys = (classes * GRID + cells[:, 1]) * GRID + cells[:, 0]
    first = [int((keys == key).nonzero()[0]) for key in keys.unique()]
    return boxes[first], classes[first]


def make_our_objects(boxes: Tensor, classes: Tensor) -> Targets:
    instances = Instances((SIZE, SIZE))
    instances.gt_boxes, instances.gt_classes = Boxes(boxes), classes
    return Targets.from_instances([instances], STRIDE, (GRID, GRID))


def make_our_task() -> DetectionTask:
    shared = {"point_flags": (4,), "in_channels": [1], "head_channels": 1, "loss_weight": 1.0}
    heads = {
        "heatmap": ClassHeatmapHead(num_classes=CLASSES, **shared),
        "box_size": BoxSizeHead(encoding="wh", **shared),
        "offset": PointOffsetHead(**shared),
    }
    return DetectionTask(heads=heads)


class OneImage:
    """What their loader asks of a dataset and of its options, for one black image of the network's size."""

    def __init__(self, loader: types.ModuleType, folder: str, boxes: Tensor, classes: Tensor) -> None:
        cv2.imwrite(f"{folder}/image.png", np.zeros((SIZE, SIZE, 3), np.uint8))
        rows = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1).double().tolist()
        annotations = [{"bbox": row, "category_id": int(c)} for row, c in zip(rows, classes, strict=True)]
        self.coco = types.SimpleNamespace(
            loadImgs=lambda ids: [{"file_name": "image.png"}],
            getAnnIds=lambda imgIds: [0],
            loadAnns=lambda ids: annotations,
        )
        self.images, self.img_dir, self.split, self.max_objs = [0], folder, "val", len(annotations)
        self.num_classes, self.cat_ids = CLASSES, {c: c for c in range(CLASSES)}
        self.mean, self.std = np.zeros(3, np.float32), np.ones(3, np.float32)
        self.opt = types.SimpleNamespace(
            keep_res=False, input_h=SIZE, input_w=SIZE, down_ratio=STRIDE, mse_loss=False, dense_wh=False,
            cat_spec_wh=False, reg_offset=True, debug=0,
        )  # fmt: skip
        self.loader = loader

    def __getattr__(self, name: str) -> object:
        return getattr(self.loader.CTDetDataset, name).__get__(self)

    def make_targets(self) -> dict[str, Tensor]:
        sample = self.loader.CTDetDataset.__getitem__(self, 0)
        return {name: torch.as_tensor(sample[name])[None] for name in ("hm", "wh", "reg", "ind", "reg_mask")}


def compare_radius(reference: Path) -> dict[str, float]:
    theirs = load(reference, "utils/image").gaussian_radius
    sides = torch.arange(1, 257)
    sizes = torch.cartesian_prod(sides, sides)
    expected = torch.tensor([theirs((h, w)) for w, h in sizes.tolist()], dtype=torch.float64)
    radius = gaussian_radius(sizes)
    return {
        "Gaussian radius, 256 x 256 sizes": (radius - expected).abs().max().item(),
        "  as whole cells": (radius.long() - expected.long()).abs().max().item(),
    }


def compare_targets(ours: Targets, task: DetectionTask, theirs: dict[str, Tensor]) -> dict[str, float]:
    count = len(ours)
    heatmap = task.heads["heatmap"].encode(ours).to_dense()
    _, cells, sizes = task.heads["box_size"].encode(ours)
    _, _, offsets = task.heads["offset"].encode(ours)
    index = cells[:, 0, 1] * GRID + cells[:, 0, 0]
    assert theirs["reg_mask"].sum() == count
    return {
        "heatmap": (heatmap - theirs["hm"]).abs().max().item(),
        "cells": (index - theirs["ind"][0]).abs().max().item(),
        "sizes": (sizes[:, 0] - theirs["wh"][0]).abs().max().item(),
        "offsets": (offsets[:, 0] - theirs["reg"][0]).abs().max().item(),
    }


def compare_losses(
    ours: Targets, task: DetectionTask, theirs: dict[str, Tensor], reference: Path, seed: int
) -> dict[str, float]:
    losses = load(reference, "models/losses")
    sigmoid = load(reference, "models/utils")._sigmoid
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(1, CLASSES, GRID, GRID, generator=generator) - 2.19
    maps = 10 * torch.randn(1, 2, GRID, GRID, generator=generator)
    count, result = ours.num_objects, {}

    a, b = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    heatmap = task.heads["heatmap"]
    focal, expected = heatmap.loss(a, heatmap.encode(ours), count), losses.FocalLoss()(sigmoid(b * 1), theirs["hm"])
    result["focal loss, relative"] = (focal / expected - 1).abs().item()
    gradients = torch.autograd.grad(focal, a)[0], torch.autograd.grad(expected, b)[0]
    result["  its gradient, relative"] = ((gradients[0] - gradients[1]).abs().max() / gradients[1].abs().max()).item()

    for name, key in (("box_size", "wh"), ("offset", "reg")):
        head = task.heads[name]
        value = head.loss(maps, head.encode(ours), count)
        with warnings.catch_warnings(action="ignore"):  # of arguments that PyTorch has renamed since
            expected = losses.RegL1Loss()(maps, theirs["reg_mask"], theirs["ind"], theirs[key])
        # Theirs adds 1e-4 to the count of numbers.
        expected = expected * (2 * count + 1e-4) / (2 * count)
        result[f"L1 loss of {name}, relative"] = (value / expected - 1).abs().item()
    return result


def compare_decode(task: DetectionTask, reference: Path, seed: int) -> dict[str, float]:
    """Two images of random maps. Sizes are positive: ours reads a negative one as zero."""
    decode = load(reference, "models/decode").ctdet_decode
    generator = torch.Generator().manual_seed(seed)
    outputs = {
        "heatmap": 2 * torch.randn(2, CLASSES, GRID, GRID, generator=generator),
        "box_size": 40 * torch.rand(2, 2, GRID, GRID, generator=generator),
        "offset": torch.rand(2, 2, GRID, GRID, generator=generator),
    }
    theirs = decode(outputs["heatmap"].sigmoid(), outputs["box_size"], outputs["offset"], K=100)
    ours = task.merge(task.decode(outputs), 100)
    # Equal scores may come in any order.
    rows = [torch.cat([ours.boxes, ours.scores[..., None], ours.classes[..., None].float()], dim=-1), theirs]
    rows = [torch.stack([x[x[:, 0].argsort()] for x in part]) for part in rows]
    difference = (rows[0] - rows[1]).abs()
    return {
        "decoded boxes, cells": difference[..., :4].max().item(),
        "  scores": difference[..., 4].max().item(),
        "  classes": difference[..., 5].max().item(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="a checkout of CenterNet")
    parser.add_argument("--scenes", type=int, default=20)
    args = parser.parse_args()
    worst = compare_radius(args.reference)
    loader, task = load(args.reference, "datasets/sample/ctdet"), make_our_task()
    objects = 0
    for seed in range(args.scenes):
        boxes, classes = sample_scene(seed, 1 + 5 * seed)
        objects += len(boxes)
        with tempfile.TemporaryDirectory() as folder:
            theirs = OneImage(loader, folder, boxes, classes).make_targets()
        ours = make_our_objects(boxes, classes)
        predictions = compare_targets(ours, task, theirs)
        predictions |= compare_losses(ours, task, theirs, args.reference, seed)
        predictions |= compare_decode(task, args.reference, seed)
        worst |= {name: max(value, worst.get(name, 0.0)) for name, value in predictions.items()}
    print(f"{args.scenes} scenes, {objects} objects; largest differences:")
    for name, value in worst.items():
        print(f"  {name:36} {value:.1e}")
    if max(worst.values()) > TOLERANCE:
        sys.exit(f"some differences are larger than {TOLERANCE}")


if __name__ == "__main__":
    main()
