#!/usr/bin/env python
"""The command ``centernet-d2 train``: train or evaluate a model."""

import sys

from centernet_d2.cli import run

if __name__ == "__main__":
    sys.exit(run("train"))
