#!/usr/bin/env python
"""The command ``centernet-d2 install-detectron2``: install Detectron2."""

import sys

from centernet_d2.cli import run

if __name__ == "__main__":
    sys.exit(run("install-detectron2"))
