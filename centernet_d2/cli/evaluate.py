"""Score a model on DATASETS.TEST of its config.

    centernet-d2 evaluate --model output/mine
    centernet-d2 evaluate --config-file COCO-Detection/centernet_R_18_DCN_1pt.yaml --weights model.pth
    centernet-d2 evaluate --model output/mine "DATASETS.TEST=('voc_2007_test',)"

It is ``centernet-d2 train --eval-only``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from centernet_d2.cli.options import add_config, add_processes, build_parser, find_config, print_errors


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = build_parser(__doc__, prog)
    parser.add_argument("--model", help="a training's folder, or a name of `centernet-d2 models`")
    parser.add_argument("--weights", metavar="FILE", help="checkpoint, instead of the config's MODEL.WEIGHTS")
    parser.add_argument("--output", help="folder of the results (default: OUTPUT_DIR of the config)")
    add_processes(parser)
    add_config(parser)
    args = parser.parse_args(arguments)
    if bool(args.model) == bool(args.config_file):
        parser.error("one of --model and --config-file must be given")
    return print_errors(lambda: _evaluate(args), (OSError, ValueError, KeyError))


def _evaluate(args: argparse.Namespace) -> int:
    from centernet_d2.api.locate import locate_model

    args.config_file, weights = locate_model(args.model, find_config(args.config_file), args.weights)

    from centernet_d2.engine.run import launch_run

    keys = [f"MODEL.WEIGHTS={weights}"] if weights else []
    args.opts = [*keys, *([f"OUTPUT_DIR={args.output}"] if args.output else []), *args.opts]
    args.eval_only, args.resume = True, False
    launch_run(args)
    return 0
