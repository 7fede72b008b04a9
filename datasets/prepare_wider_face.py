#!/usr/bin/env python
"""WIDER FACE -> annotations/{train,val}.json, COCO format, with the difficulties of the evaluation.

    datasets/prepare_wider_face.py [FOLDER]

FOLDER holds WIDER_train.zip, WIDER_val.zip, wider_face_split.zip and, for easy, medium and hard, eval_tools.zip, or
what they unpack to; one of the two splits is enough. The difficulties need SciPy (pip install scipy).
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

# Loaded by path, because importing the package takes seconds; so do the converters.
_OPTIONS = Path(__file__).resolve().parents[1] / "centernet_d2" / "data" / "options.py"


def main(arguments: list[str] | None = None) -> int:
    folder = (
        runpy.run_path(str(_OPTIONS))["build_preparation_parser"](__doc__, "wider_face").parse_args(arguments).folder
    )

    from centernet_d2.data.preparation.command import prepare
    from centernet_d2.data.preparation.wider_face import convert_wider_face

    return prepare(folder, convert_wider_face)


if __name__ == "__main__":
    sys.exit(main())
