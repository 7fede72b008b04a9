"""Rename the weights of a published CenterNet file to this project's names, or back, with a report.

    centernet-d2 convert ctdet_coco_dla_2x.pth converted.pth [--config-file FILE KEY=value ...]
    centernet-d2 convert model_final.pth for_centernet.pth --to published
    centernet-d2 convert output/mine/model_best.pth small.pth --half

MODEL.WEIGHTS takes reference files as they are; this shows what is in one. With a config, the result is compared with
its model, and the exit status is 1 where they differ. tools/convert_checkpoint.py is the same command.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from centernet_d2.cli.options import build_parser, find_config, print_errors

NAMES = ("ours", "published")


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = build_parser(__doc__, prog)
    parser.add_argument("input", type=Path, help="checkpoint to read")
    parser.add_argument("output", type=Path, help="checkpoint to write")
    parser.add_argument("--to", choices=NAMES, default="ours", help="whose names to write (default: %(default)s)")
    parser.add_argument("--half", action="store_true", help="write numbers as float16: half the size, nearly the same")
    parser.add_argument(
        "--config-file", nargs="+", metavar=("FILE", "KEY=value"), help="compare the weights with this config's model"
    )
    args = parser.parse_args(arguments)
    return print_errors(lambda: _convert(args), (OSError, ValueError))


def _convert(args: argparse.Namespace) -> int:
    from centernet_d2.checkpoint.conversion import convert_file, describe_fit
    from centernet_d2.engine import setup_cfg

    weights, report = convert_file(args.input, args.output, args.to, args.half)
    print("\n".join(report))
    if not args.config_file:
        return 0
    config, *options = args.config_file
    differences = describe_fit(weights, setup_cfg(find_config(config), options))
    print("\n".join(differences or [f"every tensor fits {config}"]))
    return int(bool(differences))
