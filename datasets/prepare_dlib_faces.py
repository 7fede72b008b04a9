#!/usr/bin/env python
"""Faces with 68 landmarks in the XML of dlib's imglab -> a COCO-format file, for DATASETS.CUSTOM with kind face68.

    datasets/prepare_dlib_faces.py faces/training_with_face_landmarks.xml [--output faces/train.json]

Images are found from the folder of the XML file.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("xml", type=Path, help="the file that imglab wrote")
    parser.add_argument("--output", type=Path, help="the JSON file (default: the XML file's name, but for the suffix)")
    args = parser.parse_args(arguments)

    from centernet_d2.data.preparation.dlib_faces import convert_dlib_xml

    try:
        summary = convert_dlib_xml(args.xml, args.output or args.xml.with_suffix(".json"))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(summary)
    return int(not summary.images)


if __name__ == "__main__":
    sys.exit(main())
