#!/usr/bin/env python
"""Train or evaluate a model.

    python tools/train_net.py --config-file configs/Synthetic/....yaml [--num-gpus 4] [--resume] [KEY=value ...]
    python tools/train_net.py --config-file ... --eval-only MODEL.WEIGHTS=output/model_final.pth

Several machines: the same command on each, with --num-machines N --machine-rank I --dist-url tcp://<machine 0>:<port>;
or ``torchrun ... tools/train_net.py --config-file ...``; or, under SLURM, ``srun torchrun --nnodes $SLURM_NNODES ...``.
"""

from __future__ import annotations

import argparse
from typing import Any

from centernet_d2.checkpoint.checkpointer import SafeCheckpointer
from centernet_d2.data.validation.checks import check_headers
from centernet_d2.engine import Trainer, argument_parser, launch, setup_cfg, start_run
from centernet_d2.engine.errors import in_main_process, run_tool


def main(args: argparse.Namespace) -> Any:
    cfg = setup_cfg(args.config_file, args.opts)
    start_run(cfg, args)
    if args.eval_only:
        model = Trainer.build_model(cfg)
        in_main_process(lambda: check_headers(cfg, train=False))
        checkpointer = SafeCheckpointer(model, cfg.OUTPUT_DIR)
        checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
        checkpointer.require_complete(cfg.MODEL.WEIGHTS)
        return Trainer.test(cfg, model)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


if __name__ == "__main__":
    arguments = argument_parser(__doc__ or "").parse_args()
    # Whatever is wrong with a configuration is the user's to mend.
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
