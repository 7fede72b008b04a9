"""Values sent to Weights & Biases (a stand-in for its package), and the error without the package."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest

from centernet_d2.engine import Trainer
from tests.helpers.runs import engine_cfg, run


class Run:
    """Keeps the logged values."""

    def __init__(self, **how) -> None:
        self.how, self.metrics, self.rows, self.finished = how, [], [], False

    def define_metric(self, name, step_metric):
        self.metrics.append((name, step_metric))

    def log(self, row):
        assert not self.finished
        self.rows.append(row)

    def finish(self):
        self.finished = True


@pytest.fixture
def runs(monkeypatch) -> list[Run]:
    begun: list[Run] = []

    def init(**how):
        begun.append(Run(**how))
        return begun[-1]

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    return begun


def test_it_gets_what_the_json_file_gets(runs, tmp_path):
    cfg = engine_cfg(tmp_path / "first", "WANDB.PROJECT", "points", "SOLVER.MAX_ITER", 45, "SOLVER.BASE_LR", 0.001)
    run(cfg)
    (it,) = runs
    assert it.how["project"] == "points" and it.how["name"] == "first" and it.how["dir"] == str(tmp_path / "first")
    assert it.how["config"]["SOLVER"]["BASE_LR"] == 0.001
    assert it.metrics == [("*", "iteration")] and it.finished
    lines = [json.loads(line) for line in (tmp_path / "first" / "metrics.json").read_text().splitlines()]
    assert it.rows == lines and [row["iteration"] for row in lines] == [19, 39, 44]


def test_nothing_begins_before_the_training(runs, tmp_path):
    Trainer(engine_cfg(tmp_path, "WANDB.PROJECT", "points"))
    assert runs == []


def test_without_the_key(runs, tmp_path):
    run(engine_cfg(tmp_path, "SOLVER.MAX_ITER", 1, "SOLVER.STEPS", ()))
    assert runs == []


def test_without_the_package(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ModuleNotFoundError, match=r"WANDB.PROJECT is 'points', but the package wandb is not installed"):
        Trainer(engine_cfg(tmp_path, "WANDB.PROJECT", "points"))
