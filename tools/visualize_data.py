#!/usr/bin/env python
"""The command ``centernet-d2 show-data``: draw a dataset."""

import sys

from centernet_d2.cli import run

if __name__ == "__main__":
    sys.exit(run("show-data"))
