"""Losses of boxes: closed forms, a plain definition in Python, and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision import ops

from centernet_d2.ops.box_losses import BOX_LOSSES, box_loss


def defined(kind: str, a: list[float], b: list[float]) -> float:
    """Of one pair, as the papers print it."""
    (w, h), (v, g) = ((x[2] - x[0], x[3] - x[1]) for x in (a, b))
    both = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    union = w * h + v * g - both
    width, height = max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])
    center = ((a[0] + a[2] - b[0] - b[2]) ** 2 + (a[1] + a[3] - b[1] - b[3]) ** 2) / 4
    iou, apart = both / union, center / (width**2 + height**2)
    aspect = 4 / math.pi**2 * (math.atan(v / g) - math.atan(w / h)) ** 2
    return {
        "l1": sum(abs(x - y) for x, y in zip(a, b, strict=True)) / 4,
        "iou": 1 - iou,
        "giou": 1 - iou + (width * height - union) / (width * height),
        "diou": 1 - iou + apart,
        "ciou": 1 - iou + apart + (aspect**2 / (1 - iou + aspect) if aspect else 0),
    }[kind]


@pytest.fixture
def pairs():
    generator = torch.Generator().manual_seed(0)
    low, side = torch.rand(2, 60, 2, generator=generator, dtype=torch.float64) * torch.tensor([[[9.0]], [[12.0]]])
    boxes = torch.cat([low, low + 0.1 + side], dim=1)
    return boxes[:30], boxes[30:]


@pytest.mark.parametrize("kind", BOX_LOSSES)
def test_equals_the_definition(kind, pairs):
    expected = [defined(kind, a, b) for a, b in zip(*(x.tolist() for x in pairs), strict=True)]
    assert box_loss(kind, *pairs).tolist() == pytest.approx(expected, abs=1e-6)
    assert box_loss(kind, pairs[0], pairs[0]).tolist() == pytest.approx([0.0] * 30, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "value"), [("l1", 2.0), ("iou", 1.0), ("giou", 1 + 4 / 12), ("diou", 1 + 16 / 40), ("ciou", 1 + 16 / 40)]
)
def test_two_squares_apart(kind, value):
    """2x2 each, 4 between the centers: a third of the 6x2 box around them is neither's."""
    a, b = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[4.0, 0, 6, 2]])
    assert box_loss(kind, a, b).item() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("kind", ["l1", "iou", "giou", "diou"])
def test_gradcheck(kind, pairs):
    assert torch.autograd.gradcheck(lambda x: box_loss(kind, x, pairs[1]), (pairs[0].requires_grad_(),))


@pytest.mark.parametrize("kind", BOX_LOSSES)
@pytest.mark.parametrize("size", [0.0, 1e-12, 1e6])
def test_empty_and_huge_boxes_stay_finite(kind, size):
    boxes = torch.tensor([[3.0, 4, 3 + size, 4 + size], [50, 60, 50, 60 + size]], requires_grad=True)
    losses = box_loss(kind, boxes, torch.tensor([[2.0, 2, 5, 9], [3, 3, 3.01, 9]]))
    losses.sum().backward()
    assert torch.isfinite(losses).all() and torch.isfinite(boxes.grad).all()


def test_no_boxes():
    for kind in BOX_LOSSES:
        assert box_loss(kind, torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0,)


def test_sides_larger_by_one():
    """The formula of mmdet 2's ``giou_loss``: every width and height plus 1, of the box around both, too."""
    boxes, gt = torch.tensor([[0.0, 0.0, 1.0, 2.0], [0.0, 0.0, 1.0, 1.0]]), torch.tensor([[0.5, 1.0, 3.0, 2.5]] * 2)
    expected = []
    for (x1, y1, x2, y2), (u1, v1, u2, v2) in zip(boxes.tolist(), gt.tolist(), strict=True):
        both = max(min(x2, u2) - max(x1, u1) + 1, 0) * max(min(y2, v2) - max(y1, v1) + 1, 0)
        union = (x2 - x1 + 1) * (y2 - y1 + 1) + (u2 - u1 + 1) * (v2 - v1 + 1) - both
        around = (max(x2, u2) - min(x1, u1) + 1) * (max(y2, v2) - min(y1, v1) + 1)
        expected.append(1 - both / union + (around - union) / around)
    torch.testing.assert_close(box_loss("giou", boxes, gt, plus_one=True), torch.tensor(expected))


@pytest.mark.parametrize("kind", ["giou", "diou", "ciou"])
def test_equals_torchvision_with_its_gradient(kind, pairs):
    """Also of boxes that touch, and of one inside the other."""
    theirs = {
        "giou": ops.generalized_box_iou_loss,
        "diou": ops.distance_box_iou_loss,
        "ciou": ops.complete_box_iou_loss,
    }[kind]
    special = torch.tensor([[[0.0, 0, 2, 2], [0, 0, 9, 9]], [[2, 0, 4, 2], [3, 3, 4, 5]]], dtype=torch.float64)
    boxes, gt = (torch.cat([x, y]) for x, y in zip(pairs, special, strict=True))
    results = []
    for f in (lambda x, y: box_loss(kind, x, y), theirs):
        own = boxes.clone().requires_grad_()
        losses = f(own, gt)
        results.append((losses.detach(), *torch.autograd.grad(losses.sum(), own)))
    for ours, other in zip(*results, strict=True):
        assert torch.allclose(ours, other, rtol=1e-12, atol=1e-12)
