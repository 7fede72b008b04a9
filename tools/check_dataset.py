#!/usr/bin/env python
"""List everything wrong with a dataset, and how many objects share a cell of the output grid.

    tools/check_dataset.py --config-file configs/... [KEY VALUE ...]
    tools/check_dataset.py --json annotations.json --image-root images/
    tools/check_dataset.py --voc folder/ --split train

Relative paths start at DETECTRON2_DATASETS, as in DATASETS.CUSTOM, or, where the file is not there, at the current
folder. Every image is decoded unless --no-images is given. The exit status is 1 if there are issues.
"""

from __future__ import annotations

import argparse
import sys


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config-file", help="check DATASETS.TRAIN and DATASETS.TEST of this configuration")
    source.add_argument("--json", help="a COCO-format file, with --image-root")
    source.add_argument("--voc", metavar="ROOT", help="a folder in Pascal VOC's layout, with --split")
    parser.add_argument("--image-root", default="", help="folder of the images of --json")
    parser.add_argument("--split", default="train", help="list in ImageSets/Main of --voc")
    parser.add_argument("--no-images", action="store_true", help="do not decode the images")
    parser.add_argument(
        "--input-size",
        type=int,
        nargs=2,
        default=(512, 512),
        metavar=("HEIGHT", "WIDTH"),
        help="of the network, to count shared cells in (default: 512 512)",
    )
    parser.add_argument("--as-json", action="store_true", help="print one line of JSON for each dataset")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs over the configuration")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    parse()  # --help and option errors come before the slow imports below

from centernet_d2.data.datasets.custom import resolve_paths
from centernet_d2.data.validation.report import Grid, report_coco, report_config, report_voc
from centernet_d2.engine.setup import merge_cfg


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    images = not args.no_images
    grid = Grid(tuple(args.input_size))
    try:
        if args.config_file:
            reports = report_config(merge_cfg(args.config_file, args.opts), images)
        elif args.json:
            # As in DATASETS.CUSTOM; without --image-root, names start at the current folder.
            json_file, *folder = resolve_paths(*filter(None, (args.json, args.image_root)))
            reports = [report_coco(json_file, folder[0] if folder else "", images, grid)]
        else:
            reports = [report_voc(resolve_paths(args.voc)[0], args.split, images, grid)]
    except (OSError, ValueError, KeyError) as error:
        print(error.args[0] if isinstance(error, KeyError) else error, file=sys.stderr)
        return 1
    for report in reports:
        print(report.to_json() if args.as_json else report.format_table())
    return int(any(report.issues for report in reports))


if __name__ == "__main__":
    sys.exit(main())
