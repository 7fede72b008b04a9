"""Exact resume, the guard against losses that are no numbers, evaluation and the best checkpoint."""

from __future__ import annotations

import json
from itertools import chain

import numpy as np
import pytest
import torch

from centernet_d2.checkpoint.reading import load_file
from centernet_d2.checkpoint.writing import save_checkpoint
from centernet_d2.engine import NonFiniteLossError, Trainer
from centernet_d2.engine.solver import check_batch_size
from tests.helpers.runs import Record, engine_cfg, run

EXACT = (
    "MODEL.BACKBONE.NAME", "DropoutBackbone", "DATASETS.TEST", ("engine_test_val",), "TEST.EVAL_PERIOD", 4,
    "SOLVER.CLIP_GRADIENTS.ENABLED", True,
)  # fmt: skip


def same(a, b) -> bool:
    """Bit for bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Record:
    return run(engine_cfg(tmp_path_factory.mktemp("whole"), *EXACT))


@pytest.mark.parametrize("stop", [1, 7, 10, 19])
def test_a_resumed_run_is_the_same_run(stop, uninterrupted, tmp_path):
    """Stopped after ``stop`` of 20 iterations; dropout, batch statistics, evaluation in between, clipping, schedule."""
    first = run(engine_cfg(tmp_path, *EXACT, "SOLVER.CHECKPOINT_PERIOD", stop), stop_after=stop)
    assert first.error is not None and len(first.losses) == stop
    second = run(engine_cfg(tmp_path, *EXACT), resume=True)
    assert len(second.losses) == 20 - stop
    for name in ("losses", "image_ids", "rates", "gradients", "weights"):
        assert same(getattr(first, name) + getattr(second, name), getattr(uninterrupted, name)), name
    assert same(second.state["model"], uninterrupted.state["model"])
    assert same(second.state["_trainer"]["optimizer"], uninterrupted.state["_trainer"]["optimizer"])
    assert same(second.state["hooks"], uninterrupted.state["hooks"])
    assert same(second.state["random_states"], uninterrupted.state["random_states"])
    assert same(second.results, uninterrupted.results)


def test_killed_between_two_checkpoints(uninterrupted, tmp_path):
    """What was done since the last one is done again, in the same way; the run loads nothing else than that one."""
    run(engine_cfg(tmp_path, *EXACT, "SOLVER.CHECKPOINT_PERIOD", 7), stop_after=10)
    second = run(engine_cfg(tmp_path, *EXACT), resume=True)
    assert len(second.losses) == 13
    assert same(second.weights, uninterrupted.weights[7:])


def test_the_runs_of_these_tests_could_differ(uninterrupted, tmp_path):
    """Another seed, or no put-back of the random states, is seen."""
    assert not same(run(engine_cfg(tmp_path / "a", *EXACT, "SEED", 6), stop_after=2).losses, uninterrupted.losses[:2])
    run(engine_cfg(tmp_path / "b", *EXACT, "SOLVER.CHECKPOINT_PERIOD", 2), stop_after=2)
    path = tmp_path / "b" / "model_0000001.pth"
    saved = load_file(path)
    saved["trainer"]["random_states"] = []
    torch.save(saved, path)
    second = run(engine_cfg(tmp_path / "b", *EXACT), resume=True, stop_after=4)
    assert second.image_ids == uninterrupted.image_ids[2:4]
    assert not same(second.losses, uninterrupted.losses[2:4])


def test_a_synthetic_seed_is_kept(tmp_path):
    """``SEED: -1`` resumes with the images that would have come."""
    opts = ("SEED", -1, "SOLVER.CHECKPOINT_PERIOD", 3, "SOLVER.MAX_ITER", 6, "SOLVER.STEPS", ())
    first = run(engine_cfg(tmp_path, *opts), stop_after=3)
    second = run(engine_cfg(tmp_path, *opts), resume=True)
    assert second.state["seed"] == first.state["seed"] >= 0
    seen = list(chain(*first.image_ids, *second.image_ids))
    assert len(set(seen)) == len(seen) == 24, "one epoch: every image once"


@pytest.mark.parametrize("term", ["loss_heatmap", "loss_box_size", "loss_offset"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_the_run(term, value, tmp_path):
    cfg = engine_cfg(tmp_path, "SOLVER.CHECKPOINT_PERIOD", 1, "SOLVER.MAX_ITER", 6, "SOLVER.KEEP_CHECKPOINTS", 9)
    record = run(cfg, poison=(5, 0, term, value))
    assert isinstance(record.error, NonFiniteLossError)
    said = str(record.error)
    assert f"iteration 5: {term} = {value} in process 0" in said
    assert all(f"synthetic://engine_test_train/{i} (id {i})" in said for i in record.image_ids[5])
    assert len(record.losses) == 5, "the step did not count"
    parameters = {name: record.state["model"][name] for name in record.weights[4]}
    assert same(parameters, record.weights[4]), "no weight has changed since iteration 4"
    names = sorted(p.name for p in tmp_path.glob("*.pth"))
    assert names == [f"model_{i:07d}.pth" for i in range(5)], "no checkpoint of the step, no final one"


def test_no_evaluation_after_a_failure_in_the_last_step(tmp_path):
    cfg = engine_cfg(tmp_path, "SOLVER.MAX_ITER", 2, "SOLVER.STEPS", (), "DATASETS.TEST", ("engine_test_val",))
    record = run(cfg, poison=(1, 0, "loss_offset", float("nan")))
    assert isinstance(record.error, NonFiniteLossError) and record.results is None
    assert list(tmp_path.glob("*.pth")) == []


def test_best_checkpoint(tmp_path, monkeypatch):
    """The best value's weights stay; a missing metric is a warning; a resumed run knows the best so far."""
    values = iter([10.0, 30.0, 20.0, float("nan"), 25.0, 40.0])
    monkeypatch.setattr(Trainer, "test", classmethod(lambda *_: {"bbox": {"AP": next(values)}}))
    opts = ("DATASETS.TEST", ("engine_test_val",), "TEST.EVAL_PERIOD", 1, "SOLVER.MAX_ITER", 6, "SOLVER.STEPS", ())
    first = run(engine_cfg(tmp_path, *opts, "SOLVER.CHECKPOINT_PERIOD", 4), stop_after=4)
    best = load_file(tmp_path / "model_best.pth")
    assert best["value"] == 30 and best["iteration"] == 1
    assert all(torch.equal(best["model"][name], x) for name, x in first.weights[1].items())
    run(engine_cfg(tmp_path, *opts), resume=True, stop_after=5)
    assert load_file(tmp_path / "model_best.pth")["value"] == 30, "25 is not better than what was before the stop"
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000003.pth", "the best is not what to resume from"


def test_a_missing_metric_is_a_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(Trainer, "test", classmethod(lambda *_: {"segm": {"AP": 1.0}}))
    opts = ("DATASETS.TEST", ("engine_test_val",), "SOLVER.MAX_ITER", 1, "SOLVER.STEPS", ())
    assert run(engine_cfg(tmp_path, *opts)).error is None
    assert "gave no bbox/AP" in caplog.text and "it gave segm/AP" in caplog.text
    assert not (tmp_path / "model_best.pth").exists()


def test_a_metric_that_is_no_number_is_a_warning(tmp_path, monkeypatch, caplog):
    results = {"bbox": {"AP": float("nan"), "AP50": 1.0, "AP-cat": float("nan")}}
    monkeypatch.setattr(Trainer, "test", classmethod(lambda *_: results))
    opts = ("DATASETS.TEST", ("engine_test_val",), "SOLVER.MAX_ITER", 1, "SOLVER.STEPS", ())
    assert run(engine_cfg(tmp_path, *opts)).error is None
    assert "bbox/AP is not a number" in caplog.text and "the evaluation gave bbox/AP50\n" in caplog.text
    assert not (tmp_path / "model_best.pth").exists()


def test_a_model_that_finds_nothing_is_the_best_until_another_is(tmp_path):
    """0 and not NaN: the first evaluation's weights are kept."""
    opts = ("DATASETS.TEST", ("engine_test_val",), "SOLVER.MAX_ITER", 1, "SOLVER.STEPS", ())
    assert run(engine_cfg(tmp_path, *opts, "MODEL.CENTERNET.SCORE_THRESH_TEST", 1.0)).error is None
    assert load_file(tmp_path / "model_best.pth")["value"] == 0


def test_what_a_run_leaves(tmp_path):
    cfg = engine_cfg(tmp_path, "SOLVER.CHECKPOINT_PERIOD", 5, "SOLVER.KEEP_CHECKPOINTS", 2)
    record = run(cfg)
    assert sorted(p.name for p in tmp_path.glob("*.pth")) == [
        *("model_0000009.pth", "model_0000014.pth", "model_final.pth")
    ]
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert lines[-1]["iteration"] == 19 and {"total_loss", "loss_heatmap", "lr", "data_time", "eta_seconds"} <= set(
        lines[-1]
    )
    assert list(tmp_path.glob("events.out.tfevents.*"))
    assert (
        record.rates[0] < 0.01 and record.rates[10] == pytest.approx(0.001) and record.rates[-1] == pytest.approx(1e-4)
    )
    again = run(cfg, resume=True)
    assert again.losses == [] and again.error is None, "a finished run has nothing to do"


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision(precision, tmp_path):
    opts = ("SOLVER.MAX_ITER", 6, "SOLVER.STEPS", (), "SOLVER.BASE_LR", 0.001)
    plain = run(engine_cfg(tmp_path / "plain", *opts))
    cfg = engine_cfg(tmp_path / "mixed", *opts, "SOLVER.AMP.ENABLED", True, "SOLVER.AMP.PRECISION", precision)
    mixed = run(cfg)
    for a, b in zip(plain.losses, mixed.losses, strict=True):
        assert a["total_loss"] != b["total_loss"] and a["total_loss"] == pytest.approx(b["total_loss"], rel=0.02)
    assert all(p.dtype == torch.float32 for p in mixed.weights[-1].values())


def test_iterations_beyond_32_bits(tmp_path):
    """Goes on from iteration 2^31, with the average of the weights, the schedule, checkpoints and metrics."""
    opts = ("SOLVER.CHECKPOINT_PERIOD", 1, "SOLVER.EMA.DECAY", 0.9, "SOLVER.KEEP_CHECKPOINTS", 2)
    run(engine_cfg(tmp_path, *opts), stop_after=2)
    path, start = tmp_path / "model_0000001.pth", 2**31
    data = load_file(path)
    data["iteration"] = data["trainer"]["iteration"] = start - 1
    data["trainer"]["hooks"]["LRScheduler"]["last_epoch"] = start
    save_checkpoint(data, path)
    opts += ("SOLVER.MAX_ITER", start + 3, "SOLVER.STEPS", (2**30,))
    record = run(engine_cfg(tmp_path, *opts), resume=True)
    assert record.error is None and record.rates == pytest.approx([0.001] * 3)
    names = {path.name for path in tmp_path.glob("*.pth")}
    assert names == {f"model_{start}.pth", f"model_{start + 1}.pth", "model_final.pth"}
    assert load_file(tmp_path / "model_final.pth")["iteration"] == start + 2
    assert f'"iteration": {start + 2}' in (tmp_path / "metrics.json").read_text().splitlines()[-1]


@pytest.mark.slow
def test_50_steps_of_bfloat16(tmp_path):
    """Losses of single steps within 5 %, means of ten steps in a row within 2 %; they were 3.3 % and 1.4 %."""
    opts = ("SOLVER.MAX_ITER", 50, "SOLVER.STEPS", (), "SOLVER.BASE_LR", 0.001)
    amp = ("SOLVER.AMP.ENABLED", True, "SOLVER.AMP.PRECISION", "bfloat16")
    records = [run(engine_cfg(tmp_path / name, *opts, *more)) for name, more in (("plain", ()), ("mixed", amp))]
    plain, mixed = (np.array([one["total_loss"] for one in record.losses]) for record in records)
    assert len(plain) == 50 and plain[-10:].mean() < 0.8 * plain[:10].mean()
    assert 1e-4 < np.abs(mixed / plain - 1).max() < 0.05
    means = [np.convolve(curve, np.ones(10) / 10, "valid") for curve in (plain, mixed)]
    assert np.abs(means[1] / means[0] - 1).max() < 0.02


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD"])
def test_optimizers(name, tmp_path):
    cfg = engine_cfg(
        tmp_path, "SOLVER.OPTIMIZER", name, "SOLVER.WEIGHT_DECAY", 0.1, "SOLVER.WEIGHT_DECAY_NORM", 0.2,
        "SOLVER.BIAS_LR_FACTOR", 2.0,
    )  # fmt: skip
    trainer = Trainer(cfg)
    model, optimizer = trainer.model, trainer.optimizer
    assert type(optimizer).__name__ == name
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    groups = {key: group_of[id(p)] for key, p in model.named_parameters()}
    assert groups["backbone.layers.2.weight"]["weight_decay"] == 0.1
    assert groups["backbone.layers.3.weight"]["weight_decay"] == 0.2, "of the group normalization"
    rates = {key: group["initial_lr"] for key, group in groups.items()}
    assert rates["backbone.layers.2.bias"] == 2 * rates["backbone.layers.2.weight"] == 0.02


def test_unknown_optimizer(tmp_path):
    with pytest.raises(ValueError, match=r"Lion.*Adam"):
        Trainer(engine_cfg(tmp_path, "SOLVER.OPTIMIZER", "Lion"))


def test_the_schedule_scales_with_the_processes():
    cfg = engine_cfg("unused", "SOLVER.REFERENCE_WORLD_SIZE", 2, "SOLVER.IMS_PER_BATCH", 8)
    scaled = Trainer.auto_scale_workers(cfg, 1)
    assert (scaled.SOLVER.IMS_PER_BATCH, scaled.SOLVER.MAX_ITER, scaled.SOLVER.BASE_LR) == (4, 40, 0.005)


@pytest.mark.parametrize(("reference", "batch", "processes"), [(8, 4, 1), (0, 3, 2), (2, 3, 2), (0, 0, 1)])
def test_a_batch_that_cannot_be_shared_is_refused(reference, batch, processes):
    cfg = engine_cfg("unused", "SOLVER.REFERENCE_WORLD_SIZE", reference, "SOLVER.IMS_PER_BATCH", batch)
    with pytest.raises(ValueError, match=f"IMS_PER_BATCH is {batch}, which .* cannot share"):
        check_batch_size(cfg, processes)


def test_a_batch_that_can_be_shared_passes():
    for reference, batch, processes in ((8, 16, 1), (0, 4, 2), (2, 4, 3)):
        cfg = engine_cfg("unused", "SOLVER.REFERENCE_WORLD_SIZE", reference, "SOLVER.IMS_PER_BATCH", batch)
        check_batch_size(cfg, processes)
