#!/usr/bin/env python
"""Rename the weights of a published CenterNet file to this project's names, or back, with a report.

    tools/convert_checkpoint.py ctdet_coco_dla_2x.pth converted.pth [--config-file configs/... KEY=value ...]
    tools/convert_checkpoint.py model_final.pth for_centernet.pth --to published

MODEL.WEIGHTS takes published files as they are; this shows what is in one. With a config, the result is compared with
its model, and the exit status is 1 where they differ.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", type=Path, help="checkpoint to read")
    parser.add_argument("output", type=Path, help="checkpoint to write")
    parser.add_argument(
        "--to", choices=("ours", "published"), default="ours", help="whose names to write (default: %(default)s)"
    )
    parser.add_argument(
        "--config-file", nargs="+", metavar=("FILE", "KEY=value"), help="compare the weights with this config's model"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    parse()  # --help and option errors come before the slow imports below

from centernet_d2.checkpoint.conversion import convert_file, describe_fit
from centernet_d2.engine import setup_cfg


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    try:
        weights, report = convert_file(args.input, args.output, args.to)
        print("\n".join(report))
        if not args.config_file:
            return 0
        config, *options = args.config_file
        differences = describe_fit(weights, setup_cfg(config, options))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(differences or [f"every tensor fits {config}"]))
    return int(bool(differences))


if __name__ == "__main__":
    sys.exit(main())
