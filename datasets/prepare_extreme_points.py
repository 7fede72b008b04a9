#!/usr/bin/env python
"""The command ``centernet-d2 prepare-data extreme_points``."""

import sys

from centernet_d2.cli.prepare_data import prepare_dataset

if __name__ == "__main__":
    sys.exit(prepare_dataset("extreme_points"))
