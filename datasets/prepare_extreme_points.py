#!/usr/bin/env python
"""Extreme points from polygons and masks in COCO's format: <name>.json -> <name>_extreme.json beside it.

    datasets/prepare_extreme_points.py [JSON ...]

Without a file, COCO's own: coco/annotations/instances_{train,val}2017.json, for coco_2017_train_extreme and
coco_2017_val_extreme. Others are named in DATASETS.CUSTOM with the kind extreme4. An interrupted run goes on where it
was.
"""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path

# Loaded by path, because importing the package takes seconds; so do the converters.
_OPTIONS = Path(__file__).resolve().parents[1] / "centernet_d2" / "data" / "options.py"


def main(arguments: list[str] | None = None) -> int:
    root = Path(runpy.run_path(str(_OPTIONS))["get_datasets_root"](), "coco", "annotations")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = [root / f"instances_{split}2017.json" for split in ("train", "val")]
    parser.add_argument("json", nargs="*", type=Path, default=default, help="(default: COCO's)")
    json_files = parser.parse_args(arguments).json

    from centernet_d2.data.preparation.extreme_points import convert_extreme_points

    failed = False
    for json_file in json_files:
        try:
            summary = convert_extreme_points(json_file, json_file.with_name(f"{json_file.stem}_extreme.json"))
        except (OSError, ValueError) as error:
            print(error, file=sys.stderr)
            failed = True
            continue
        print(summary)
        failed |= not summary.images
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
