"""Both assignments against plain loops over images and objects, and the numbers of the reference's functions."""

from __future__ import annotations

import math

import pytest
import torch

from centernet_d2.ops.lsnet import level_assignment
from centernet_d2.ops.lsnet.level_assignment import (
    assign_atss,
    assign_centroid,
    compute_quadrilateral_centroids,
    find_cells_in_regions,
)

STRIDES = (8, 16, 32, 64, 128)
# An image of 256 x 320, and the positives that LSNet's code finds.
SIZES = [(32, 40), (16, 20), (8, 10), (4, 5), (2, 3)]
BOXES = [
    [10.0, 20.0, 50.0, 90.0], [30.0, 30.0, 200.0, 180.0], [31.0, 33.0, 199.0, 178.0], [5.0, 5.0, 300.0, 250.0],
    [60.0, 60.0, 66.0, 64.0], [12.0, 22.0, 52.0, 88.0],
]  # fmt: skip
INIT_POSITIVES = [(32.0, 56.0, 8.0, 5), (64.0, 64.0, 8.0, 4), (128.0, 96.0, 32.0, 1), (128.0, 128.0, 64.0, 3)]
ATSS_POSITIVES = {
    245: 5, 283: 0, 284: 0, 328: 4, 1341: 5, 1342: 5, 1362: 5, 1363: 5, 1381: 0, 1624: 2, 1633: 1, 1634: 1, 1635: 1,
    1654: 1, 1687: 3, 1691: 3, 1692: 3, 1693: 3, 1694: 3, 1698: 3,
}  # fmt: skip


def make_cells(sizes):
    points, strides = [], []
    for (height, width), stride in zip(sizes, STRIDES, strict=False):
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        points.append(stride * torch.stack([x, y], dim=-1).flatten(0, 1).float())
        strides.append(torch.full((height * width,), float(stride)))
    return torch.cat(points), torch.cat(strides)


def counts_of(sizes):
    return [height * width for height, width in sizes]


def reference_proposals(points, strides):
    k = torch.arange(len(points), dtype=torch.float64)
    half = 2 * strides[:, None] * (1 + 0.3 * torch.stack([k.sin(), k.cos()], dim=1))
    center = points + 0.5 * strides[:, None] * torch.stack([(3 * k).sin(), (2 * k).cos()], dim=1)
    return torch.cat([center - half, center + half], dim=1).float()


def test_centroid_equals_the_reference():
    points, strides = make_cells(SIZES)
    owner = assign_centroid(points, strides, torch.tensor([BOXES]), torch.ones(1, 6, dtype=torch.bool))[0]
    found = [(*points[i].tolist(), float(strides[i]), int(owner[i])) for i in (owner >= 0).nonzero()[:, 0]]
    assert found == INIT_POSITIVES


def test_atss_equals_the_reference():
    points, strides = make_cells(SIZES)
    proposals = reference_proposals(points, strides)[None]
    valid = torch.ones(1, 6, dtype=torch.bool)
    owner = assign_atss(proposals, counts_of(SIZES), torch.tensor([BOXES]), valid, topk=6, allow_zero_iou=True)[0]
    assert {i: int(owner[i]) for i in (owner >= 0).nonzero()[:, 0].tolist()} == ATSS_POSITIVES


def random_batch(count=3, most=7, seed=0):
    """Boxes of all sizes in 200 x 300 pixels, rows of several lengths; the last image has none."""
    generator = torch.Generator().manual_seed(seed)
    sides = (torch.rand(count, most, 2, generator=generator) * 4.5 + 1.2).exp()
    low = torch.rand(count, most, 2, generator=generator) * torch.tensor([300.0, 200.0]) - sides / 2
    valid = torch.rand(count, most, generator=generator) < 0.7
    valid[-1] = False
    return torch.cat([low, low + sides], dim=-1), valid, generator


def assign_centroid_in_loops(points, strides, boxes, valid, centers, pos_num, usable):
    result = []
    for n in range(len(boxes)):
        claims = {}
        for p in range(boxes.shape[1]):
            x1, y1, x2, y2 = boxes[n, p].tolist()
            level = int((math.log2((x2 - x1) / 4) + math.log2((y2 - y1) / 4)) / 2)
            stride = 2 ** min(max(level, 3), int(math.log2(strides.max())))
            distance = {}
            for i, (x, y) in enumerate(points.tolist()):
                if strides[i] == stride and usable[n, i]:
                    cx, cy = centers[n, p].tolist()
                    distance[i] = math.hypot((x - cx) / (x2 - x1), (y - cy) / (y2 - y1))
            for i in sorted(distance, key=distance.__getitem__)[:pos_num] if valid[n, p] else []:
                claims.setdefault(i, []).append((distance[i], p))
        result.append([min(claims[i])[1] if i in claims else -1 for i in range(len(points))])
    return torch.tensor(result)


def iou_of(a, b):
    shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return shared / (sum(areas) - shared)


def assign_atss_in_loops(proposals, sizes, boxes, valid, topk, usable, allow_zero_iou):
    result = []
    for n in range(len(boxes)):
        own = proposals[n].double().tolist()
        claims = {}
        for p, box in enumerate(boxes[n].double().tolist()):
            if not valid[n, p]:
                continue
            candidates, start = [], 0
            for height, width in sizes:
                cells = [i for i in range(start, start + height * width) if usable[n, i]]
                away = {
                    i: math.hypot(*((own[i][d] + own[i][d + 2] - box[d] - box[d + 2]) / 2 for d in (0, 1)))
                    for i in cells
                }
                candidates += sorted(cells, key=away.__getitem__)[:topk]
                start += height * width
            overlap = torch.tensor([iou_of(own[i], box) for i in candidates], dtype=torch.float64)
            threshold = overlap.mean() + overlap.std()
            for i, iou in zip(candidates, overlap.tolist(), strict=True):
                x, y = (own[i][0] + own[i][2]) / 2, (own[i][1] + own[i][3]) / 2
                inside = min(x - box[0], y - box[1], box[2] - x, box[3] - y) > 0.01
                if iou >= threshold and inside and (iou > 0 or allow_zero_iou):
                    claims.setdefault(i, []).append((-iou, p))
        result.append([min(claims[i])[1] if i in claims else -1 for i in range(len(own))])
    return torch.tensor(result)


PYRAMID = [(25, 38), (13, 19), (7, 10), (4, 5), (2, 3)]  # the last has less than 9 cells


@pytest.mark.parametrize("pairs", [1 << 22, 1000])
@pytest.mark.parametrize("pos_num", [1, 9])
def test_centroid_equals_loops(pos_num, pairs, monkeypatch):
    """However many pairs are worked on at a time."""
    monkeypatch.setattr(level_assignment, "MAX_PAIRS", pairs)
    points, strides = make_cells(PYRAMID)
    boxes, valid, generator = random_batch()
    boxes[0, 1], valid[0, :2] = boxes[0, 0], True  # as near as another: the first one's
    usable = torch.rand(3, len(points), generator=generator) < 0.6
    centers = (boxes[..., :2] + boxes[..., 2:]) / 2
    owner = assign_centroid(points, strides, boxes, valid, pos_num=pos_num, usable=usable)
    assert torch.equal(owner, assign_centroid_in_loops(points, strides, boxes, valid, centers, pos_num, usable))
    assert 1 not in owner[0]
    extreme = torch.stack([boxes[..., [0, 1]], boxes[..., [0, 3]], boxes[..., [2, 3]], centers], dim=2)
    owner = assign_centroid(points, strides, boxes, valid, extreme, pos_num, usable)
    centers = compute_quadrilateral_centroids(extreme)
    assert torch.equal(owner, assign_centroid_in_loops(points, strides, boxes, valid, centers, pos_num, usable))


@pytest.mark.parametrize("pairs", [1 << 22, 1000])
@pytest.mark.parametrize("allow_zero_iou", [False, True])
def test_atss_equals_loops(allow_zero_iou, pairs, monkeypatch):
    monkeypatch.setattr(level_assignment, "MAX_PAIRS", pairs)
    points, strides = make_cells(PYRAMID)
    boxes, valid, generator = random_batch(seed=1)
    center = points + strides[:, None] * torch.randn(3, len(points), 2, generator=generator)
    half = strides[:, None] * (0.3 + 2 * torch.rand(3, len(points), 2, generator=generator))
    proposals = torch.cat([center - half, center + half], dim=-1)
    usable = torch.rand(3, len(points), generator=generator) < 0.8
    owner = assign_atss(proposals, counts_of(PYRAMID), boxes, valid, usable=usable, allow_zero_iou=allow_zero_iou)
    expected = assign_atss_in_loops(proposals, PYRAMID, boxes, valid, 9, usable, allow_zero_iou)
    assert torch.equal(owner, expected)
    assert (owner >= 0).sum() > 20
    assert (owner[2] == -1).all()


def test_candidates_without_overlap_are_no_positives():
    """Proposals of no size: the threshold is 0, and the reference takes all 9 per level whose centers are inside."""
    points, _ = make_cells(SIZES)
    proposals, box = points.repeat(1, 2)[None], torch.tensor([[[3.0, 3.0, 250.0, 250.0]]])
    valid = torch.ones(1, 1, dtype=torch.bool)
    assert (assign_atss(proposals, counts_of(SIZES), box, valid) == -1).all()
    assert (assign_atss(proposals, counts_of(SIZES), box, valid, allow_zero_iou=True) == 0).sum() >= 28


@pytest.mark.parametrize("most", [0, 3])
def test_no_objects(most):
    points, strides = make_cells(SIZES)
    boxes, valid = torch.zeros(2, most, 4), torch.zeros(2, most, dtype=torch.bool)
    proposals = reference_proposals(points, strides).expand(2, -1, -1)
    nothing = torch.full((2, len(points)), -1)
    assert torch.equal(assign_centroid(points, strides, boxes, valid), nothing)
    assert torch.equal(assign_atss(proposals, counts_of(SIZES), boxes, valid), nothing)
    assert not find_cells_in_regions(points, boxes, valid).any()


def test_inverted_proposals_are_no_positives():
    """Early predictions may have x2 < x1 and y2 < y1, whose product is positive."""
    points, strides = make_cells(SIZES)
    proposals = reference_proposals(points, strides)[:, [2, 3, 0, 1]][None]
    owner = assign_atss(proposals, counts_of(SIZES), torch.tensor([BOXES]), torch.ones(1, 6, dtype=torch.bool))
    assert (owner == -1).all()


def test_no_gradient_is_kept():
    points, strides = make_cells(SIZES)
    proposals = reference_proposals(points, strides)[None].requires_grad_()
    assert not assign_atss(
        proposals, counts_of(SIZES), torch.tensor([BOXES]), torch.ones(1, 6, dtype=torch.bool)
    ).requires_grad


def test_cells_in_regions():
    points, _ = make_cells([(4, 5)])
    regions = torch.tensor([[[8.0, 8.0, 24.0, 16.0], [0.0, 0.0, 1.0, 1.0]], [[0.0, 0.0, 99.0, 99.0]] * 2])
    valid = torch.tensor([[True, True], [False, False]])
    inside = find_cells_in_regions(points, regions, valid)
    assert inside[0].nonzero()[:, 0].tolist() == [0, 6, 7]
    assert not inside[1].any()


def test_centroids():
    """Of a quadrilateral: where the lines cross that join the centroids of opposite triangles."""
    corners = torch.tensor([[50.0, 10.0], [20.0, 42.0], [55.0, 90.0], [88.0, 40.0]], dtype=torch.float64)
    triangles = [corners[[j for j in range(4) if j != i]].mean(dim=0) for i in range(4)]
    (a, b), (c, d) = (triangles[0], triangles[2]), (triangles[1], triangles[3])
    along = torch.linalg.solve(torch.stack([b - a, c - d], dim=1), c - a)
    expected = a + along[0] * (b - a)
    torch.testing.assert_close(compute_quadrilateral_centroids(corners), expected)
    line = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [1.0, 1.0]])
    assert compute_quadrilateral_centroids(line).tolist() == [1.0, 1.0]
