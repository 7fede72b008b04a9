"""The focal loss against its plain definition, in value and gradient."""

from __future__ import annotations

import math

import pytest
import torch

from centernet_d2.ops import focal_loss as focal
from centernet_d2.ops.focal_loss import HEATMAP_LOSSES, heatmap_focal_loss, quality_focal_loss
from centernet_d2.ops.gaussian import SparseMaps, splat_gaussians


def plain_focal(logits, target):
    """The definition as the papers print it, clamped as the references do."""
    p = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
    positive = (target == 1).to(p.dtype)
    return -(positive * (1 - p) ** 2 * p.log() + (1 - positive) * (1 - target) ** 4 * p**2 * (1 - p).log()).sum()


def plain_quality_focal(logits, target):
    """The definition as the paper prints it."""
    p = logits.sigmoid()
    return -((target - p) ** 2 * (target * p.log() + (1 - target) * (1 - p).log())).sum()


PLAIN = {"focal": plain_focal, "quality": plain_quality_focal}


@pytest.fixture
def target():
    cells = torch.tensor([[[3, 4], [7, 2]], [[4, 4], [8, 8]], [[0, 9], [5, 5]]])
    channel = torch.tensor([[0, 1], [0, 2], [3, 5]])
    return splat_gaussians(cells, channel, torch.tensor([[3, 3], [2, 2], [1, 1]]), (2, 3, 10, 10))


@pytest.mark.parametrize("kind", HEATMAP_LOSSES)
@pytest.mark.parametrize("chunk", [37, 1 << 22])
def test_equals_the_definition(target, chunk, kind, monkeypatch):
    monkeypatch.setitem(focal._CHUNK, "cpu", chunk)
    logits = torch.randn(2, 3, 10, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    a, b = HEATMAP_LOSSES[kind](ours, target), PLAIN[kind](theirs, target.to_dense().double())
    a.backward()
    b.backward()
    torch.testing.assert_close(a, b, rtol=1e-9, atol=0)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-8, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("kind", HEATMAP_LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_compiled_kernel_equals_the_definition(target, kind, dtype):
    logits = torch.randn(2, 3, 10, 10, generator=torch.Generator().manual_seed(0)).to(dtype)
    ours, theirs = logits.clone().requires_grad_(), logits.double().requires_grad_()
    a = HEATMAP_LOSSES[kind](ours, target, fused=True)
    b = PLAIN[kind](theirs, target.to_dense().double())
    a.backward()
    b.backward()
    torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=0)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=tolerance, atol=1e-6)


@pytest.mark.parametrize("kind", HEATMAP_LOSSES)
def test_gradcheck(target, kind):
    logits = torch.randn(2, 3, 10, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: HEATMAP_LOSSES[kind](x, target), (logits,), atol=1e-4)


def test_a_second_backward_pass_gives_the_same(target):
    logits = torch.randn(2, 3, 10, 10, generator=torch.Generator().manual_seed(2)).requires_grad_()
    loss = heatmap_focal_loss(logits, target)
    first, second = (torch.autograd.grad(factor * loss, logits, retain_graph=True)[0] for factor in (1.0, 3.0))
    torch.testing.assert_close(3 * first, second)


def test_quality_focal_is_zero_at_its_target_alone(target):
    """Background but for the targets: nothing is lost where p = y, and (y - 1/2)^2 log 2 where p is 1/2."""
    logits = torch.full((2, 3, 10, 10), -100.0, dtype=torch.float64)
    y = target.value.double().clamp(max=1 - 1e-9)
    assert quality_focal_loss(logits.view(-1).index_put((target.index,), y.logit()).view_as(logits), target) < 1e-9
    half = logits.view(-1).index_fill(0, target.index, 0.0).view_as(logits)
    expected = (target.value.double() - 0.5).square().sum() * math.log(2)
    torch.testing.assert_close(quality_focal_loss(half, target), expected)


def test_no_gradient_is_lost_to_a_clamp(target):
    """A peak that the network is sure is background (p = 1e-7) is pulled up with full force: the slope is -1."""
    logits = torch.full((2, 3, 10, 10), -16.0, requires_grad=True)
    heatmap_focal_loss(logits, target).backward()
    peaks = logits.grad.view(-1)[target.index[target.value == 1]]
    torch.testing.assert_close(peaks, -torch.ones(6), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", HEATMAP_LOSSES)
@pytest.mark.parametrize("value", [1e4, -1e4, 0.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_logits_stay_finite(target, value, dtype, kind):
    logits = torch.full((2, 3, 10, 10), value, dtype=dtype, requires_grad=True)
    loss = HEATMAP_LOSSES[kind](logits, target)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_no_objects(target):
    empty = SparseMaps(torch.zeros(0, dtype=torch.long), torch.zeros(0), (1, 1, 4, 4))
    logits = torch.zeros(1, 1, 4, 4, requires_grad=True)
    loss = heatmap_focal_loss(logits, empty)
    loss.backward()
    assert loss.item() == pytest.approx(16 * 0.25 * 0.6931472, rel=1e-6)  # p = 1/2: p^2 * log 2 in each of 16 cells
    assert torch.isfinite(logits.grad).all()
