#!/usr/bin/env python
"""DeepFashion2 -> annotations/{train,validation}.json, COCO format, 294 landmarks.

    datasets/prepare_deepfashion2.py [FOLDER] [--password PASSWORD]

FOLDER holds train.zip and validation.zip as downloaded, or what they unpack to, train/{image,annos} and
validation/{image,annos}. The archives are encrypted; whoever asks for the data is given the password.
Interrupted, it goes on where it was.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

# Loaded by path, because importing the package takes seconds; so do the converters.
_OPTIONS = Path(__file__).resolve().parents[1] / "centernet_d2" / "data" / "options.py"


def main() -> int:
    parser = runpy.run_path(str(_OPTIONS))["build_preparation_parser"](__doc__, "deepfashion2")
    parser.add_argument("--password", help="of the archives; unpacking them with `unzip -P` beforehand is much faster")
    args = parser.parse_args()

    from centernet_d2.data.preparation.command import prepare
    from centernet_d2.data.preparation.deepfashion2 import convert_deepfashion2

    return prepare(args.folder, convert_deepfashion2, args.password)


if __name__ == "__main__":
    sys.exit(main())
