"""What the optimizer's groups, the schedules and the clipping of gradients are, against closed forms."""

from __future__ import annotations

from math import cos, pi

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from centernet_d2.engine.solver import build_lr_scheduler, build_optimizer
from centernet_d2.layers.deform_conv import ModulatedDeformConv2d
from tests.engine.test_trainer import same
from tests.helpers.runs import engine_cfg, run
from tests.helpers.tiny import tiny_cfg

RESNET = (
    "MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64,
    "MODEL.RESNETS.NORM", "BN", "MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4", "res5"],
    "MODEL.NECK.NAME", "DeconvNeck",
)  # fmt: skip


def test_adamw_decays_neither_norms_nor_biases():
    """Of a network with batch normalization and deformable convolutions, which have biases of their own."""
    decays = ("SOLVER.WEIGHT_DECAY", 0.01, "SOLVER.WEIGHT_DECAY_NORM", 0.0, "SOLVER.WEIGHT_DECAY_BIAS", 0.0)
    cfg = tiny_cfg(*RESNET, "SOLVER.OPTIMIZER", "AdamW", *decays)
    model = build_model(cfg)
    optimizer = build_optimizer(cfg, model)
    assert isinstance(optimizer, torch.optim.AdamW)
    decay_of = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    norms = {id(p) for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    names = dict(model.named_parameters())
    assert decay_of.keys() == {id(p) for p in names.values()}
    for name, p in names.items():
        assert decay_of[id(p)] == (0.0 if id(p) in norms or name.endswith(".bias") else 0.01), name
    deformable = [m for m in model.modules() if isinstance(m, ModulatedDeformConv2d)]
    assert len(norms) > 40 and len(deformable) == 3 and all(decay_of[id(m.bias)] == 0 for m in deformable)


def rates(iterations: int, *opts) -> list[float]:
    """The learning rate of each iteration."""
    cfg = tiny_cfg("SOLVER.BASE_LR", 0.01, "SOLVER.MAX_ITER", iterations, *opts)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.01)
    scheduler = build_lr_scheduler(cfg, optimizer)
    predictions = []
    for _ in range(iterations):
        predictions.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return predictions


def test_one_cycle():
    opts = ("SOLVER.WARMUP_ITERS", 30, "SOLVER.WARMUP_FACTOR", 0.04, "SOLVER.BASE_LR_END", 1e-5)
    predictions = rates(100, "SOLVER.LR_SCHEDULER_NAME", "OneCycleLR", *opts)
    up = [0.0004 + (0.01 - 0.0004) * (1 - cos(pi * i / 30)) / 2 for i in range(30)]
    down = [1e-5 + (0.01 - 1e-5) * (1 + cos(pi * (i - 30) / 70)) / 2 for i in range(30, 100)]
    assert predictions == pytest.approx(up + down, rel=1e-9)


def test_one_cycle_is_that_of_pytorch():
    """But for their last iterations, one apart: theirs end on the lowest rate."""
    opts = ("SOLVER.WARMUP_ITERS", 300, "SOLVER.WARMUP_FACTOR", 0.04, "SOLVER.BASE_LR_END", 4e-8)
    predictions = rates(1000, "SOLVER.LR_SCHEDULER_NAME", "OneCycleLR", *opts)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.01)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, 1001, pct_start=0.3, cycle_momentum=False)
    expected = []
    for _ in predictions:
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    assert predictions == pytest.approx(expected, abs=0.01 * pi / 2 / 300)


@pytest.mark.parametrize("iterations", [0, 10])
def test_one_cycle_needs_a_rise_and_a_fall(iterations):
    with pytest.raises(ValueError, match=r"WARMUP_ITERS, \d+: make it more than 0"):
        rates(10, "SOLVER.LR_SCHEDULER_NAME", "OneCycleLR", "SOLVER.WARMUP_ITERS", iterations)


def test_cosine_with_warm_up():
    """Detectron2's: the cosine runs from the first iteration on, the line of the warm-up leads onto it."""
    opts = ("SOLVER.WARMUP_ITERS", 20, "SOLVER.WARMUP_FACTOR", 0.1)
    predictions = rates(100, "SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", *opts)
    cosine = [0.01 * (1 + cos(pi * i / 100)) / 2 for i in range(101)]
    assert predictions[20:] == pytest.approx(cosine[20:100], rel=1e-9)
    assert predictions[:20] == pytest.approx([0.001 + (cosine[20] - 0.001) * i / 20 for i in range(20)], rel=1e-9)


@pytest.mark.parametrize("precision", ["", "float16"])
@pytest.mark.parametrize("kind", ["value", "norm"])
def test_clipping(kind, precision, tmp_path):
    """Each gradient's values, or each parameter's norm; with mixed precision that of the loss before it was scaled."""
    opts = ("SOLVER.MAX_ITER", 1, "SOLVER.STEPS", ())
    opts += ("SOLVER.AMP.ENABLED", bool(precision), "SOLVER.AMP.PRECISION", precision or "float16")
    (free,) = run(engine_cfg(tmp_path / "free", *opts)).gradients
    limit = 0.01
    clip = ("SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", kind)
    (clipped,) = run(engine_cfg(tmp_path, *opts, *clip, "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", limit)).gradients
    touched = 0
    for name, gradient in free.items():
        if kind == "value":
            expected = gradient.clamp(-limit, limit)
        else:
            expected = gradient * min(1.0, limit / (float(gradient.norm()) + 1e-6))
        assert torch.allclose(clipped[name], expected, rtol=1e-4, atol=1e-7), name
        touched += not torch.equal(expected, gradient)
    assert 0 < touched < len(free)


@pytest.mark.parametrize("schedule", ["OneCycleLR", "WarmupCosineLR"])
def test_resume_is_exact(schedule, tmp_path):
    """Also where the optimizer's state has channels last."""
    opts = (
        "SOLVER.LR_SCHEDULER_NAME", schedule, "SOLVER.OPTIMIZER", "AdamW", "SOLVER.WEIGHT_DECAY", 0.1,
        "SOLVER.MAX_ITER", 9, "MODEL.CHANNELS_LAST", schedule != "OneCycleLR",
    )  # fmt: skip
    whole = run(engine_cfg(tmp_path / "whole", *opts))
    first = run(engine_cfg(tmp_path / "two", *opts, "SOLVER.CHECKPOINT_PERIOD", 4), stop_after=4)
    second = run(engine_cfg(tmp_path / "two", *opts), resume=True)
    assert len(set(whole.rates)) == 9, "every iteration has a rate of its own"
    for name in ("losses", "rates", "weights"):
        assert same(getattr(first, name) + getattr(second, name), getattr(whole, name)), name
