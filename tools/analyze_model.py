#!/usr/bin/env python
"""The command ``centernet-d2 analyze``: measure networks of configs."""

import sys

from centernet_d2.cli import run

if __name__ == "__main__":
    sys.exit(run("analyze"))
