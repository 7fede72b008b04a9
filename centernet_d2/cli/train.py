"""Train or evaluate a model.

    centernet-d2 train --config-file Synthetic/shapes_1pt.yaml [--num-gpus 4] [--resume] [KEY=value ...]
    centernet-d2 train --config-file ... --eval-only MODEL.WEIGHTS=output/model_final.pth
    centernet-d2 train --config-file ... --find-lr

Several machines: the same command on each, with --num-machines N --machine-rank I --dist-url tcp://<machine 0>:<port>;
or ``torchrun -m centernet_d2 train ...``; or, under SLURM, ``srun torchrun --nnodes $SLURM_NNODES ...``.
tools/train_net.py is the same command.
"""

from __future__ import annotations

from collections.abc import Sequence

from centernet_d2.cli.options import build_training_parser, find_config
from centernet_d2.stop_signals import STOP


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    STOP.install()
    parser = build_training_parser(__doc__, prog)
    parser.add_argument(
        "--find-lr", action="store_true", help="train 100 steps with growing rates instead, and suggest SOLVER.BASE_LR"
    )
    args = parser.parse_args(arguments)
    args.config_file = find_config(args.config_file)
    if args.find_lr:
        from centernet_d2.analysis.learning_rate import launch_range_test

        launch_range_test(args)
    else:
        from centernet_d2.engine.run import launch_run

        launch_run(args)
    return 0
