"""Draw a dataset: its annotations, or the network's inputs and targets (heatmaps).

    centernet-d2 show-data --config-file Synthetic/shapes_1pt.yaml --num-images 4
    centernet-d2 show-data --config-file FILE --source annotation --output output/data [KEY=value ...]

tools/visualize_data.py is the same command.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from centernet_d2.cli.options import add_config, build_parser, find_config, print_errors


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = build_parser(__doc__, prog)
    parser.add_argument(
        "--source",
        choices=["annotation", "loader"],
        default="loader",
        help="annotation: images with their annotations; loader: what the network sees, and its targets "
        "(default: %(default)s)",
    )
    parser.add_argument("--num-images", type=int, default=16, help="how many to draw (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("output/data"), help="folder (default: %(default)s)")
    add_config(parser, required=True)
    args = parser.parse_args(arguments)
    return print_errors(lambda: _draw(args), (OSError, ValueError, KeyError))


def _draw(args: argparse.Namespace) -> int:
    import cv2

    from centernet_d2.engine.setup import setup_cfg
    from centernet_d2.visualization.dataset import draw_annotations, draw_loader

    cfg = setup_cfg(find_config(args.config_file), args.opts)
    args.output.mkdir(parents=True, exist_ok=True)
    images = draw_loader(cfg) if args.source == "loader" else draw_annotations(cfg)
    for number, image in enumerate(islice(images, args.num_images)):
        cv2.imwrite(str(args.output / f"{args.source}_{number:04d}.jpg"), image)
    print(f"images: {args.output}")
    return 0
