#!/usr/bin/env python
"""300VW for training and evaluation: annotations/{train,test_1,test_2,test_3}.json from the download.

    datasets/prepare_300vw.py [FOLDER] [--every 10]

FOLDER holds 300VW_Dataset_2015_12_14.zip or, at any depth, the videos' folders (001/annot/*.pts, 001/vid.avi, ...).
Frames are extracted once, to 001/extraction/; an interrupted run goes on where it was.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

# Loaded by path, because importing the package takes seconds; so do the converters.
_OPTIONS = Path(__file__).resolve().parents[1] / "centernet_d2" / "data" / "options.py"


def main(arguments: list[str] | None = None) -> int:
    parser = runpy.run_path(str(_OPTIONS))["build_preparation_parser"](__doc__, "300vw")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every N-th frame (default: all)")
    args = parser.parse_args(arguments)
    if args.every < 1:
        parser.error("--every must be 1 or more")

    from centernet_d2.data.preparation.command import prepare
    from centernet_d2.data.preparation.face_300vw import convert_300vw

    return prepare(args.folder, lambda folder: convert_300vw(folder, args.every))


if __name__ == "__main__":
    sys.exit(main())
