"""Measure networks of configs: parameters, operations, size on disk, and time per image.

    centernet-d2 analyze COCO-Detection/centernet_R_18_DCN_1pt.yaml ... [--size 512 512] [--threads 1]
                         [--seconds 3 | --no-latency] [--opts KEY=value ...]

Prints a Markdown table. Operations are those of convolutions and matrix products, a multiplication with its addition
being one, from the normalized image to the maps. Size is that of a file with weights and statistics, without an
optimizer's. The time is from an image in memory to its objects (batch 1; normalization, network, decoding, merging),
with random weights: the median, and the 10th and 90th percentiles. tools/analyze_model.py is the same command.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from centernet_d2.cli.options import build_parser, find_config


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = build_parser(__doc__, prog)
    parser.add_argument("configs", nargs="+", metavar="CONFIG", help="files, or names of the package's configurations")
    parser.add_argument(
        "--size", type=int, nargs=2, metavar=("H", "W"), help="of the input; INPUT.SIZE_TEST if not given"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads while the time is taken")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each network's time is taken, at least")
    parser.add_argument("--no-latency", action="store_true", help="take no times")
    parser.add_argument("--opts", nargs="*", default=[], metavar="KEY=value", help="config keys to change")
    args = parser.parse_args(arguments)
    files = [find_config(config) for config in args.configs]

    columns = ["model", "input", "parameters, millions", "operations, 10^9", "size, MB"]
    if not args.no_latency:
        columns += [f"ms ({args.threads} thread{'s' * (args.threads > 1)})"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    for done, config in enumerate(files, start=1):
        print(f"{done}/{len(files)}: {config}", file=sys.stderr, flush=True)
        print(_measure(Path(config), args), flush=True)
    return 0


def _measure(config: Path, args: argparse.Namespace) -> str:
    """The table's line of one config."""
    from detectron2.modeling import build_model

    from centernet_d2.analysis.model_cost import describe_times, measure_latency, measure_model_cost
    from centernet_d2.engine import setup_cfg

    size = [f"INPUT.SIZE_TEST={args.size}"] if args.size else []
    cfg = setup_cfg(str(config), [*args.opts, *size])
    model = build_model(cfg)
    height, width = cfg.INPUT.SIZE_TEST
    cost = measure_model_cost(model, (height, width))
    cells = [config.stem, f"{height}x{width}", f"{cost.parameters / 1e6:.2f}", f"{cost.flops / 1e9:.2f}"]
    cells += [f"{cost.size / 1e6:.1f}"]
    if not args.no_latency:
        cells += [describe_times(measure_latency(model, (height, width), args.threads, args.seconds))]
    return f"| {' | '.join(cells)} |"
