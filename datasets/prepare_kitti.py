#!/usr/bin/env python
"""KITTI's 3D objects -> annotations/{3dop,subcnn}_{train,val}.json, COCO format with calibration and 3D boxes.

    datasets/prepare_kitti.py [FOLDER] [--3dop LISTS] [--subcnn LISTS]

FOLDER holds data_object_image_2.zip, data_object_label_2.zip and data_object_calib.zip as downloaded, or what they
unpack to: training/{image_2,label_2,calib}. The splits are not part of KITTI: LISTS is a folder with train.txt and
val.txt, an image's number a line, by default FOLDER/ImageSets_3dop and FOLDER/ImageSets_subcnn; one is enough.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

# Loaded by path, because importing the package takes seconds; so do the converters.
_OPTIONS = Path(__file__).resolve().parents[1] / "centernet_d2" / "data" / "options.py"
SPLITS = ("3dop", "subcnn")


def main(arguments: list[str] | None = None) -> int:
    parser = runpy.run_path(str(_OPTIONS))["build_preparation_parser"](__doc__, "kitti")
    for split in SPLITS:
        help = f"folder of train.txt and val.txt (default: FOLDER/ImageSets_{split})"
        parser.add_argument(f"--{split}", type=Path, metavar="LISTS", help=help)
    args = vars(parser.parse_args(arguments))
    lists = {split: args[split] or args["folder"] / f"ImageSets_{split}" for split in SPLITS}
    # Requested, or present.
    lists = {split: folder for split, folder in lists.items() if args[split] or folder.is_dir()}

    from centernet_d2.data.preparation.command import prepare
    from centernet_d2.data.preparation.kitti import convert_kitti

    return prepare(args["folder"], lambda root: convert_kitti(root, lists))


if __name__ == "__main__":
    sys.exit(main())
