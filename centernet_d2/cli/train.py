"""Train or evaluate a model.

    centernet-d2 train --config-file Synthetic/shapes_1pt.yaml [--num-gpus 4] [--resume] [KEY=value ...]
    centernet-d2 train --config-file ... --eval-only MODEL.WEIGHTS=output/model_final.pth

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
    args = build_training_parser(__doc__, prog).parse_args(arguments)
    args.config_file = find_config(args.config_file)

    from centernet_d2.engine.run import launch_run

    launch_run(args)
    return 0
