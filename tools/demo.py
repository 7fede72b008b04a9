#!/usr/bin/env python
"""The command ``centernet-d2 predict``: find objects in images, folders, videos, or a camera's images."""

import sys

from centernet_d2.cli import run

if __name__ == "__main__":
    sys.exit(run("predict"))
