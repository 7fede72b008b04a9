#!/usr/bin/env python
"""WIDER FACE -> annotations/{train,val}.json, COCO format, with the difficulties of the evaluation.

    datasets/prepare_wider_face.py [FOLDER]

FOLDER holds WIDER_train.zip, WIDER_val.zip, wider_face_split.zip and, for easy, medium and hard, eval_tools.zip, or
what they unpack to; one of the two splits is enough. The difficulties need SciPy (pip install scipy).
"""

from __future__ import annotations

import sys

from centernet_d2.data.preparation.command import preparation_parser, prepare
from centernet_d2.data.preparation.wider_face import convert_wider_face


def main(arguments: list[str] | None = None) -> int:
    return prepare(preparation_parser(__doc__, "wider_face").parse_args(arguments).folder, convert_wider_face)


if __name__ == "__main__":
    sys.exit(main())
