"""The average of the weights, against a loop; that it is evaluated, saved, and exactly resumed."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from centernet_d2.checkpoint.reading import load_file
from centernet_d2.engine import Trainer
from centernet_d2.engine.ema import ModelEma
from tests.engine.test_trainer import EXACT, same
from tests.helpers.runs import engine_cfg, run

OPTS = (*EXACT, "SOLVER.EMA.DECAY", 0.4, "SOLVER.MAX_ITER", 9)


def plain_average(states: list[dict[str, torch.Tensor]], decay: float) -> dict[str, torch.Tensor]:
    """Of the states after each step; float64."""
    average = {name: x.double() for name, x in states[0].items()}
    for steps, state in enumerate(states[1:], start=1):
        keep = min(decay, (1 + steps) / (10 + steps))
        average = {name: keep * average[name] + (1 - keep) * x.double() for name, x in state.items()}
    return average


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("average")


@pytest.fixture(scope="module")
def whole(folder):
    return run(engine_cfg(folder, *OPTS))


def test_the_average_is_that_of_a_loop():
    """Weights and running statistics; the counter of batch normalization, which is no quantity, is the last one."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    hook, states = ModelEma(model, 0.5), []
    for _ in range(12):
        model(torch.randn(8, 3))
        for p in model.parameters():
            p.data.add_(torch.randn_like(p))
        hook.after_step()
        states.append(copy.deepcopy(model.state_dict()))
    expected = plain_average(states, 0.5)
    predictions = hook.averaged.state_dict()
    assert predictions.pop("1.num_batches_tracked") == 12
    for name, x in predictions.items():
        assert torch.allclose(x.double(), expected[name], atol=1e-5), name
    assert not torch.allclose(predictions["1.running_mean"], states[-1]["1.running_mean"], atol=1e-3)


def test_the_average_is_what_is_saved(folder, whole):
    saved = load_file(folder / "model_final.pth")
    for name, expected in plain_average(whole.weights, 0.4).items():
        assert torch.allclose(saved["model"][name].double(), expected, atol=1e-6), name
    beside = saved["trainer"]["hooks"]["ModelEma"]["model"]
    assert beside.keys() == saved["model"].keys()
    assert same({name: beside[name] for name in whole.weights[-1]}, whole.weights[-1])


@pytest.mark.parametrize("stop", [1, 5])
def test_resume_is_exact(stop, whole, tmp_path):
    first = run(engine_cfg(tmp_path, *OPTS, "SOLVER.CHECKPOINT_PERIOD", stop), stop_after=stop)
    second = run(engine_cfg(tmp_path, *OPTS), resume=True)
    assert len(second.losses) == 9 - stop
    for name in ("losses", "weights", "gradients"):
        assert same(getattr(first, name) + getattr(second, name), getattr(whole, name)), name
    assert same(second.state["model"], whole.state["model"])
    assert same(second.state["hooks"], whole.state["hooks"])
    assert same(second.results, whole.results)


def test_the_average_is_what_is_evaluated(tmp_path, monkeypatch):
    seen = []

    def record_state(cls, cfg, model):
        seen.append(copy.deepcopy(model.state_dict()))
        return {"bbox": {"AP": 1.0 - len(seen)}}

    monkeypatch.setattr(Trainer, "test", classmethod(record_state))
    record = run(engine_cfg(tmp_path, *OPTS))
    assert len(seen) == 3, "after 4, 8 and all 9 steps"
    for steps, state in zip((4, 8, 9), seen, strict=True):
        for name, expected in plain_average(record.weights[:steps], 0.4).items():
            assert torch.allclose(state[name].double(), expected, atol=1e-6), name
    assert same(load_file(tmp_path / "model_best.pth")["model"], seen[0])


def test_training_does_not_know_of_it(whole, tmp_path):
    assert same(run(engine_cfg(tmp_path, *OPTS, "SOLVER.EMA.DECAY", 0.0)).weights, whole.weights)


def test_weights_that_are_loaded_are_the_start_of_both(folder, whole, tmp_path):
    trainer = Trainer(engine_cfg(tmp_path, *OPTS, "MODEL.WEIGHTS", str(folder / "model_final.pth")))
    trainer.resume_or_load(resume=False)
    for model in (trainer.model, trainer.checkpointer.model):
        assert same(dict(model.state_dict()), dict(whole.state["model"]))
    assert trainer.model is not trainer.checkpointer.model


def test_an_average_can_begin_in_a_resumed_run(tmp_path):
    plain = run(engine_cfg(tmp_path, *OPTS, "SOLVER.EMA.DECAY", 0.0, "SOLVER.CHECKPOINT_PERIOD", 4), stop_after=4)
    second = run(engine_cfg(tmp_path, *OPTS), resume=True)
    expected = plain_average(second.weights, 0.4)
    assert all(torch.allclose(second.state["model"][k].double(), x, atol=1e-6) for k, x in expected.items())
    trained = run(engine_cfg(tmp_path / "whole", *OPTS, "SOLVER.EMA.DECAY", 0.0))
    assert same(plain.weights + second.weights, trained.weights)


def test_statistics_made_anew_are_those_of_the_average(tmp_path, monkeypatch):
    """PreciseBN works on what is evaluated and saved, with its weights, and leaves what is trained alone."""
    seen = {}

    def statistics(model, batches, count):
        assert count == 2 and len(next(batches)) == 4
        seen["weight"] = model.backbone.layers[0].weight.clone()
        model.backbone.layers[1].running_mean.fill_(77)

    monkeypatch.setattr("detectron2.engine.hooks.update_bn_stats", statistics)
    record = run(engine_cfg(tmp_path, *OPTS, "TEST.PRECISE_BN.ENABLED", True, "TEST.PRECISE_BN.NUM_ITER", 2))
    name = "backbone.layers.0.weight"
    assert torch.allclose(seen["weight"].double(), plain_average(record.weights, 0.4)[name], atol=1e-6)
    saved = load_file(tmp_path / "model_final.pth")
    assert (saved["model"]["backbone.layers.1.running_mean"] == 77).all()
    assert (saved["trainer"]["hooks"]["ModelEma"]["model"]["backbone.layers.1.running_mean"] != 77).all()


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_that_is_none(decay, tmp_path):
    with pytest.raises(ValueError, match=r"SOLVER.EMA.DECAY must be from 0 to below 1"):
        Trainer(engine_cfg(tmp_path, "SOLVER.EMA.DECAY", decay))
