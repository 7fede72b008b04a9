"""List everything wrong with a dataset, and how many objects share a cell of the output grid.

    centernet-d2 check-data --json annotations.json --image-root images/
    centernet-d2 check-data --voc folder/ --split train
    centernet-d2 check-data --labels folder/ --split all
    centernet-d2 check-data --config-file FILE [KEY=value ...]

Relative paths start at DETECTRON2_DATASETS, as in DATASETS.CUSTOM, or, where the file is not there, at the current
folder. Every image is decoded unless --no-images is given. The exit status is 1 if there are issues.
tools/check_dataset.py is the same command.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from centernet_d2.cli.options import build_parser, find_config, print_errors

if TYPE_CHECKING:
    from centernet_d2.data.validation.report import Report


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = build_parser(__doc__, prog)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config-file", help="check DATASETS.TRAIN and DATASETS.TEST of this configuration")
    source.add_argument("--json", help="a COCO-format file, with --image-root")
    source.add_argument("--voc", metavar="ROOT", help="a folder in Pascal VOC's layout, with --split")
    source.add_argument("--labels", metavar="PATH", help="a file or folder in any label format, with --split")
    parser.add_argument("--image-root", default="", help="folder of the images of --json")
    parser.add_argument("--split", default="train", help="of --labels, or list in ImageSets/Main of --voc")
    parser.add_argument("--no-images", action="store_true", help="do not decode the images")
    parser.add_argument(
        "--input-size",
        type=int,
        nargs=2,
        default=(512, 512),
        metavar=("HEIGHT", "WIDTH"),
        help="of the network, to count shared cells in (default: 512 512)",
    )
    parser.add_argument("--draw", metavar="FILE", help="write one sheet of 16 images with their labels")
    parser.add_argument("--as-json", action="store_true", help="print one line of JSON for each dataset")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY=value", help="config keys to change")
    args = parser.parse_args(arguments)
    return print_errors(lambda: _check(args), (OSError, ValueError, KeyError))


def _check(args: argparse.Namespace) -> int:
    from centernet_d2.data.datasets.custom import resolve_paths
    from centernet_d2.data.validation.report import Grid, report_coco, report_config, report_labels, report_voc
    from centernet_d2.engine.setup import merge_cfg

    images, grid = not args.no_images, Grid(tuple(args.input_size))
    if args.config_file:
        reports = report_config(merge_cfg(find_config(args.config_file), args.opts), images)
    elif args.json:
        # As in DATASETS.CUSTOM; without --image-root, names start at the current folder.
        json_file, *folder = resolve_paths(*filter(None, (args.json, args.image_root)))
        reports = [report_coco(json_file, folder[0] if folder else "", images, grid)]
    elif args.labels:
        reports = [report_labels(resolve_paths(args.labels)[0], args.split, images, grid)]
    else:
        reports = [report_voc(resolve_paths(args.voc)[0], args.split, images, grid)]
    for report in reports:
        print(report.to_json() if args.as_json else report.format_table())
        if args.draw and report.dataset_dicts:
            _draw(report, args.draw)
            args.draw = ""  # of several datasets, the first is drawn
    return int(any(report.issues for report in reports))


def _draw(report: Report, path: str) -> None:
    import cv2

    from centernet_d2.visualization.label_sheet import draw_label_sheet

    sheet = draw_label_sheet(report.dataset_dicts, list(report.class_counts), report.schema)
    if not cv2.imwrite(path, sheet):
        raise OSError(f"{path} cannot be written")
    print(f"drawn: {path}")
