"""Short training runs that write down everything; importable by name, so that started processes can call them."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.engine import HookBase
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from torch import nn

from centernet_d2.data.synthetic.generation import register_synthetic
from centernet_d2.data.synthetic.shapes import ShapesConfig
from centernet_d2.engine import Trainer
from tests.helpers.tiny import tiny_cfg

#: As the value of ``poison``.
GRADIENT = 0.0
SETS = {"engine_test_train": (24, 0), "engine_test_val": (4, 1)}
for _name, (_count, _seed) in SETS.items():
    if _name not in DatasetCatalog:
        _shapes = ShapesConfig(height=64, width=80, max_objects=3, min_size=12, max_size=40, clutter=2)
        register_synthetic(_name, _shapes, num_images=_count, seed=_seed)


@BACKBONE_REGISTRY.register()
class DropoutBackbone(Backbone):
    """Draws random numbers and has running statistics, so that both must be put back."""

    def __init__(self, cfg: CfgNode, input_shape: ShapeSpec):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout2d(0.3))

    def forward(self, x):
        return {"tiny": self.layers(x)}

    def output_shape(self):
        return {"tiny": ShapeSpec(channels=8, stride=4)}


class StopError(Exception):
    """Simulates an interruption of a run."""


@dataclass
class Record:
    """What a run did, by iteration."""

    losses: list[dict[str, float]] = field(default_factory=list)
    image_ids: list[list[int]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    gradients: list[dict[str, torch.Tensor]] = field(default_factory=list)
    weights: list[dict[str, torch.Tensor]] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)
    results: Any = None
    error: Exception | None = None


class Recorder(HookBase):
    def __init__(self, record: Record, stop_after: int | None) -> None:
        self.record, self.stop_after = record, stop_after

    def before_train(self):
        # Unlike another process would, this one still has the states of the run before.
        random.seed(77), np.random.seed(77), torch.manual_seed(77)  # noqa: NPY002

    def after_step(self):
        storage, model = self.trainer.storage, getattr(self.trainer.model, "module", self.trainer.model)
        latest = storage.latest()
        self.record.losses.append({k: latest[k][0] for k in latest if "loss" in k})
        self.record.rates.append(self.trainer.optimizer.param_groups[0]["lr"])
        self.record.gradients.append({n: p.grad.clone() for n, p in model.named_parameters()})
        self.record.weights.append({n: p.detach().clone() for n, p in model.named_parameters()})
        if self.trainer.iter + 1 == self.stop_after:
            raise StopError


class RecordedTrainer(Trainer):
    """``poison``: (iteration or several, process, loss term, value) of a loss that goes wrong; with the value
    ``GRADIENT`` the loss stays as it is and only its gradient is infinite."""

    poison: tuple[int | range, int, str, float] | None = None

    def watch(self, record: Record, stop_after: int | None) -> None:
        self.register_hooks([Recorder(record, stop_after)])
        self.record = record
        self.model.register_forward_hook(self._note_and_poison)

    def _note_and_poison(self, model: nn.Module, inputs: Any, outputs: Any) -> Any:
        if not model.training:
            return outputs
        self.record.image_ids.append([x["image_id"] for x in inputs[0]])
        steps, rank, name, value = self.poison or ((), 0, "", 0.0)
        if self.iter in ((steps,) if isinstance(steps, int) else steps) and rank == comm.get_rank():
            loss = outputs[name]
            # The square root of 0 has an infinite slope.
            wrong = loss + (loss - loss.detach()).sqrt() if value == GRADIENT else loss * value
            outputs = {**outputs, name: wrong}
        return outputs


def engine_cfg(output_dir: Path, *opts: Any) -> CfgNode:
    cfg = tiny_cfg(
        "OUTPUT_DIR", str(output_dir), "SEED", 5, "MODEL.CENTERNET.NUM_CLASSES", 6, "DATASETS.TRAIN",
        ("engine_test_train",), "DATASETS.TEST", (), "DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", 4,
        "SOLVER.MAX_ITER", 20, "SOLVER.STEPS", (8, 15), "SOLVER.WARMUP_ITERS", 4, "SOLVER.CHECKPOINT_PERIOD", 0,
        "SOLVER.BASE_LR", 0.01, "INPUT.AFFINE.BORDER", 32, *opts,
    )  # fmt: skip
    cfg.freeze()
    return cfg


def run(
    cfg: CfgNode,
    resume: bool = False,
    stop_after: int | None = None,
    poison: tuple[int | range, int, str, float] | None = None,
) -> Record:
    """Train as ``tools/train_net.py`` does. Requested errors end up in the record."""
    Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + comm.get_rank())
    record = Record()
    trainer = RecordedTrainer(cfg)
    trainer.poison = poison
    trainer.resume_or_load(resume=resume)
    trainer.watch(record, stop_after)
    try:
        record.results = trainer.train()
    except (StopError, FloatingPointError) as error:
        record.error = error
    record.state = copy.deepcopy({"model": trainer.checkpointer.model.state_dict(), **trainer.state_dict()})
    return record
