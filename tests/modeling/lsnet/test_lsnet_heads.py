"""Parts of the pyramid's heads against closed forms: kernel points, quarter boxes, losses, cells of the levels."""

from __future__ import annotations

import itertools

import pytest
import torch
from detectron2.structures import Boxes, Instances

from centernet_d2.modeling.lsnet.contour_masks import ContourMasks
from centernet_d2.modeling.lsnet.corner_head import CornerHead, locate_point
from centernet_d2.modeling.lsnet.landmark_head import LandmarkHead, choose_contour_points, choose_joints
from centernet_d2.modeling.lsnet.levels import Levels, flatten_levels, split_levels
from centernet_d2.modeling.lsnet.quarter_box_head import QuarterBoxHead, decode_quarter_boxes, split_boxes
from centernet_d2.modeling.lsnet.towers import (
    PyramidFusion,
    attenuate_gradient,
    conv,
    count_groups,
    get_neighboring_levels,
)
from centernet_d2.ops.lsnet.corner_heatmaps import corner_focal_loss
from centernet_d2.structures import Targets

BOXES = torch.tensor([[1.0, 2, 5, 10], [20, 30, 60, 32]])
MIDDLES = torch.tensor([[3.0, 6], [40, 31]])


def test_a_tenth_of_the_gradient():
    x = torch.tensor([3.0, -2.0], requires_grad=True)
    y = attenuate_gradient(x)
    y.backward(torch.tensor([1.0, 10.0]))
    torch.testing.assert_close(y, x)
    torch.testing.assert_close(x.grad, torch.tensor([0.1, 1.0]))


def test_quarters_and_points_of_boxes():
    first, second = split_boxes(BOXES)
    assert torch.equal(first, torch.cat([BOXES[:, :2], MIDDLES], dim=1))
    assert torch.equal(second, torch.cat([MIDDLES, BOXES[:, 2:]], dim=1))
    wanted = {"top_left": BOXES[:, :2], "bottom_right": BOXES[:, 2:], "center": MIDDLES}
    assert all(torch.equal(locate_point(BOXES, name), points) for name, points in wanted.items())


def test_quarter_boxes_from_their_first_two_points():
    """Rows are y, x of a corner and of the other, in strides of 8, seen from (100, 50)."""
    points = torch.tensor([[1.0, -2, 3, 4], [3, 4, 1, -2], [3, -2, 1, 4]])
    points = torch.cat([points, torch.full((3, 14), 99.0)], dim=1)
    anchors, strides = torch.tensor([100.0, 50]).expand(1, 3, 2), torch.full((1, 3), 8.0)
    boxes = decode_quarter_boxes(points[None], anchors, strides)
    assert boxes.tolist() == [[[100 - 16, 50 + 8, 100 + 32, 50 + 24]] * 3]


@pytest.mark.parametrize("deformable", [True, False])
def test_maps_of_quarter_boxes(deformable):
    head = QuarterBoxHead(num_classes=3, channels=16, tower=["plain"], extra_channels=2, deformable=deformable)
    maps, wide = [torch.randn(2, 16, 6, 4)], [torch.randn(2, 18, 6, 4)]
    initial = head.predict_initial(maps)
    logits, points = head.predict_refined(wide, wide, initial)
    assert logits[0].sigmoid().mean().item() == pytest.approx(0.01, abs=0.002), "the prior of RetinaNet"
    assert initial[0].shape == points[0].shape == (2, 18, 6, 4) and logits[0].shape == (2, 3, 6, 4)


def test_kernel_points_are_landmarks_and_free_points():
    """Those of the landmarks 2 (the center) and 0, y before x; the others are read as they are."""
    head = LandmarkHead(num_landmarks=2, kernel_landmarks=[2, 0], loss_type="polygon", channels=16, tower=[])
    raw = torch.randn(2, 12 + 14, 5, 3)
    head.init = torch.nn.Identity()
    vectors, points = head.predict_initial([raw])
    assert points[0].shape == (2, 9, 2, 5, 3)
    torch.testing.assert_close(vectors[0], (1 + raw[:, :12].exp()).log())
    up, down, left, right = vectors[0].unflatten(1, (3, 4)).unbind(2)
    y, x = torch.where(down > up, down, -up), torch.where(right > left, right, -left)
    for k, landmark in enumerate((2, 0)):
        torch.testing.assert_close(points[0][:, k], torch.stack([y[:, landmark], x[:, landmark]], dim=1))
    torch.testing.assert_close(points[0][:, 2:].flatten(1, 2), raw[:, 12:])


def test_fusion_by_its_formula(monkeypatch):
    """ReLU(norm(ReLU(reduce(three levels)) + shortcut(own level))), of levels that are read as they are."""
    torch.manual_seed(0)
    fusion = PyramidFusion(5, 8)
    maps = [torch.randn(2, 5, 4, 6) for _ in range(3)]
    read = [torch.randn(2, 8, 4, 6) for _ in range(3)]
    monkeypatch.setattr(fusion, "_read", lambda *_: read)
    for own, result in zip(maps, fusion(maps, [None] * 3), strict=True):
        x = fusion.reduce(torch.cat(read, dim=1)).clamp(min=0) + fusion.shortcut(own)
        flat = x.flatten(1)  # one group of eight channels
        expected = (flat - flat.mean(dim=1, keepdim=True)) / (flat.var(dim=1, keepdim=True, correction=0) + 1e-5).sqrt()
        torch.testing.assert_close(result.flatten(1), expected.clamp(min=0))


def test_the_second_stage_adds_to_the_first(monkeypatch):
    head = LandmarkHead(num_landmarks=2, kernel_landmarks=[2, 0], loss_type="polygon", channels=16, tower=[])
    monkeypatch.setattr(head.fusion, "forward", lambda maps, points: maps)
    maps, initial = torch.randn(2, 16, 5, 3), torch.rand(2, 12, 5, 3, requires_grad=True)
    (refined,) = head.predict_refined([maps], [], [initial])
    torch.testing.assert_close(refined, (1 + (head.refine(maps) + initial).exp()).log())
    refined.sum().backward()
    assert initial.grad is None


def test_levels_in_order():
    """A value says its image, channel, level, row and column; odd sizes are rounded up."""
    levels = Levels.from_input_size((50, 30), (8, 16, 32), 0.5)
    assert levels.sizes == ((7, 4), (4, 2), (2, 1)) and levels.counts == [28, 8, 2]
    assert Levels.from_maps([torch.zeros(1, 2, *x) for x in levels.sizes], (8, 16, 32), 0.5) == levels
    cells = [(k, y, x) for k, (height, width) in enumerate(levels.sizes) for y in range(height) for x in range(width)]
    maps = [
        torch.tensor([[[[(n, c, k, y, x) for x in range(w)] for y in range(h)] for c in range(3)] for n in range(2)])
        for k, (h, w) in enumerate(levels.sizes)
    ]
    codes = [(x * torch.tensor([10000, 1000, 100, 10, 1])).sum(dim=-1) for x in maps]
    flat = flatten_levels(codes)
    expected = [
        [[10000 * n + 1000 * c + 100 * k + 10 * y + x for c in range(3)] for k, y, x in cells] for n in range(2)
    ]
    assert flat.tolist() == expected
    assert all(torch.equal(a, b) for a, b in zip(split_levels(flat, levels), codes, strict=True))
    strides = [(8, 16, 32)[k] for k, _, _ in cells]
    points = [[(x + 0.5) * s, (y + 0.5) * s] for (_, y, x), s in zip(cells, strides, strict=True)]
    assert levels.get_points(torch.device("cpu")).tolist() == points


def test_cells_inside_of_padded_images():
    """An image of 20 x 33 among larger ones, padded to multiples of 16: cells that begin before 32 x 48."""
    levels = Levels.from_input_size((64, 96), (8, 32))
    inside = levels.inside(torch.tensor([[33.0, 20], [96, 64]]), 16)
    starts = levels.get_points(torch.device("cpu"))
    assert inside[1].all() and torch.equal(inside[0], (starts < torch.tensor([48.0, 32])).all(dim=1))


def test_losses_of_corners_by_their_formulas():
    """Published weights 0.25 and 1.0; a smooth L1 of beta 1/9, divided by the number of positive cells."""
    torch.manual_seed(0)
    head = CornerHead(num_classes=2, channels=16, shared="plain")
    instances = [Instances((64, 64)) for _ in range(2)]
    for one, boxes in zip(instances, ([[4.0, 4, 36, 36], [30, 10, 60, 50]], []), strict=True):
        one.gt_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
        one.gt_classes = torch.zeros(len(boxes), dtype=torch.int64)
    targets, levels = Targets.from_instances(instances, 1, (64, 64)), Levels.from_input_size((64, 64), (8, 16))
    with torch.no_grad():
        maps = head([torch.randn(2, 16, 8, 8), torch.randn(2, 16, 4, 4)])
    usable = torch.ones(2, 80, dtype=torch.bool)
    losses = head.losses(maps, targets, levels, usable)
    heat, offset = [], []
    for k, target in enumerate(head._encode_points(targets, levels, usable)):
        count = max(int(target.positive[0].sum()), 1) + 1  # of each image at least one
        logits = flatten_levels([x[:, k : k + 1] for x in maps.scores])[..., 0]
        error = (flatten_levels([x[:, 2 * k : 2 * k + 2] for x in maps.offsets]) - target.offsets).abs()
        smooth = torch.where(error < 1 / 9, 4.5 * error**2, error - 1 / 18)
        offset.append(float(smooth[target.positive].sum()) / count)
        heat.append((logits, target.heatmap, count))
    assert float(losses["loss_corner_offset"]) == pytest.approx(sum(offset) / 2, rel=1e-4)
    corner = sum(float(corner_focal_loss(logits, wanted)) / count for logits, wanted, count in heat) / 2
    assert float(losses["loss_corner"]) == pytest.approx(0.25 * corner, rel=1e-4)


def test_convolutions_before_training():
    torch.manual_seed(0)
    plain, biased = conv(64, 32, 3), conv(8, 4, 1, bias=-4.6)
    assert plain.weight.std().item() == pytest.approx(0.01, rel=0.03) and not plain.bias.any()
    assert torch.equal(biased.bias, torch.full((4,), -4.6)) and plain(torch.zeros(1, 64, 5, 7)).shape == (1, 32, 5, 7)


def test_choices_of_kernel_points():
    assert choose_contour_points(36) == [0, 5, 10, 15, 20, 25, 30, 35, 36]
    assert choose_contour_points(8) == [*range(9)] and choose_contour_points(9) == [0, 2, 4, 6, 8, 9]
    assert choose_joints(8, [(0, 1)]) == [*range(9)]
    assert choose_joints(9, [(0, 1), (3, 4)]) == [0, 1, 2, 3, 4, 5, 6, 7, 9]
    assert choose_joints(12, [(2 * k, 2 * k + 1) for k in range(6)]) == [0, 1, 2, 3, 6, 7, 8, 9, 12]
    assert choose_joints(20, [], left_only=True) == [1, 3, 5, 7, 9, 11, 13, 15, 20]
    assert [count_groups(n) for n in (4, 8, 15, 16, 256)] == [1, 1, 1, 2, 32]


def test_three_neighboring_levels():
    wanted = [(0, 1, 2), (1, 0, 2), (2, 1, 3), (3, 2, 1)]
    assert [get_neighboring_levels(k, 4) for k in range(4)] == wanted
    assert [get_neighboring_levels(k, 3) for k in range(3)] == [(0, 1, 2), (1, 0, 2), (2, 1, 0)]


def test_contours_follow_their_boxes():
    """A diamond in a box of 8 x 4 at (2, 3), drawn twice as large at (0, 0)."""
    diamond = torch.tensor([[[6.0, 3], [10, 5], [6, 7], [2, 5]]])
    masks = ContourMasks.from_contours(diamond, torch.tensor([[2.0, 3, 10, 7]]))
    torch.testing.assert_close(masks.tensor, torch.tensor([[[0.5, 0], [1, 0.5], [0.5, 1], [0, 0.5]]]))
    assert masks[0].tensor.shape == (1, 4, 2) and len(masks[torch.tensor([0, 0])].tensor) == 2
    (mask,) = masks.to_bitmasks(Boxes(torch.tensor([[0.0, 0, 16, 8]])), 9, 17).tensor
    for y, x in itertools.product(range(9), range(17)):
        away = abs(x + 0.5 - 8) / 8 + abs(y + 0.5 - 4) / 4
        assert abs(away - 1) < 0.2 or bool(mask[y, x]) == (away < 1)
    empty = ContourMasks.from_contours(diamond, torch.tensor([[2.0, 3, 2, 3]]))
    assert empty.tensor.isfinite().all()
