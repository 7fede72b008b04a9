"""Schedules in epochs, early stopping, the backbone's rate and its normalizations."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from centernet_d2.data.build import load_training_dicts
from centernet_d2.engine.solver import build_optimizer, resolve_epochs
from centernet_d2.engine.trainer import Trainer
from tests.helpers.runs import engine_cfg, run
from tests.helpers.tiny import tiny_cfg


def test_epochs_become_iterations(tmp_path):
    opts = ("SOLVER.EPOCHS", 10.0, "SOLVER.WARMUP_EPOCHS", 0.5, "SOLVER.STEPS", (0.5, 0.9), "TEST.EVAL_EPOCHS", 2.0)
    cfg = engine_cfg(tmp_path, *opts, "SOLVER.IMS_PER_BATCH", 3)
    images = len(load_training_dicts(cfg))
    resolved = resolve_epochs(cfg)
    iterations = -(-10 * images // 3)
    assert iterations == resolved.SOLVER.MAX_ITER
    assert round(images / 6) == resolved.SOLVER.WARMUP_ITERS
    assert (round(0.5 * iterations), round(0.9 * iterations)) == resolved.SOLVER.STEPS
    assert round(2 * images / 3) == resolved.TEST.EVAL_PERIOD
    assert Trainer(cfg).max_iter == iterations


def test_a_small_dataset_is_seen_more_often(tmp_path, caplog):
    opts = ("SOLVER.EPOCHS", 4.0, "SOLVER.WARMUP_EPOCHS", 0.5, "SOLVER.STEPS", (0.5,), "TEST.EVAL_EPOCHS", 1.0)
    cfg = engine_cfg(tmp_path, *opts)
    unchanged = resolve_epochs(cfg)
    caplog.set_level("INFO")
    few, many = (resolve_epochs(engine_cfg(tmp_path, *opts, "SOLVER.MIN_ITER", x)) for x in (1, 600))
    assert few.SOLVER.MAX_ITER == unchanged.SOLVER.MAX_ITER < 600
    assert (many.SOLVER.MAX_ITER, many.SOLVER.WARMUP_ITERS, many.TEST.EVAL_PERIOD) == (600, 75, 150)
    assert many.SOLVER.STEPS == (300,)
    (message,) = (x.message for x in caplog.records if x.name == "centernet_d2.engine.solver")
    assert f"EPOCHS 4 would be {unchanged.SOLVER.MAX_ITER} iterations" in message and "MIN_ITER 600" in message


def test_iterations_stay_without_epochs(tmp_path):
    cfg = engine_cfg(tmp_path)
    assert resolve_epochs(cfg) is cfg


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (("SOLVER.STEPS", (8, 15)), r"fractions of the schedule, not \(8, 15\)"),
        (("SOLVER.STEPS", (), "SOLVER.WARMUP_EPOCHS", 3.0), "WARMUP_EPOCHS, 3.0, must be less"),
    ],
)
def test_epochs_that_make_no_sense(opts, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        resolve_epochs(engine_cfg(tmp_path, "SOLVER.EPOCHS", 2.0, *opts))


def test_training_stops_when_validation_stalls(tmp_path, monkeypatch):
    """30 is the best; two evaluations without a better one, with a better one between two worse ones before."""
    values = iter([10.0, 5.0, 30.0, 20.0, 30.0, 99.0])
    monkeypatch.setattr(Trainer, "test", classmethod(lambda *_: {"bbox": {"AP": next(values)}}))
    opts = ("DATASETS.TEST", ("engine_test_val",), "TEST.EVAL_PERIOD", 1, "SOLVER.MAX_ITER", 8, "SOLVER.STEPS", ())
    record = run(engine_cfg(tmp_path, *opts, "SOLVER.PATIENCE", 2))
    assert record.error is None and next(values) == 99.0, "five evaluations, none after the end"
    assert len(record.image_ids) == 5
    final, best = (torch.load(tmp_path / f"model_{x}.pth", weights_only=False) for x in ("final", "best"))
    assert final["iteration"] == 4 and best["iteration"] == 2 and best["value"] == 30.0


def test_patience_needs_a_metric(tmp_path):
    opts = ("DATASETS.TEST", ("engine_test_val",), "SOLVER.PATIENCE", 2, "TEST.BEST_METRIC", "")
    with pytest.raises(ValueError, match=r"PATIENCE needs TEST\.BEST_METRIC"):
        Trainer(engine_cfg(tmp_path, *opts))


def test_the_backbone_has_a_rate_of_its_own():
    cfg = tiny_cfg("SOLVER.BASE_LR", 0.01, "SOLVER.BACKBONE_LR_FACTOR", 0.1, "SOLVER.OPTIMIZER", "SGD")
    model = build_model(cfg)
    rates = {id(p): group["lr"] for group in build_optimizer(cfg, model).param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        assert rates[id(parameter)] == pytest.approx(0.001 if name.startswith("backbone.") else 0.01), name


def test_normalizations_of_the_backbone_keep_their_statistics():
    opts = ("MODEL.BACKBONE.NAME", "build_efficientnet_lite_backbone", "MODEL.NECK.NAME", "FPNNeck")
    model = build_model(tiny_cfg(*opts, "MODEL.BACKBONE.NORM_EVAL", True)).train()
    norms = {name: m for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert any(name.startswith("backbone.") for name in norms)
    assert all(m.training != name.startswith("backbone.") for name, m in norms.items())
    assert all(m.weight.requires_grad for m in norms.values()), "weights are trained"
