#!/usr/bin/env python
"""The command ``centernet-d2 export``: write a model as ONNX or TorchScript."""

import sys

from centernet_d2.cli import run

if __name__ == "__main__":
    sys.exit(run("export"))
