"""The range test of the learning rate (Smith 2017, "Cyclical Learning Rates for Training Neural Networks",
arXiv:1506.01186, section 3.3): a few steps with a rate that grows, until the loss does."""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.engine import HookBase, hooks
from detectron2.utils.events import EventWriter
from matplotlib.figure import Figure
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from centernet_d2.engine.errors import run_tool
from centernet_d2.engine.hooks import StopTraining
from centernet_d2.engine.output_lock import lock_output
from centernet_d2.engine.setup import setup_cfg, start_run
from centernet_d2.engine.step.anomaly import NonFiniteGradientError, NonFiniteLossError
from centernet_d2.engine.trainer import Trainer

_logger = logging.getLogger(__name__)
LOWEST, HIGHEST = 1e-5, 1.0
#: Of the exponential average of the losses.
_MOMENTUM = 0.9
#: Times the lowest loss so far, at which the test ends; not before this share of the steps.
_DIVERGED, _FIRST_SHARE = 2.0, 0.2
_NEAR_LOWEST = 1.05


@dataclass
class RangeTest:
    """Rates, in the order tried, and the averaged losses with them; ``suggestion`` is for SOLVER.BASE_LR."""

    rates: list[float]
    losses: list[float]
    suggestion: float


def compute_rate(step: int, steps: int) -> float:
    """Return the rate of step 0 .. ``steps`` - 1, from LOWEST to HIGHEST by equal factors."""
    return LOWEST * (HIGHEST / LOWEST) ** (step / max(1, steps - 1))


def smooth_losses(losses: list[float]) -> list[float]:
    """Return the exponential averages, without their bias to the start (Kingma and Ba 2015, section 3)."""
    averages, average = [], 0.0
    for count, loss in enumerate(losses, start=1):
        average = _MOMENTUM * average + (1 - _MOMENTUM) * loss
        averages.append(average / (1 - _MOMENTUM**count))
    return averages


def suggest_rate(rates: list[float], losses: list[float]) -> float:
    """Return a third of the first rate whose averaged loss is within 5 % of the lowest, to one digit.

    By this rule two datasets got what had been found by trying (docs/training.md).

    Raises:
        ValueError: the loss never fell.
    """
    first = next(i for i, loss in enumerate(losses) if loss <= _NEAR_LOWEST * min(losses))
    if first == 0:
        raise ValueError("The loss never fell: there is no rate to suggest. Are the weights and the data right?")
    return float(f"{rates[first] / 3:.0e}")


class _RangeTrainer(Trainer):
    """Trains for ``SOLVER.MAX_ITER`` steps with rates from LOWEST to HIGHEST, and keeps nothing but the losses."""

    def build_hooks(self) -> list[HookBase]:
        self.watch = _Watch()
        return [hooks.LRScheduler(), self.watch]

    def build_writers(self) -> list[EventWriter]:
        return []

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
        return LambdaLR(optimizer, lambda i: compute_rate(i, cfg.SOLVER.MAX_ITER) / cfg.SOLVER.BASE_LR)


class _Watch(HookBase):
    """Notes each step's rate and loss, and ends the training when the averaged loss has grown."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.losses: list[float] = []

    def after_step(self) -> None:
        steps = self.trainer.max_iter
        self.rates.append(compute_rate(self.trainer.iter, steps))
        self.losses.append(self.trainer.storage.latest()["total_loss"][0])
        averages = smooth_losses(self.losses)
        if len(averages) >= _FIRST_SHARE * steps and averages[-1] > _DIVERGED * min(averages):
            raise StopTraining


def find_learning_rate(cfg: CfgNode, steps: int = 100) -> RangeTest:
    """Train ``cfg`` for at most ``steps`` steps with rates from 1e-5 to 1, and suggest one.

    Writes ``learning_rates.json`` and ``learning_rates.png`` to OUTPUT_DIR, and no checkpoint.

    Raises:
        ValueError: the loss never fell.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SOLVER.merge_from_list(["MAX_ITER", steps, "EPOCHS", 0.0, "STEPS", (), "EMA.DECAY", 0.0, "WARMUP_ITERS", 0])
    cfg.freeze()
    trainer = _RangeTrainer(cfg)
    trainer.resume_or_load(resume=False)
    try:
        trainer.train()
    except (NonFiniteLossError, NonFiniteGradientError) as error:
        _logger.info("The test ends: %s", str(error).splitlines()[0])
    losses = smooth_losses(trainer.watch.losses)
    result = RangeTest(trainer.watch.rates, losses, suggest_rate(trainer.watch.rates, losses))
    folder = Path(cfg.OUTPUT_DIR)
    (folder / "learning_rates.json").write_text(json.dumps(asdict(result)))
    draw_rates(result).savefig(folder / "learning_rates.png", dpi=120)
    _logger.info("Try SOLVER.BASE_LR %g. The curve: %s", result.suggestion, folder / "learning_rates.png")
    return result


def draw_rates(result: RangeTest) -> Figure:
    """Draw the averaged loss over the rate, and the suggestion."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.semilogx(result.rates, result.losses)
    axes.axvline(result.suggestion, linestyle=":", color="gray", label=f"suggested: {result.suggestion:g}")
    axes.set(xlabel="learning rate", ylabel="averaged loss", ylim=(0, 1.1 * result.losses[0]))
    axes.legend()
    return figure


def launch_range_test(args: argparse.Namespace) -> None:
    """:func:`find_learning_rate` as the command line describes it. Errors in users' files end the program with a
    message."""

    cfg = run_tool(lambda: setup_cfg(args.config_file, args.opts), (ValueError, KeyError, OSError))

    def find() -> None:
        with lock_output(cfg.OUTPUT_DIR):
            start_run(cfg, args)
            find_learning_rate(cfg)

    run_tool(find)
