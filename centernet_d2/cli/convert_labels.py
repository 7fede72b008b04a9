"""Convert labels from one format to another, with their images; also edits classes and makes splits.

    centernet-d2 convert-labels my_labels/ my_coco/ --to coco_folder --val 0.2
    centernet-d2 convert-labels export.json my_yolo/ --to yolo --rename dog=animal --rename cat=animal --ignore car
    centernet-d2 convert-labels videos/ out/ --to coco_folder --val 0.1 --group "(video_[0-9]+)_"

The format of the source is recognized, unless --from names it. The exit status is 1 if a record cannot be used; the
others are written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from centernet_d2.cli.options import build_parser, print_errors

_COUNTED = {"images": "images", "annotations": "objects", "categories": "classes"}


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = build_parser(__doc__, prog)
    parser.add_argument("source", type=Path, help="file or folder of labels")
    parser.add_argument("output", type=Path, help="folder to write; must be empty or new")
    parser.add_argument("--from", dest="source_format", default="auto", metavar="FORMAT", help="(default: auto)")
    parser.add_argument("--to", default="coco_folder", metavar="FORMAT", help="(default: %(default)s)")
    parser.add_argument("--rename", action="append", default=[], metavar="OLD=NEW", help="also merges classes")
    parser.add_argument("--ignore", action="append", default=[], metavar="CLASS", help="leave out its objects")
    parser.add_argument("--classes", default="", metavar="A,B,...", help="all classes in their order")
    parser.add_argument("--val", type=float, metavar="FRACTION", help="make splits train and val, the same every time")
    parser.add_argument("--group", default="", metavar="PATTERN", help="of file names: one group is in one split")
    args = parser.parse_args(arguments)
    return print_errors(lambda: _convert(args), (OSError, ValueError))


def _convert(args: argparse.Namespace) -> int:
    from centernet_d2.data.formats.labels import FORMATS, read_labels
    from centernet_d2.data.formats.labels.editing import edit_classes, split_images

    for name in (args.to, args.source_format):
        if name not in (*FORMATS, "auto") or args.to == "auto":
            raise ValueError(f"there is no format {name!r}: the formats are {', '.join(FORMATS)}")
    if args.output.is_dir() and any(args.output.iterdir()):
        raise ValueError(f"{args.output} is not empty")
    pairs = [text.partition("=") for text in args.rename]
    if not all(old and new for old, _, new in pairs):
        raise ValueError("--rename takes OLD=NEW")
    labels = read_labels(args.source, args.source_format)
    edit_classes(labels, {old: new for old, _, new in pairs}, args.ignore, list(filter(None, args.classes.split(","))))
    if args.val is not None:
        split_images(labels, args.val, args.group)
    FORMATS[args.to].write(labels, args.output)
    for issue in labels.issues:
        print(f"left out: {issue}", file=sys.stderr)
    for text, count in labels.notes.items():
        print(f"note: {text} ({count} times)")
    data = labels.data
    counts = ", ".join(f"{len(data[key])} {word}" for key, word in _COUNTED.items())
    print(f"{counts}: {args.output} ({args.to})")
    return int(bool(labels.issues))
