"""Fixtures that all tests share."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)

with contextlib.suppress(ImportError):
    from hypothesis import HealthCheck, settings

    # "long" by --hypothesis-profile=long; the same examples in every run of "quick".
    settings.register_profile("quick", max_examples=20, deadline=None, derandomize=True, database=None)
    settings.register_profile("long", max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    settings.load_profile("quick")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Small real images with annotations; ``CENTERNET_D2_SAMPLES`` or ``../shared/data`` beside the checkout."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CENTERNET_D2_SAMPLES", default))
    if not folder.is_dir():
        pytest.skip(f"no sample images at {folder} (set CENTERNET_D2_SAMPLES)")
    return folder
