#!/usr/bin/env python
"""AFLW with 19 landmarks for training and evaluation: annotations/{train,full,frontal}.json from the download.

    datasets/prepare_aflw.py [FOLDER]

FOLDER holds aflw-db.tar.gz and aflw-images-{0,2,3}.tar.gz or what they unpack to (data/aflw.sqlite,
data/flickr/{0,2,3}/*.jpg), and for the published split AFLWinfo_release.mat, which needs SciPy (pip install scipy).
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

# Loaded by path, because importing the package takes seconds; so do the converters.
_OPTIONS = Path(__file__).resolve().parents[1] / "centernet_d2" / "data" / "options.py"


def main(arguments: list[str] | None = None) -> int:
    folder = runpy.run_path(str(_OPTIONS))["build_preparation_parser"](__doc__, "aflw").parse_args(arguments).folder

    from centernet_d2.data.preparation.aflw import convert_aflw
    from centernet_d2.data.preparation.command import prepare

    return prepare(folder, convert_aflw)


if __name__ == "__main__":
    sys.exit(main())
