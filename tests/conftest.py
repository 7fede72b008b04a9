"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Small real images with annotations; ``CENTERNET_D2_SAMPLES`` or ``../shared/data`` beside the checkout."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CENTERNET_D2_SAMPLES", default))
    if not folder.is_dir():
        pytest.skip(f"no sample images at {folder} (set CENTERNET_D2_SAMPLES)")
    return folder
