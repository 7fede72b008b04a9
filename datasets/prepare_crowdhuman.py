#!/usr/bin/env python
"""CrowdHuman -> annotations/{train,val}.json, COCO format, or for --boxes visible and head annotations/*_<boxes>.json.

    datasets/prepare_crowdhuman.py [FOLDER] [--boxes head]

FOLDER holds annotation_train.odgt, annotation_val.odgt, CrowdHuman_train01.zip to CrowdHuman_train03.zip and
CrowdHuman_val.zip, or what these unpack to; one of the two splits is enough.
"""

from __future__ import annotations

import sys

from centernet_d2.data.preparation.command import preparation_parser, prepare
from centernet_d2.data.preparation.crowdhuman import BOXES, convert_crowdhuman


def main(arguments: list[str] | None = None) -> int:
    parser = preparation_parser(__doc__, "crowdhuman")
    parser.add_argument("--boxes", choices=BOXES, default="full", help="of the persons (default: %(default)s)")
    args = parser.parse_args(arguments)
    return prepare(args.folder, lambda folder: convert_crowdhuman(folder, args.boxes))


if __name__ == "__main__":
    sys.exit(main())
