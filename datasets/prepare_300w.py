#!/usr/bin/env python
"""300W for training and evaluation: annotations/{train,common,challenge,full,test}.json from the downloads.

    datasets/prepare_300w.py [FOLDER] [--boxes official]

FOLDER holds afw.zip, helen.zip, ibug.zip, lfpw.zip, and where wanted 300w.zip.001 to .004 and bounding_boxes.zip, or
the folders that they unpack to. An interrupted run goes on where it was.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

# Loaded by path, because importing the package takes seconds; so do the converters.
_OPTIONS = Path(__file__).resolve().parents[1] / "centernet_d2" / "data" / "options.py"
BOXES = ("landmarks", "official", "detector")


def main(arguments: list[str] | None = None) -> int:
    parser = runpy.run_path(str(_OPTIONS))["build_preparation_parser"](__doc__, "300w")
    parser.add_argument(
        "--boxes",
        choices=BOXES,
        default="landmarks",
        help="of the faces (default: %(default)s)",
    )
    args = parser.parse_args(arguments)

    from centernet_d2.data.preparation.command import prepare
    from centernet_d2.data.preparation.face_300w import convert_300w

    return prepare(args.folder, lambda folder: convert_300w(folder, args.boxes))


if __name__ == "__main__":
    sys.exit(main())
