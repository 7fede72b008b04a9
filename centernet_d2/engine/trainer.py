"""The training run."""

from __future__ import annotations

import contextlib
import logging
import os
import weakref
from collections import OrderedDict
from pathlib import Path
from typing import Any, NoReturn

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, hooks
from detectron2.engine.train_loop import HookBase, TrainerBase
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from detectron2.utils.logger import setup_logger
from fvcore.nn.precise_bn import get_bn_modules
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LRScheduler

from centernet_d2.checkpoint.checkpointer import SafeCheckpointer
from centernet_d2.data.build import TrainLoader, build_test_loader, build_train_loader
from centernet_d2.data.catalog import get_class_names
from centernet_d2.data.prefetch import Prefetcher
from centernet_d2.data.stopping import StoppableLoader
from centernet_d2.data.validation.checks import check_quick
from centernet_d2.engine.acceleration import check_compiler
from centernet_d2.engine.allocator import keep_freed_memory
from centernet_d2.engine.ema import ModelEma
from centernet_d2.engine.errors import run_in_main_process
from centernet_d2.engine.hooks import Checkpoints, Evaluation, StopTraining
from centernet_d2.engine.random_state import get_random_state, preserved_random_state, set_random_state
from centernet_d2.engine.solver import build_lr_scheduler, build_optimizer, check_batch_size, resolve_epochs
from centernet_d2.engine.step.train_step import TrainStep
from centernet_d2.engine.wandb_writer import WandbWriter
from centernet_d2.evaluation.build import build_evaluator, check_evaluators
from centernet_d2.modeling.meta_arch import CenterNet
from centernet_d2.report.recorder import ObjectRecorder
from centernet_d2.report.run_folder import INFERENCE, write_results
from centernet_d2.report.run_record import describe_dataset, warn_changed
from centernet_d2.stop_signals import STOP, StopRequested, get_exit_status, kill_children
from centernet_d2.structures.model_metadata import ModelMetadata, check_same_classes

_logger = logging.getLogger(__name__)
_PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class Trainer(DefaultTrainer):
    """Detectron2's ``DefaultTrainer`` with this project's data, exact resume and safe checkpoints, on CPUs too.

    A run that is stopped and resumed gives the same weights as one that was not (same number of processes, same
    config; on a GPU as far as its operations are deterministic). ``SEED: -1`` draws a seed once and keeps it.

    With ``SOLVER.EMA.DECAY`` the averaged weights are evaluated and saved as the "model" of every checkpoint. The
    trained weights are saved beside them for resuming. Both start from the loaded weights.

    Attributes:
        training_data: ``describe_dataset`` of ``DATASETS.TRAIN`` in the main process, when training has begun.

    Args:
        cfg: from ``setup_cfg``. ``SOLVER.REFERENCE_WORLD_SIZE`` rescales the schedule as in Detectron2.
    """

    def __init__(self, cfg: CfgNode) -> None:
        # DefaultTrainer's __init__ needs a GPU for DDP and builds the loader before resuming.
        TrainerBase.__init__(self)
        if not logging.getLogger("detectron2").isEnabledFor(logging.INFO):
            setup_logger()
        check_batch_size(cfg, comm.get_world_size())
        if cfg.SOLVER.COMPILE:
            check_compiler("SOLVER.COMPILE", cfg.MODEL.DEVICE)
        cfg = self.auto_scale_workers(resolve_epochs(cfg), comm.get_world_size())
        self._seed_is_random = cfg.SEED < 0
        self.cfg = _set_seed(cfg, comm.shared_random_seed()) if self._seed_is_random else cfg
        model = self.build_model(cfg)
        if cfg.SOLVER.SYNC_BN:
            model = share_statistics(model)
        if cfg.SOLVER.COMPILE:
            mode = cfg.SOLVER.COMPILE_MODE
            model.compile(mode=mode, with_losses=mode == "reduce-overhead")
        optimizer = self.build_optimizer(cfg, model)
        precision = _PRECISIONS[cfg.SOLVER.AMP.PRECISION] if cfg.SOLVER.AMP.ENABLED else None
        self._trainer = TrainStep(_distribute(model), None, optimizer, precision)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        # A copy. All processes have the same weights by now.
        self._average = ModelEma(model, cfg.SOLVER.EMA.DECAY) if cfg.SOLVER.EMA.DECAY else None
        kept = self._average.averaged if self._average else model
        self.checkpointer = SafeCheckpointer(kept, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.start_iter, self.max_iter = 0, cfg.SOLVER.MAX_ITER
        self._random_states: list[dict[str, Any]] = []
        self.training_data: list[dict[str, Any]] = []
        self.register_hooks(self.build_hooks())

    def build_hooks(self) -> list[HookBase]:
        """Build Detectron2's hooks, with this project's checkpoints and evaluation in the same places."""
        cfg, kept = self.cfg, self.checkpointer.model
        result: list[HookBase] = [hooks.IterationTimer(), hooks.LRScheduler()]
        if self._average:
            result.append(self._average)
        if cfg.TEST.PRECISE_BN.ENABLED and get_bn_modules(kept):
            loader, count = self.build_train_loader(cfg), cfg.TEST.PRECISE_BN.NUM_ITER
            result.append(hooks.PreciseBN(cfg.TEST.EVAL_PERIOD, kept, loader, count))
        result.append(Checkpoints(cfg.SOLVER.CHECKPOINT_PERIOD, cfg.SOLVER.KEEP_CHECKPOINTS))
        if cfg.DATASETS.TEST:
            best = SafeCheckpointer(kept, cfg.OUTPUT_DIR)
            evaluation = Evaluation(
                cfg.TEST.EVAL_PERIOD, self._evaluate, cfg.TEST.BEST_METRIC, best, cfg.SOLVER.PATIENCE
            )
            result.append(evaluation)
        if comm.is_main_process():
            result.append(hooks.PeriodicWriter(self.build_writers(), period=20))
        return result

    def build_writers(self) -> list[EventWriter]:
        """Build Detectron2's writers (screen, JSON, TensorBoard), and Weights & Biases if ``WANDB.PROJECT`` is set."""
        return super().build_writers() + ([WandbWriter(self.cfg)] if self.cfg.WANDB.PROJECT else [])

    def resume_or_load(self, resume: bool = True) -> None:
        """Resume from ``OUTPUT_DIR`` if ``resume`` and there is a checkpoint, else load ``MODEL.WEIGHTS`` if given."""
        metadata = getattr(self.checkpointer.model, "metadata", None)
        self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        # After fine-tuning, class names come from the dataset.
        self.checkpointer.model.metadata = metadata
        if self.checkpointer.resumed_from:
            self.start_iter = self.iter + 1
        if self._average:
            self._average.follow_loaded()

    def train(self) -> OrderedDict[str, Any] | None:
        """Run from ``start_iter`` to ``SOLVER.MAX_ITER``; the results of the last evaluation, in the main process.

        Raises:
            NonFiniteLossError, NonFiniteGradientError: a loss, or a gradient, is not a number.
            AnnotationError: the datasets have errors; see ``check_quick`` and ``check_evaluators``.
            SystemExit: a signal told it to stop (see ``stop_signals``); a checkpoint of the last step was written.
        """
        run_in_main_process(self._check_datasets)
        if self.cfg.MODEL.DEVICE == "cpu":
            keep_freed_memory()
        self._trainer.reset_data_loader(self._build_prefetcher)
        self._finished = self.start_iter - 1
        with STOP.postponed(_list_local_processes(), silent=not comm.is_main_process()):
            try:
                with contextlib.suppress(StopTraining):
                    super().train()
            except StopRequested as request:
                self._stop(request)
        return getattr(self, "_last_eval_results", None)

    def _build_prefetcher(self) -> Prefetcher:
        loader, model = self.build_train_loader(self.cfg, self.start_iter), unwrap(self._trainer.model)
        if isinstance(loader, TrainLoader) and isinstance(model, CenterNet):
            loader.encode_in_workers(model.encode_targets)
        return Prefetcher(loader, next(model.parameters()).device)

    def _check_datasets(self) -> None:
        check_quick(self.cfg)
        check_evaluators(self.cfg, self.build_evaluator)
        data = [describe_dataset(name) for name in self.cfg.DATASETS.TRAIN]
        warn_changed(self.training_data, data)
        self.training_data = data

    def run_step(self) -> None:
        super().run_step()
        self._finished = self.iter

    def _stop(self, request: StopRequested) -> NoReturn:
        """Write a checkpoint of the last finished step, say how to go on, and end; in all processes."""
        kill_children()
        self._trainer._data_loader_iter_obj = None
        if self.start_iter <= self._finished < self.max_iter - 1:
            self.iter = self._finished
            self.save(f"model_{self.iter:07d}")
            self.checkpointer.prune(self.cfg.SOLVER.KEEP_CHECKPOINTS)
        done = f"{self._finished + 1} of {self.max_iter} iterations"
        how = "the same command with --resume" if self.checkpointer.has_checkpoint() else "start it again"
        _logger.warning("Stopped by %s after %s. To go on: %s", request, done, how)
        comm.synchronize()
        raise SystemExit(get_exit_status(request.number)) from None

    def before_train(self) -> None:
        super().before_train()
        # Last, so that nothing uses random numbers before the first step.
        if comm.get_rank() < len(self._random_states):
            set_random_state(self._random_states[comm.get_rank()])

    def save(self, name: str) -> None:
        """Write a checkpoint to resume from; to be called in all processes.

        Raises:
            NonFiniteGradientError: the last step was left out.
        """
        self._trainer.gradients.check()
        self._random_states = comm.all_gather(get_random_state())
        self.checkpointer.save(name, iteration=self.iter)

    def state_dict(self) -> dict[str, Any]:
        own = {"random_states": self._random_states, "seed": self.cfg.SEED, "training_data": self.training_data}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._random_states = state_dict.get("random_states", [])
        self.training_data = state_dict.get("training_data", [])
        if len(self._random_states) != comm.get_world_size():
            _logger.warning(
                "The checkpoint was written by %d processes, now there are %d: the data goes on where it stopped, "
                "but random numbers inside the model differ",
                *(len(self._random_states), comm.get_world_size()),
            )
        if self._seed_is_random and "seed" in state_dict:
            self.cfg = _set_seed(self.cfg, state_dict["seed"])

    def _evaluate(self) -> OrderedDict[str, Any]:
        # With several processes there is a place to stop after each batch only, since they need each other to score.
        with STOP.interruptible(comm.get_world_size() == 1):
            self._last_eval_results = self.test(self.cfg, self.checkpointer.model)
        return self._last_eval_results

    @classmethod
    def test(
        cls, cfg: CfgNode, model: nn.Module, evaluators: list[DatasetEvaluator] | None = None
    ) -> OrderedDict[str, Any]:
        """Evaluate on ``DATASETS.TEST`` with the weights that the main process would save.

        Raises:
            ValueError: a dataset has the model's classes in another order.
        """
        metadata = getattr(model, "metadata", None)
        if isinstance(metadata, ModelMetadata):
            for name in cfg.DATASETS.TEST:
                check_same_classes(metadata, get_class_names(name), "the model", f"dataset {name}")
        with preserved_random_state():
            if comm.get_world_size() > 1:
                for buffer in model.buffers():
                    torch.distributed.broadcast(buffer, 0)
            results = super().test(cfg, model, evaluators or cls._build_recording_evaluators(cfg))
        if comm.is_main_process():
            names = cfg.DATASETS.TEST
            write_results(Path(cfg.OUTPUT_DIR), {names[0]: results} if len(names) == 1 else results)
        return results

    @classmethod
    def _build_recording_evaluators(cls, cfg: CfgNode) -> list[DatasetEvaluator]:
        """Return the evaluators, each with a recorder of what the report needs."""
        folder = Path(cfg.OUTPUT_DIR, INFERENCE)
        return [
            DatasetEvaluators([cls.build_evaluator(cfg, name), ObjectRecorder(cfg, name, folder / name)])
            for name in cfg.DATASETS.TEST
        ]

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRScheduler:
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode, start_iteration: int = 0) -> Any:
        return build_train_loader(cfg, start_iteration)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        return StoppableLoader(build_test_loader(cfg, dataset_name))

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        return build_evaluator(cfg, dataset_name)


def _set_seed(cfg: CfgNode, seed: int) -> CfgNode:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SEED = int(seed)
    cfg.freeze()
    return cfg


def share_statistics(model: nn.Module) -> nn.Module:
    """Return ``model`` with batch normalizations that use the statistics of all processes, on GPUs.

    Raises:
        ValueError: the model is not on a GPU.
    """
    if not next(model.parameters()).is_cuda:
        raise ValueError("SOLVER.SYNC_BN needs GPUs")
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)


def unwrap(model: nn.Module) -> Any:
    """Return the model inside ``DistributedDataParallel``."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def _list_local_processes() -> list[int]:
    """Return the ids of the other processes on this machine."""
    first = comm.get_rank() - comm.get_local_rank()
    pids = comm.all_gather(os.getpid())[first : first + comm.get_local_size()]
    return [pid for pid in pids if pid != os.getpid()]


def _distribute(model: nn.Module) -> nn.Module:
    if comm.get_world_size() == 1:
        return model
    # Without device_ids, which would have every image copied by itself, and what is for the host as well.
    return DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True, static_graph=True)
