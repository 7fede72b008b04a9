#!/usr/bin/env python
"""MOT17's videos of pedestrians -> annotations/{train,train_half,val_half,test}.json, COCO format with tracks.

    datasets/prepare_mot17.py [FOLDER]

FOLDER holds MOT17.zip as downloaded, or what it unpacks to: {train,test}/<video>/{seqinfo.ini,img1,gt}. Of the three
copies of each video that which ends with -FRCNN is used. The halves are the first and the second half of each video
of train, which is what has tracks to be scored with. Any folder in this layout will do, such as MOT16's.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

# Loaded by path, because importing the package takes seconds; so do the converters.
_OPTIONS = Path(__file__).resolve().parents[1] / "centernet_d2" / "data" / "options.py"


def main(arguments: list[str] | None = None) -> int:
    folder = runpy.run_path(str(_OPTIONS))["build_preparation_parser"](__doc__, "mot17").parse_args(arguments).folder

    from centernet_d2.data.preparation.command import prepare
    from centernet_d2.data.preparation.mot import convert_mot

    return prepare(folder, convert_mot)


if __name__ == "__main__":
    sys.exit(main())
