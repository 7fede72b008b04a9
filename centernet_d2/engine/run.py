"""One run of training or evaluation, as the command line describes it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils import comm

from centernet_d2.checkpoint.checkpointer import SafeCheckpointer
from centernet_d2.data.validation.checks import check_headers
from centernet_d2.engine.acceleration import check_compiler
from centernet_d2.engine.errors import explain_storage, run_in_main_process, run_tool
from centernet_d2.engine.hooks import Report, write_report_safely
from centernet_d2.engine.launch import launch
from centernet_d2.engine.output_lock import lock_output
from centernet_d2.engine.setup import setup_cfg, start_run
from centernet_d2.engine.solver import check_batch_size
from centernet_d2.engine.trainer import Trainer
from centernet_d2.report.run_record import begin_run, finish_run


def make_run_options(config_file: str, opts: Sequence[str], eval_only: bool = False, resume: bool = False) -> Any:
    """The options of a run in this process, for :func:`run`."""
    return argparse.Namespace(config_file=config_file, opts=list(opts), eval_only=eval_only, resume=resume)


def run(args: argparse.Namespace) -> Any:
    """Train, or evaluate with ``args.eval_only``; returns the results of the (last) evaluation.

    Args:
        args: "config_file", "opts", "eval_only" and "resume", see ``centernet-d2 train --help``.

    Raises:
        ValueError, KeyError, OSError: the config or the datasets cannot be used.
        FolderInUseError: another training writes to OUTPUT_DIR.
        StorageError: a disk is full, or fails.
        NonFiniteLossError, NonFiniteGradientError: a loss, or a gradient, is not a number.
    """
    cfg = setup_cfg(args.config_file, args.opts)
    with explain_storage(cfg.OUTPUT_DIR), ExitStack() as held:
        if not args.eval_only:
            run_in_main_process(lambda: held.enter_context(lock_output(cfg.OUTPUT_DIR)))
        start_run(cfg, args)
        return _evaluate(cfg, args) if args.eval_only else _train(cfg, args)


def _train(cfg: CfgNode, args: argparse.Namespace) -> Any:
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.register_hooks([Report(trainer.cfg, args.config_file)])
    return trainer.train()


def _evaluate(cfg: CfgNode, args: argparse.Namespace) -> Any:
    model = Trainer.build_model(cfg)
    run_in_main_process(lambda: check_headers(cfg, train=False))
    checkpointer = SafeCheckpointer(model, cfg.OUTPUT_DIR)
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
    checkpointer.require_complete(cfg.MODEL.WEIGHTS)
    if comm.is_main_process():
        begin_run(cfg, "evaluate", args.config_file)
    results = Trainer.test(cfg, model)
    if comm.is_main_process():
        finish_run(cfg)
        write_report_safely(cfg.OUTPUT_DIR)
    return results


def _check_options(args: argparse.Namespace) -> CfgNode:
    cfg = setup_cfg(args.config_file, args.opts)
    if not args.eval_only:
        check_batch_size(cfg, args.num_machines * max(1, args.num_gpus))
        # On a GPU by the processes that use it.
        if cfg.SOLVER.COMPILE and cfg.MODEL.DEVICE == "cpu":
            check_compiler("SOLVER.COMPILE", cfg.MODEL.DEVICE)
    return cfg


def launch_run(args: argparse.Namespace) -> None:
    """:func:`run` in as many processes as ``args`` says. Errors in users' files end the program with a message."""
    cfg = run_tool(lambda: _check_options(args), (ValueError, KeyError, OSError))
    run_tool(
        lambda: launch(
            run,
            (args,),
            device=cfg.MODEL.DEVICE,
            processes=args.num_gpus,
            machines=args.num_machines,
            machine_rank=args.machine_rank,
            url=args.dist_url,
        )
    )
