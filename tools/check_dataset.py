#!/usr/bin/env python
"""The command ``centernet-d2 check-data``: list everything wrong with a dataset."""

import sys

from centernet_d2.cli import run

if __name__ == "__main__":
    sys.exit(run("check-data"))
