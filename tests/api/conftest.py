"""A training's folder with a random network, and an image."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.helpers.exported import write_run


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("api") / "mine"
    write_run(folder)
    return folder


@pytest.fixture(scope="session")
def photo(tmp_path_factory) -> Path:
    """(80, 100, 3) noise, whose channels differ."""
    path = tmp_path_factory.mktemp("api") / "photo.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (80, 100, 3), np.uint8) // [1, 2, 4])
    return path
