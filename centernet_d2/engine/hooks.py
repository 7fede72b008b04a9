"""Hooks that Detectron2 does not have: checkpoints with EMA, evaluation, best weights, the report."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import HookBase, hooks
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm

from centernet_d2.checkpoint.checkpointer import SafeCheckpointer
from centernet_d2.checkpoint.reading import load_file
from centernet_d2.engine.random_state import preserved_random_state
from centernet_d2.report import write_report
from centernet_d2.report.run_record import begin_run, finish_run
from centernet_d2.report.training_images import draw_first_images

_logger = logging.getLogger(__name__)
_BEST = "model_best"


class Report(HookBase):
    """Writes ``run.json`` and the first images when a training starts, and ``report.html`` when it ends, also by an
    error. Register it last, so that the writers are closed by then.

    Args:
        config_file: that the run was started with.
    """

    def __init__(self, cfg: CfgNode, config_file: str) -> None:
        self.cfg, self.config_file = cfg, config_file

    def before_train(self) -> None:
        if comm.is_main_process():
            resumed = self.trainer.start_iter > 0
            begin_run(self.cfg, "train", self.config_file, resumed, self.trainer.training_data)
            if not resumed:
                with preserved_random_state():
                    draw_first_images(self.cfg)

    def after_train(self) -> None:
        if comm.is_main_process():
            if self.trainer.iter >= self.trainer.max_iter:
                finish_run(self.cfg)
            write_report_safely(self.cfg.OUTPUT_DIR)


def write_report_safely(folder: str) -> None:
    """Write ``report.html``. An error is only logged: the results are there without it."""
    try:
        write_report(folder)
    except OSError as error:
        _logger.warning("The report was not written: %s", error)
    except Exception:
        _logger.exception("The report was not written")


class Checkpoints(HookBase):
    """Saves every ``period`` iterations, keeping the last ``keep``, and ``model_final`` in the end.

    It must run in all processes, since each has random states to save.
    """

    def __init__(self, period: int, keep: int) -> None:
        self.period, self.keep = period, keep

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done >= self.trainer.max_iter:
            self.trainer.save("model_final")
        elif self.period > 0 and done % self.period == 0:
            self.trainer.save(f"model_{self.trainer.iter:07d}")
            self.trainer.checkpointer.prune(self.keep)


class StopTraining(BaseException):
    """Training ends early, as it should. Not an ``Exception``, which Detectron2 would log as a failure."""


class Evaluation(hooks.EvalHook):
    """Evaluates every ``period`` iterations and after the last, and keeps the weights with the best ``metric``.

    Args:
        metric: higher is better, such as "bbox/AP"; "" keeps none.
        checkpointer: writes ``model_best.pth``: weights, iteration and value.
        patience: evaluations in a row without a better ``metric`` after which training stops, with ``model_final``; 0:
            it does not. A resumed run counts from 0.

    Raises:
        ValueError: a patience without a metric.
    """

    def __init__(
        self,
        period: int,
        function: Callable[[], Any],
        metric: str,
        checkpointer: SafeCheckpointer,
        patience: int = 0,
    ) -> None:
        if patience and not metric:
            raise ValueError("SOLVER.PATIENCE needs TEST.BEST_METRIC, the metric that has to become better")
        super().__init__(period, self._evaluate)
        self.function, self.results = function, None
        self.metric, self.checkpointer = metric, checkpointer
        self.best = -math.inf
        self.patience, self._stalled = patience, 0

    def _evaluate(self) -> Any:
        self.results = self.function()
        return self.results

    def before_train(self) -> None:
        path = Path(self.checkpointer.save_dir) / f"{_BEST}.pth"
        if self.metric and self.trainer.start_iter > 0 and path.is_file():
            try:
                saved = load_file(path, mmap=True)
            except ValueError as error:
                _logger.warning("%s; the next evaluation replaces it", error)
                return
            # Results after the resumed iteration are dropped: they will be computed again.
            if saved.get("metric") == self.metric and saved["iteration"] < self.trainer.start_iter:
                self.best = saved["value"]

    def after_train(self) -> None:
        # A run that stopped in its last step has not reached max_iter.
        if self.trainer.iter >= self.trainer.max_iter and not (self.patience and self._stalled >= self.patience):
            super().after_train()

    def _do_eval(self) -> None:
        super()._do_eval()
        if not self.metric:
            return
        before = self.best
        if comm.is_main_process():
            self._keep_best()
        if self.patience:
            better = comm.all_gather(self.best > before)[0]
            self._stalled = 0 if better else self._stalled + 1

    def after_step(self) -> None:
        super().after_step()
        if self.patience and self._stalled >= self.patience:
            _logger.info(
                "%s has not become better in %d evaluations: training stops after iteration %d",
                *(self.metric, self._stalled, self.trainer.iter),
            )
            self.trainer.save("model_final")
            # Finished, for the hooks that run after training.
            self.trainer.iter += 1
            self.trainer.max_iter = self.trainer.iter
            raise StopTraining

    def _list_available(self) -> str:
        """Return names of the numeric results of this evaluation."""
        storage = self.trainer.storage
        names = [name for name in flatten_results_dict(self.results or {}) if name in storage.latest()]
        return ", ".join(name for name in names if not math.isnan(storage.latest()[name][0])) or "nothing"

    def _keep_best(self) -> None:
        storage = self.trainer.storage
        value, iteration = storage.latest().get(self.metric, (math.nan, -1))
        if iteration != storage.iter:
            _logger.warning(
                "The evaluation gave no %s: %s.pth is not written (TEST.BEST_METRIC names what to go by, or is empty); "
                "it gave %s",
                *(self.metric, _BEST, self._list_available()),
            )
        elif math.isnan(value):
            _logger.warning(
                "%s is not a number, because there is nothing that it could be computed of: %s.pth is not written "
                "(TEST.BEST_METRIC names what to go by); the evaluation gave %s",
                *(self.metric, _BEST, self._list_available()),
            )
        elif value > self.best:
            _logger.info("%s is %.4g, the best so far: saving %s.pth", self.metric, value, _BEST)
            self.best = value
            done = min(iteration, self.trainer.max_iter - 1)
            self.checkpointer.save(_BEST, tag=False, iteration=done, metric=self.metric, value=float(value))
