"""Write report.html again from the files in a run's folder: curves, errors by class and keypoint, images.

    centernet-d2 report output/mine

Training and evaluation write it at their end. A folder without an evaluation, or of an older version, gets its errors
and images from `centernet-d2 evaluate --model output/mine --output output/mine`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from centernet_d2.cli.options import build_parser, print_errors


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = build_parser(__doc__, prog)
    parser.add_argument("folder", type=Path, help="OUTPUT_DIR of a training or an evaluation")
    args = parser.parse_args(arguments)
    return print_errors(lambda: _write(args), (OSError, ValueError))


def _write(args: argparse.Namespace) -> int:
    from centernet_d2.report import write_report

    print(write_report(args.folder))
    return 0
