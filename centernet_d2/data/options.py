"""The datasets' folder and the options of ``datasets/prepare_*.py``. This file imports nothing slow, so that --help is
quick."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def get_datasets_root() -> str:
    """Return the folder of the datasets: the environment variable DETECTRON2_DATASETS, or "datasets"."""
    return os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))


def build_preparation_parser(description: str | None, name: str) -> argparse.ArgumentParser:
    """Return a parser with the folder of the dataset ``name``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(get_datasets_root(), name)
    parser.add_argument("folder", nargs="?", type=Path, default=default, help="of the downloads (default: %(default)s)")
    return parser
