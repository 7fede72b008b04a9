#!/usr/bin/env python
"""CrowdHuman -> annotations/{train,val}.json, COCO format, or for --boxes visible and head annotations/*_<boxes>.json.

    datasets/prepare_crowdhuman.py [FOLDER] [--boxes head]

FOLDER holds annotation_train.odgt, annotation_val.odgt, CrowdHuman_train01.zip to CrowdHuman_train03.zip and
CrowdHuman_val.zip, or what these unpack to; one of the two splits is enough.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

# Loaded by path, because importing the package takes seconds; so do the converters.
_OPTIONS = Path(__file__).resolve().parents[1] / "centernet_d2" / "data" / "options.py"
BOXES = ("full", "visible", "head")


def main(arguments: list[str] | None = None) -> int:
    parser = runpy.run_path(str(_OPTIONS))["build_preparation_parser"](__doc__, "crowdhuman")
    parser.add_argument("--boxes", choices=BOXES, default="full", help="of the persons (default: %(default)s)")
    args = parser.parse_args(arguments)

    from centernet_d2.data.preparation.command import prepare
    from centernet_d2.data.preparation.crowdhuman import convert_crowdhuman

    return prepare(args.folder, lambda folder: convert_crowdhuman(folder, args.boxes))


if __name__ == "__main__":
    sys.exit(main())
