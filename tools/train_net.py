#!/usr/bin/env python
"""Train or evaluate a model.

    python tools/train_net.py --config-file configs/Synthetic/....yaml [--num-gpus 4] [--resume] [KEY=value ...]
    python tools/train_net.py --config-file ... --eval-only MODEL.WEIGHTS=output/model_final.pth

Several machines: the same command on each, with --num-machines N --machine-rank I --dist-url tcp://<machine 0>:<port>;
or ``torchrun ... tools/train_net.py --config-file ...``; or, under SLURM, ``srun torchrun --nnodes $SLURM_NNODES ...``.
"""

from __future__ import annotations

import argparse
import runpy
from pathlib import Path
from typing import Any

# Loaded by path, because importing the package takes seconds.
_OPTIONS = Path(__file__).resolve().parents[1] / "centernet_d2" / "engine" / "options.py"


def parse() -> argparse.Namespace:
    return runpy.run_path(str(_OPTIONS))["argument_parser"](__doc__ or "").parse_args()


if __name__ == "__main__":
    parse()  # --help and option errors come before the slow imports below

from centernet_d2.checkpoint.checkpointer import SafeCheckpointer
from centernet_d2.data.validation.checks import check_headers
from centernet_d2.engine import Trainer, launch, setup_cfg, start_run
from centernet_d2.engine.errors import run_in_main_process, run_tool


def main(args: argparse.Namespace) -> Any:
    cfg = setup_cfg(args.config_file, args.opts)
    start_run(cfg, args)
    if args.eval_only:
        model = Trainer.build_model(cfg)
        run_in_main_process(lambda: check_headers(cfg, train=False))
        checkpointer = SafeCheckpointer(model, cfg.OUTPUT_DIR)
        checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
        checkpointer.require_complete(cfg.MODEL.WEIGHTS)
        return Trainer.test(cfg, model)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


if __name__ == "__main__":
    arguments = parse()
    # Config errors are printed without a traceback.
    settings = (ValueError, KeyError, OSError)
    cfg = run_tool(lambda: setup_cfg(arguments.config_file, arguments.opts), settings)
    run_tool(
        lambda: launch(
            main,
            (arguments,),
            device=cfg.MODEL.DEVICE,
            processes=arguments.num_gpus,
            machines=arguments.num_machines,
            machine_rank=arguments.machine_rank,
            url=arguments.dist_url,
        )
    )
