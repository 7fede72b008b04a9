"""Corner heatmaps: the numbers of the reference's functions, and loops over objects and cells."""

from __future__ import annotations

import math

import pytest
import torch

from centernet_d2.ops.gaussian import gaussian_radius
from centernet_d2.ops.lsnet import level_assignment
from centernet_d2.ops.lsnet.corner_heatmaps import (
    compute_corner_radius,
    corner_focal_loss,
    encode_corners,
    encode_semantic,
    move_to_corners,
    semantic_focal_loss,
)
from tests.ops.lsnet.test_level_assignment import SIZES, STRIDES, counts_of, make_cells

# Of LSNet's code, for an image of 256 x 320: x, y, stride and heat of all cells above 0.
BOXES = [[10.0, 20.0, 50.0, 90.0], [30.0, 30.0, 200.0, 180.0], [31.0, 33.0, 199.0, 178.0]]
RADIUS = [4.128008, 13.011192, 12.70565]
TOP_LEFT = [
    (8, 16, 8, 1.0), (24, 24, 8, 0.169512), (32, 24, 8, 0.373059), (40, 24, 8, 0.034998), (24, 32, 8, 0.373059),
    (32, 32, 8, 1.0), (40, 32, 8, 0.120518), (24, 40, 8, 0.079753), (32, 40, 8, 0.275211), (40, 40, 8, 0.034925),
    (16, 16, 16, 1.0), (32, 32, 16, 1.0), (0, 32, 32, 1.0), (32, 32, 32, 1.0), (0, 0, 64, 1.0), (0, 64, 64, 1.0),
    (0, 0, 128, 1.0),
]  # fmt: skip
BOTTOM_RIGHT = [
    (48, 88, 8, 1.0), (192, 168, 8, 0.02139), (200, 168, 8, 0.073812), (192, 176, 8, 0.25471), (200, 176, 8, 1.0),
    (208, 176, 8, 0.139173), (192, 184, 8, 0.139173), (200, 184, 8, 0.674079), (208, 184, 8, 0.139173),
    (200, 192, 8, 0.028734), (48, 96, 16, 1.0), (192, 176, 16, 1.0), (208, 176, 16, 0.139173), (64, 96, 32, 1.0),
    (192, 192, 32, 1.0), (64, 64, 64, 1.0), (192, 192, 64, 1.0), (0, 128, 128, 1.0), (256, 128, 128, 1.0),
]  # fmt: skip
CENTER = [
    (32, 56, 8, 1.0), (112, 96, 8, 0.108768), (120, 96, 8, 0.073318), (104, 104, 8, 0.049422), (112, 104, 8, 1.0),
    (120, 104, 8, 0.526812), (112, 112, 8, 0.266475), (120, 112, 8, 0.17634), (32, 48, 16, 1.0),
    (112, 96, 16, 0.108768), (112, 112, 16, 1.0), (32, 64, 32, 1.0), (128, 96, 32, 1.0), (0, 64, 64, 1.0),
    (128, 128, 64, 1.0), (0, 0, 128, 1.0), (128, 128, 128, 1.0),
]  # fmt: skip
# x, y, stride, and the offset that the reference learns.
OFFSETS = [
    (8, 16, 8, 0.25, 0.5), (32, 32, 8, -0.125, 0.125), (16, 16, 16, -0.375, 0.25), (32, 32, 16, -0.0625, 0.0625),
    (0, 32, 32, 0.3125, -0.375), (32, 32, 32, -0.03125, 0.03125), (0, 0, 64, 0.46875, 0.46875),
    (0, 64, 64, 0.484375, -0.484375), (0, 0, 128, 0.242188, 0.257812),
]  # fmt: skip


def targets_of(corners, boxes=None, valid=None, sizes=SIZES, **options):
    boxes = torch.tensor([BOXES]) if boxes is None else boxes
    valid = torch.ones(boxes.shape[:2], dtype=torch.bool) if valid is None else valid
    points, strides = make_cells(sizes)
    return encode_corners(corners, boxes, valid, points, strides, counts_of(sizes), **options)


@pytest.mark.parametrize(
    ("corner", "expected"), [("top_left", TOP_LEFT), ("bottom_right", BOTTOM_RIGHT), ("center", CENTER)]
)
def test_heatmaps_equal_the_reference(corner, expected):
    boxes = torch.tensor([BOXES])
    center = (boxes[..., :2] + boxes[..., 2:]) / 2
    target = targets_of({"top_left": boxes[..., :2], "bottom_right": boxes[..., 2:], "center": center}[corner])
    points, strides = make_cells(SIZES)
    found = [(*points[i].tolist(), float(strides[i])) for i in target.heatmap[0].nonzero()[:, 0]]
    assert found == [row[:3] for row in expected]
    heat = target.heatmap[target.heatmap > 0]
    torch.testing.assert_close(heat, torch.tensor([row[3] for row in expected]), rtol=0, atol=1e-5)
    assert torch.equal(target.positive, target.heatmap == 1)


def test_offsets_equal_the_reference_but_where_it_takes_a_corner_farther_away():
    """Two cells are nearest to several corners. The reference has the last object's offset, ours the nearest one's."""
    target = targets_of(torch.tensor([BOXES])[..., :2])
    points, strides = make_cells(SIZES)
    cells = target.positive[0].nonzero()[:, 0]
    assert [(*points[i].tolist(), float(strides[i])) for i in cells] == [row[:3] for row in OFFSETS]
    expected = [row[3:] for row in OFFSETS]
    expected[6], expected[8] = (10 / 64, 20 / 64), (10 / 128, 20 / 128)
    torch.testing.assert_close(target.offsets[0, cells], torch.tensor(expected), rtol=0, atol=1e-5)
    assert not target.offsets[0][~target.positive[0]].any()


def test_the_radius_is_that_of_the_corner_net_paper():
    torch.testing.assert_close(compute_corner_radius(torch.tensor(BOXES)), torch.tensor(RADIUS), rtol=0, atol=1e-5)
    sizes = torch.rand(50, 2, generator=torch.Generator().manual_seed(0)) * 500
    boxes = torch.cat([torch.zeros(50, 2), sizes], dim=1)
    torch.testing.assert_close(compute_corner_radius(boxes), gaussian_radius(sizes, 0.7, "corrected").float())
    assert compute_corner_radius(torch.zeros(4)) == 0


@pytest.mark.parametrize("pairs", [1 << 22, 50])
def test_targets_equal_loops(pairs, monkeypatch):
    """A batch with empty rows, cells that may not be used, and parts of the objects at a time."""
    monkeypatch.setattr(level_assignment, "MAX_PAIRS", pairs)
    sizes = [(9, 12), (5, 6), (3, 3)]
    points, strides = make_cells(sizes)
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(3, 5, 2, generator=generator) * 60
    boxes = torch.cat([low, low + 5 + 60 * torch.rand(3, 5, 2, generator=generator)], dim=-1)
    valid = torch.rand(3, 5, generator=generator) < 0.7
    valid[2] = False
    usable = torch.rand(3, len(points), generator=generator) < 0.8
    corners, radius = boxes[..., :2], gaussian_radius(boxes[..., 2:] - boxes[..., :2], 0.7, "corrected")
    target = targets_of(corners, boxes, valid, sizes, usable=usable)
    for n in range(3):
        heat, nearest = [0.0] * len(points), {}
        for p in [p for p in range(5) if valid[n, p]]:
            away = [math.dist(point, corners[n, p].tolist()) for point in points.tolist()]
            for i, distance in enumerate(away):
                if distance < radius[n, p]:
                    sigma = (2 * float(radius[n, p]) + 1) / 6
                    heat[i] = max(heat[i], math.exp(-(distance**2) / (2 * sigma**2)))
            for stride in STRIDES[:3]:
                i = min((i for i in range(len(points)) if strides[i] == stride and usable[n, i]), key=away.__getitem__)
                nearest.setdefault(i, []).append((away[i], p))
        offsets = torch.zeros(len(points), 2)
        for i, claims in nearest.items():
            heat[i] = 1.0
            offsets[i] = (corners[n, min(claims)[1]] - points[i]) / strides[i]
        torch.testing.assert_close(target.heatmap[n], torch.tensor(heat), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(target.offsets[n], offsets)
        assert target.positive[n].nonzero()[:, 0].tolist() == sorted(nearest)
    assert not target.heatmap[2].any()


def test_no_objects():
    none = torch.zeros(2, 0, 4)
    target = targets_of(none[..., :2], none)
    assert not target.heatmap.any()
    assert not target.positive.any()
    assert target.offsets.shape == (2, len(make_cells(SIZES)[0]), 2)
    weights = encode_semantic(none, none[..., 0].long(), none[..., 0].bool(), 3, SIZES, STRIDES)
    assert weights.shape == (2, len(make_cells(SIZES)[0]), 3)
    assert not weights.any()


def test_the_focal_loss_by_its_formula():
    logits = torch.tensor([-2.0, 0.0, 3.0, 100.0, -100.0], requires_grad=True)
    heat = [1.0, 0.3, 0.0, 1.0, 0.0]
    loss = corner_focal_loss(logits, torch.tensor(heat))
    expected = 0.0
    for x, y in list(zip(logits.tolist(), heat, strict=True))[:3]:
        p = 1 / (1 + math.exp(-x))
        expected -= (1 - p) ** 2 * math.log(p) if y == 1 else (1 - y) ** 4 * p**2 * math.log(1 - p)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert torch.autograd.grad(loss, logits)[0].isfinite().all()


@pytest.mark.parametrize("pairs", [1 << 22, 50])
def test_semantic_targets_equal_painting(pairs, monkeypatch):
    """From the largest box to the smallest, then the nearest cell of the finest level."""
    monkeypatch.setattr(level_assignment, "MAX_PAIRS", pairs)
    sizes, strides = [(9, 12), (5, 6), (3, 3)], (8, 16, 32)
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(2, 6, 2, generator=generator) * 60
    boxes = torch.cat([low, low + 5 + 60 * torch.rand(2, 6, 2, generator=generator)], dim=-1)
    classes = torch.randint(0, 3, (2, 6), generator=generator)
    valid = torch.tensor([[True] * 6, [True, False, True, True, False, False]])
    weights = encode_semantic(boxes, classes, valid, 3, sizes, strides)
    for n in range(2):
        painted = torch.zeros(3, 9, 12)
        area = (boxes[n, :, 2:] - boxes[n, :, :2]).prod(dim=1)
        for p in area.argsort(descending=True).tolist():
            x1, y1, x2, y2 = (int(v / 8) for v in boxes[n, p].tolist())
            if valid[n, p]:
                painted[classes[n, p], y1 : y2 + 1, x1 : x2 + 1] = 1 / area[p]
        start = 0
        for height, width in sizes:
            rows = [i * 9 // height for i in range(height)]
            columns = [j * 12 // width for j in range(width)]
            own = weights[n, start : start + height * width].t().view(3, height, width)
            torch.testing.assert_close(own, painted[:, rows][:, :, columns])
            start += height * width


def test_the_semantic_loss_by_its_formula():
    """Also for logits whose probability is 1 in float32, where the reference's logarithm is infinite."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2, 7, 3, dtype=torch.float64, generator=generator)
    weights = torch.rand(2, 7, 3, dtype=torch.float64, generator=generator)
    weights = weights * (weights > 0.6)
    p, inside = logits.sigmoid(), weights > 0
    positive = -(weights * 0.25 * (1 - p) ** 2 * p.log())[inside].sum() / weights.sum()
    negative = -(0.75 * p**2 * (1 - p).log())[~inside].sum() / inside.sum()
    torch.testing.assert_close(semantic_focal_loss(logits, weights), positive + negative)
    scaled = semantic_focal_loss(logits, weights, 2 * weights.sum(), 4 * inside.sum())
    torch.testing.assert_close(scaled, positive / 2 + negative / 4)
    extreme = torch.tensor([[[100.0, -100.0]]], requires_grad=True)
    for weight in ([[[0.0, 1.0]]], [[[1.0, 1.0]]], [[[0.0, 0.0]]]):
        loss = semantic_focal_loss(extreme, torch.tensor(weight))
        assert loss.isfinite()
        assert torch.autograd.grad(loss, extreme)[0].isfinite().all()


def make_corner_maps(corners, sizes, strides, point_offset=0.0):
    """Scores and offsets of one image: at the nearest cell of each level, the probability and the way to the corner.

    ``corners``: x, y, probability.
    """
    scores, offsets = [], []
    for (height, width), stride in zip(sizes, strides, strict=True):
        score, offset = torch.full((1, height, width), -10.0), torch.zeros(1, 2, height, width)
        for x, y, probability in corners:
            i, j = (round(v / stride - point_offset) for v in (y, x))
            if 0 <= i < height and 0 <= j < width:
                score[0, i, j] = math.log(probability / (1 - probability))
                offset[0, :, i, j] = torch.tensor([x, y]) / stride - point_offset - torch.tensor([j, i])
        scores.append(score)
        offsets.append(offset)
    return scores, offsets


@pytest.mark.parametrize("point_offset", [0.0, 0.5])
def test_corners_move_to_peaks(point_offset):
    """To the exact corner, if they are in a cell that touches the peak's; those of level 0 stay."""
    corners = [(41.0, 52.0, 0.9), (100.0, 30.0, 0.2), (156.0, 124.0, 0.9)]
    scores, offsets = make_corner_maps(corners, SIZES, STRIDES, point_offset)
    guess = torch.tensor([[[43.0, 50.0], [102.0, 31.0], [158.0, 126.0]]])
    exact = torch.tensor([[x, y] for x, y, _ in corners])
    for level in range(5):
        levels = torch.full((1, 3), level)
        moved = move_to_corners(guess, levels, scores, offsets, STRIDES, point_offset=point_offset)
        expected = guess[0] if level == 0 else exact
        torch.testing.assert_close(moved[0], expected, rtol=0, atol=1e-4)
        gated = move_to_corners(guess, levels, scores, offsets, STRIDES, 0.5, point_offset)
        torch.testing.assert_close(gated[0, ::2], expected[::2], rtol=0, atol=1e-4)
        assert torch.equal(gated[0, 1], guess[0, 1])


def test_the_gate_at_0_moves_every_corner():
    """To the best of its four cells, however weak, as in the reference; outside the map, to its last cells."""
    scores = [torch.full((1, 4, 5), -50.0), torch.full((1, 2, 3), -50.0)]
    offsets = [torch.zeros(1, 2, 4, 5), torch.zeros(1, 2, 2, 3)]
    scores[0][0, 2, 1] = -49.0
    scores[0][0, 3, 4] = -49.0
    places = torch.tensor([[[7.0, 15.0], [1000.0, 1000.0], [-9.0, 17.0]]])
    moved = move_to_corners(places, torch.ones(1, 3, dtype=torch.long), scores, offsets, (8, 16, 32))
    assert moved[0].tolist() == [[8.0, 16.0], [32.0, 24.0], [8.0, 16.0]]
    gated = move_to_corners(places, torch.ones(1, 3, dtype=torch.long), scores, offsets, (8, 16, 32), 0.1)
    assert torch.equal(gated, places)


def test_maps_of_one_row():
    scores, offsets = [torch.zeros(1, 1, 3)] * 3, [torch.zeros(1, 2, 1, 3)] * 3
    moved = move_to_corners(torch.tensor([[[17.0, 5.0]]]), torch.ones(1, 1).long(), scores, offsets, (8, 16, 32))
    assert moved.shape == (1, 1, 2)
