"""A finite loss with a gradient that is infinite or NaN changes no weight."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import nn

from centernet_d2.checkpoint.reading import load_file
from centernet_d2.engine import NonFiniteGradientError, Trainer
from centernet_d2.engine.step.anomaly import describe_gradients
from centernet_d2.engine.step.gradients import MOST_LEFT_OUT, GradientCheck
from tests.helpers.runs import GRADIENT, engine_cfg, run

OPTS = ("SOLVER.CHECKPOINT_PERIOD", 1, "SOLVER.MAX_ITER", 6, "SOLVER.KEEP_CHECKPOINTS", 9, "SOLVER.STEPS", ())


def check_stopped(record, step: int, term: str) -> None:
    """Check that a run ended with the weights of the step before ``step``, and said why."""
    assert isinstance(record.error, NonFiniteGradientError)
    said = str(record.error)
    assert f"at iteration {step}: the loss is finite, but not the gradient of head {term} (task.heads.{term}." in said
    assert "backbone (backbone." in said and said.count("head ") == 1
    assert all(f"synthetic://engine_test_train/{i} (id {i})" in said for i in record.image_ids[step])
    before = record.weights[step - 1]
    assert all(torch.equal(record.state["model"][name], value) for name, value in before.items())


@pytest.mark.parametrize("term", ["heatmap", "box_size", "offset"])
def test_it_stops_the_run(term, tmp_path):
    record = run(engine_cfg(tmp_path, *OPTS), poison=(5, 0, f"loss_{term}", GRADIENT))
    check_stopped(record, 5, term)
    assert len(record.losses) == 5
    assert sorted(p.name for p in tmp_path.glob("*.pth")) == [f"model_{i:07d}.pth" for i in range(5)]


@pytest.mark.parametrize(("name", "step"), [("Adam", 0), ("Adam", 3), ("Adam", 5), ("AdamW", 3), ("SGD", 0)])
def test_a_gpus_optimizer_leaves_the_step_out(name, step, tmp_path, monkeypatch):
    """It says so one step later, or before the next checkpoint, which is not written."""
    kind = getattr(torch.optim, name)
    monkeypatch.setattr(torch.optim, name, functools.partial(kind, fused=True))
    opts = (*OPTS, "SOLVER.OPTIMIZER", name, "SOLVER.CHECKPOINT_PERIOD", 2 if step == 3 else 0)
    record = run(engine_cfg(tmp_path, *opts), poison=(step, 0, "loss_offset", GRADIENT))
    assert isinstance(record.error, NonFiniteGradientError) and f"at iteration {step}:" in str(record.error)
    assert all(f"engine_test_train/{i} (id {i})" in str(record.error) for i in record.image_ids[step])
    if step:
        check_stopped(record, step, "offset")
    assert sorted(p.name for p in tmp_path.glob("*.pth")) == ["model_0000001.pth"] * (step == 3)


def test_both_kinds_of_optimizer_do_the_same(tmp_path, monkeypatch):
    plain = run(engine_cfg(tmp_path / "plain", *OPTS))
    monkeypatch.setattr(torch.optim, "Adam", functools.partial(torch.optim.Adam, fused=True))
    fused = run(engine_cfg(tmp_path / "fused", *OPTS))
    for a, b in zip(plain.weights, fused.weights, strict=True):
        assert all(torch.allclose(a[name], b[name], rtol=1e-4, atol=1e-6) for name in a)


def test_a_checkpoint_of_the_other_kind_keeps_this_one(tmp_path, monkeypatch):
    """What is loaded does not decide which kind runs here."""
    run(engine_cfg(tmp_path, *OPTS), stop_after=3)
    monkeypatch.setattr(torch.optim, "Adam", functools.partial(torch.optim.Adam, fused=True))
    trainer = Trainer(engine_cfg(tmp_path, *OPTS))
    trainer.resume_or_load(resume=True)
    assert trainer.start_iter == 3 and all(group["fused"] for group in trainer.optimizer.param_groups)
    record = run(engine_cfg(tmp_path, *OPTS), resume=True, poison=(4, 0, "loss_offset", GRADIENT))
    assert isinstance(record.error, NonFiniteGradientError) and "at iteration 4" in str(record.error)


@pytest.mark.slow
def test_float16_looks_for_its_scale(tmp_path):
    """A few steps left out are as they should be: the scale halves, and training goes on."""
    opts = (*OPTS, "SOLVER.AMP.ENABLED", True, "SOLVER.AMP.PRECISION", "float16", "SOLVER.MAX_ITER", 5)
    record = run(engine_cfg(tmp_path, *opts), poison=(2, 0, "loss_offset", GRADIENT))
    assert record.error is None
    same = [
        all(torch.equal(a[name], b[name]) for name in a)
        for a, b in zip(record.weights, record.weights[1:], strict=False)
    ]
    assert same == [False, True, False, False]
    assert load_file(tmp_path / "model_final.pth")["trainer"]["_trainer"]["grad_scaler"]["scale"] == 2.0**15


@pytest.mark.slow
def test_float16_gives_up(tmp_path):
    opts = (*OPTS, "SOLVER.AMP.ENABLED", True, "SOLVER.AMP.PRECISION", "float16", "SOLVER.MAX_ITER", 40)
    record = run(engine_cfg(tmp_path, *opts), poison=(range(3, 40), 0, "loss_offset", GRADIENT))
    check_stopped(record, 3 + MOST_LEFT_OUT, "offset")
    assert f"in {MOST_LEFT_OUT + 1} steps in a row" in str(record.error)


def test_one_norm_of_many(tmp_path):
    """Only what is not finite is named; a finite norm lets the step through, and ends the count."""
    model = nn.ModuleDict({name: nn.Linear(2, 2) for name in "ab"})
    check = GradientCheck(model, torch.optim.SGD(model.parameters(), 0.1), may_skip=1)
    for bad in (math.nan, 0.0, math.inf, -math.inf):
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        model["b"].bias.grad[1] += bad
        check.measure(7, [{"file_name": "x.jpg", "image_id": 3}])
        if bad == -math.inf:
            with pytest.raises(NonFiniteGradientError, match=r"gradient of b \(b.bias\) in 2 steps[^$]*x.jpg \(id 3\)"):
                check.check()
        else:
            check.check()


def test_descriptions():
    names = ["backbone.a", "backbone.b", "task.heads.offset.w", "neck.c"]
    assert describe_gradients(names) == (
        "head offset (task.heads.offset.w), backbone (backbone.a and 1 more), neck (neck.c)"
    )
