"""Straightforward versions of what CenterNet does, as baselines for ``tools/benchmark.py``.

Written from the papers' definitions, one step after another, the way the published loaders and decoders go about it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou

MEAN = np.array([0.40789654, 0.44719302, 0.47026115], dtype=np.float32)
STD = np.array([0.28863828, 0.27408164, 0.27809835], dtype=np.float32)


def compute_radius(height: float, width: float, overlap: float = 0.7) -> float:
    total = height + width
    return math.sqrt((overlap * total) ** 2 + 4 * overlap * (1 - overlap) * height * width) - overlap * total


def draw_gaussian(heatmap: np.ndarray, x: int, y: int, r: int) -> None:
    span = np.arange(-r, r + 1)
    sigma = (2 * r + 1) / 6
    window = np.exp(-(span[:, None] ** 2 + span[None] ** 2) / (2 * sigma * sigma)).astype(np.float32)
    height, width = heatmap.shape
    left, right, top, bottom = min(x, r), min(width - x, r + 1), min(y, r), min(height - y, r + 1)
    area = heatmap[y - top : y + bottom, x - left : x + right]
    np.maximum(area, window[r - top : r + bottom, r - left : r + right], out=area)


def make_targets(
    boxes: np.ndarray, classes: np.ndarray, points: list[int], num_classes: int, grid: int
) -> dict[str, np.ndarray]:
    """Dense targets of one image, one object after another; ``boxes`` (P, 4) in grid cells."""
    k, most = len(points), 128
    heatmap = np.zeros((num_classes * k, grid, grid), dtype=np.float32)
    size, offset = np.zeros((most, 2 * k), np.float32), np.zeros((most, 2 * k), np.float32)
    index, mask = np.zeros((most, k), np.int64), np.zeros((most, k), np.uint8)
    for i, (box, category) in enumerate(zip(boxes[:most], classes[:most], strict=True)):
        w, h = box[2] - box[0], box[3] - box[1]
        if w <= 0 or h <= 0:
            continue
        r = max(0, int(compute_radius(math.ceil(h), math.ceil(w))))
        for j, p in enumerate(points):
            point = np.array([box[0] + (1 + p % 3) / 4 * w, box[1] + (1 + p // 3) / 4 * h], dtype=np.float32)
            cell = point.astype(np.int32)
            draw_gaussian(heatmap[category * k + j], cell[0], cell[1], r)
            size[i, 2 * j : 2 * j + 2], offset[i, 2 * j : 2 * j + 2] = (w, h), point - cell
            index[i, j], mask[i, j] = cell[1] * grid + cell[0], 1
    return {"heatmap": heatmap, "size": size, "offset": offset, "index": index, "mask": mask}


def focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    p = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
    positive, negative = target.eq(1).float(), target.lt(1).float()
    gain = p.log() * (1 - p) ** 2 * positive
    loss = (1 - p).log() * p**2 * (1 - target) ** 4 * negative
    return -(gain.sum() + loss.sum()) / positive.sum().clamp(min=1)


def pyramid_deform_conv(features: Tensor, points: Tensor, weight: Tensor) -> Tensor:
    """One ``grid_sample`` for each of the nine kernel points, then a convolution of all they read."""
    size, (height, width) = features.shape[-2:], points.shape[-2:]
    y, x = (torch.arange(side, device=points.device, dtype=points.dtype) for side in (height, width))
    read = []
    for k in range(9):
        at_y = 2 * ((points[:, k, 0] + y[:, None]) * (size[0] / height) + 0.5) / size[0] - 1
        at_x = 2 * ((points[:, k, 1] + x) * (size[1] / width) + 0.5) / size[1] - 1
        read.append(F.grid_sample(features, torch.stack([at_x, at_y], dim=-1), align_corners=False))
    columns = torch.stack(read, dim=2).flatten(1, 2)
    return F.conv2d(columns, weight.flatten(1)[:, :, None, None])


def assign_centroid(points: Tensor, strides: Tensor, boxes: Tensor) -> Tensor:
    """One object after another: (A,) index of each cell's object, -1 for none; ``boxes`` (P, 4)."""
    owner = torch.full_like(strides, -1, dtype=torch.int64)
    least = torch.full_like(strides, math.inf)
    index, levels = torch.arange(len(points), device=points.device), strides.log2().int()
    for i, box in enumerate(boxes):
        size, center = box[2:] - box[:2], (box[:2] + box[2:]) / 2
        level = ((size / 4).log2().sum() / 2).int().clamp(levels.min(), levels.max())
        own = levels == level
        distance, best = ((points[own] - center) / size).norm(dim=1).topk(1, largest=False)
        cell = index[own][best]
        closer = distance < least[cell]
        owner[cell[closer]], least[cell[closer]] = i, distance[closer]
    return owner


def assign_atss(proposals: Tensor, level_counts: Sequence[int], boxes: Tensor, topk: int = 9) -> Tensor:
    """The IoU of every cell with every object first: (A,) as above; ``proposals`` (A, 4), ``boxes`` (P, 4)."""
    iou = box_iou(proposals, boxes)
    centers, own = (proposals[:, :2] + proposals[:, 2:]) / 2, (boxes[:, :2] + boxes[:, 2:]) / 2
    distance = (centers[:, None] - own).square().sum(dim=-1).sqrt()
    candidates, start = [], 0
    for count in level_counts:
        nearest = distance[start : start + count].topk(min(topk, count), dim=0, largest=False).indices
        candidates.append(nearest + start)
        start += count
    cells = torch.cat(candidates)
    overlap = iou.gather(0, cells)
    x, y = centers[cells].unbind(-1)
    reach = torch.stack([x - boxes[:, 0], y - boxes[:, 1], boxes[:, 2] - x, boxes[:, 3] - y])
    positive = (overlap >= overlap.mean(dim=0) + overlap.std(dim=0)) & (reach.amin(dim=0) > 0.01) & (overlap > 0)
    claims = torch.full_like(iou, -math.inf).scatter(0, cells, overlap.where(positive, -math.inf))
    best, owner = claims.max(dim=1)
    return owner.where(best > -math.inf, -1)


def decode(logits: Tensor, size: Tensor, offset: Tensor, points: int, k: int = 100) -> Tensor:
    """Sigmoid, pooling, the best of each class, the best of those, gathers: (N, points * k, 6)."""
    heatmap = logits.sigmoid()
    heatmap = heatmap * (F.max_pool2d(heatmap, 3, 1, 1) == heatmap).float()
    count, _, height, width = heatmap.shape
    predictions = []
    for p in range(points):
        scores, index = heatmap[:, p::points].reshape(count, -1, height * width).topk(k)
        score, order = scores.view(count, -1).topk(k)
        cell = index.view(count, -1).gather(1, order)
        x, y, category = (cell % width).float(), (cell // width).float(), order // k

        def read(maps: Tensor, p: int = p, cell: Tensor = cell) -> Tensor:
            own = maps[:, 2 * p : 2 * p + 2].permute(0, 2, 3, 1).reshape(count, -1, 2)
            return own.gather(1, cell[..., None].expand(-1, -1, 2))

        shift, wh = read(offset), read(size)
        x, y = x + shift[..., 0], y + shift[..., 1]
        box = [x - wh[..., 0] / 2, y - wh[..., 1] / 2, x + wh[..., 0] / 2, y + wh[..., 1] / 2]
        predictions.append(torch.stack([*box, score, category.float()], dim=-1))
    return torch.cat(predictions, dim=1)


def load(path: str, rng: np.random.Generator, size: int = 512) -> np.ndarray:
    """Decode, warp, color in floating point step by step, normalize: (3, size, size) float32."""
    image = cv2.imread(path)
    height, width = image.shape[:2]
    scale = size / (max(height, width) * rng.choice(np.arange(0.6, 1.4, 0.1)))
    matrix = np.array([[scale, 0, size / 2 - scale * width / 2], [0, scale, size / 2 - scale * height / 2]])
    inputs = cv2.warpAffine(image, matrix, (size, size)).astype(np.float32) / 255
    gray = cv2.cvtColor(inputs, cv2.COLOR_BGR2GRAY)
    mean = gray.mean()
    for kind in rng.permutation(3):
        alpha = 1 + rng.uniform(-0.4, 0.4)
        inputs *= alpha
        if kind == 1:
            inputs += (1 - alpha) * mean
        elif kind == 2:
            inputs += (1 - alpha) * gray[..., None]
    inputs += rng.normal(0, 0.1, 3).astype(np.float32) * np.float32(0.1)
    return ((inputs - MEAN) / STD).transpose(2, 0, 1).copy()
