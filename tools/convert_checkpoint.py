#!/usr/bin/env python
"""The command ``centernet-d2 convert``: rename the weights of a CenterNet checkpoint."""

import sys

from centernet_d2.cli import run

if __name__ == "__main__":
    sys.exit(run("convert"))
