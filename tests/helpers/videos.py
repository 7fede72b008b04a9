"""Videos for tests, written by OpenCV: frame k is gray of 8 k + 8."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v"}


def write_video(
    path: Path, count: int, size: tuple[int, int] = (96, 64), rate: float = 20.0, noise: bool = False
) -> Path:
    """``size`` is (width, height); with ``noise`` a strip at the top makes every frame's code long."""
    codec = CODECS[path.suffix]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, size)
    if not writer.isOpened():
        pytest.skip(f"this OpenCV cannot write {codec}")
    rng = np.random.default_rng(0)
    for k in range(count):
        frame = np.full((size[1], size[0], 3), 8 * k + 8, np.uint8)
        if noise:
            frame[: size[1] // 4] = rng.integers(0, 256, (size[1] // 4, size[0], 3))
        writer.write(frame)
    writer.release()
    return path


def number_of(image: np.ndarray) -> int:
    """Which frame of ``write_video`` it is, by its lower half."""
    return round((float(image[image.shape[0] // 2 :].mean()) - 8) / 8)
