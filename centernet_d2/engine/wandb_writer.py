"""Curves on Weights & Biases, where its package is installed."""

from __future__ import annotations

import importlib
from collections import defaultdict
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode
from detectron2.utils.events import EventWriter, get_event_storage


class WandbWriter(EventWriter):
    """Logs all scalars, by iteration, and the config, to a run of ``WANDB.PROJECT`` named as ``OUTPUT_DIR``.

    A resumed training is another run of the same group; plotted over "iteration" the curves join.

    Args:
        window_size: iterations over whose values the median is taken, of those that Detectron2 smooths.

    Raises:
        ModuleNotFoundError: wandb is not installed.
    """

    def __init__(self, cfg: CfgNode, window_size: int = 20) -> None:
        try:
            self._wandb = importlib.import_module("wandb")
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"WANDB.PROJECT is {cfg.WANDB.PROJECT!r}, but the package wandb is not installed: pip install wandb, "
                "or leave the key empty"
            ) from error
        self._cfg, self._window_size = cfg, window_size
        self._last_write = -1

    @cached_property
    def _run(self) -> Any:
        folder, config = self._cfg.OUTPUT_DIR, yaml.safe_load(self._cfg.dump())
        name = Path(folder).resolve().name
        run = self._wandb.init(project=self._cfg.WANDB.PROJECT, name=name, group=name, dir=folder, config=config)
        run.define_metric("*", step_metric="iteration")
        return run

    def write(self) -> None:
        rows: dict[int, dict[str, float]] = defaultdict(dict)
        for name, (value, iteration) in get_event_storage().latest_with_smoothing_hint(self._window_size).items():
            if iteration > self._last_write:
                rows[iteration][name] = value
        for iteration in sorted(rows):
            self._run.log({**rows[iteration], "iteration": iteration})
            self._last_write = iteration

    def close(self) -> None:
        if "_run" in self.__dict__:
            self._run.finish()
