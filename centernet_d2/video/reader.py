"""Frames of video files and cameras, through OpenCV."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

VIDEO_SUFFIXES = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"}
_CAMERA = re.compile(r"webcam(?::(\d+))?")
# Frame rate of files without one, and of cameras.
_DEFAULT_RATE = 25.0
# Consecutive failures that end a file or a camera.
_MAX_FAILURES = 100


class VideoError(ValueError):
    """A video or a camera that cannot be used; the message names it."""


@dataclass(frozen=True)
class Frame:
    """One image of a stream.

    Attributes:
        index: its number in the stream, from 0; corrupt frames have numbers, too.
        seconds: since the first frame; in a file, by its frame rate.
        image: (H, W, 3) uint8, BGR.
        starts: whether it is the first of a video, or an image of its own.
        dataset_dict: other fields of Detectron2's dataset dict, such as "calib".
    """

    index: int
    seconds: float
    image: np.ndarray
    starts: bool = True
    dataset_dict: dict[str, Any] = field(default_factory=dict)


def is_video(source: str) -> bool:
    """Whether it is ``webcam``, ``webcam:<number>`` or has the suffix of a video file."""
    return _CAMERA.fullmatch(source) is not None or Path(source).suffix.lower() in VIDEO_SUFFIXES


class Video:
    """A video file, or a camera (``webcam``, ``webcam:1``); its frames can be read once.

    Attributes:
        live: whether it is a camera.
        rate: frames per second.
        announced: frames that the file says it has; None for cameras, and files that do not say.
        corrupt: numbers of the frames that could not be decoded, of those read so far.
    """

    def __init__(self, source: str) -> None:
        """
        Raises:
            VideoError: no such file or camera, or nothing that OpenCV can read.
        """
        camera = _CAMERA.fullmatch(source)
        self.source, self.live = source, camera is not None
        self.corrupt: list[int] = []
        if not camera and not Path(source).is_file():
            raise VideoError(f"{source}: the file does not exist")
        self._capture = cv2.VideoCapture(int(camera[1] or 0) if camera else source)
        if not self._capture.isOpened():
            reason = "no such camera, or another program has it" if camera else "not a video that OpenCV can read"
            raise VideoError(f"{source}: {reason}")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if math.isfinite(rate) and 0 < rate <= 1000 else _DEFAULT_RATE
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.announced = int(count) if not self.live and math.isfinite(count) and count > 0 else None

    def iterate_frames(self, limit: int | None = None) -> Iterator[Frame]:
        """Yield frame after frame, at most ``limit`` of them; close the video at the end.

        Raises:
            VideoError: a file without any frame that can be decoded; a camera that gives none any more.
        """
        start, index, given, failures = 0.0, 0, 0, 0
        try:
            while (limit is None or given < limit) and failures < self._get_patience(index):
                decoded, image = self._capture.read()
                if not decoded:
                    failures += 1
                    continue
                # Failures count as corrupt frames only if another frame follows; the end fails, too.
                self.corrupt += range(index, index + failures)
                index, failures = index + failures, 0
                start = start if given else time.monotonic()
                yield Frame(index, time.monotonic() - start if self.live else index / self.rate, image, not given)
                index, given = index + 1, given + 1
            if self.live and failures:
                raise VideoError(f"{self.source}: the camera gives no image any more")
            if not given and limit != 0:
                raise VideoError(f"{self.source}: has no frame that can be decoded")
        finally:
            self._capture.release()

    def count_missing(self, num_read: int) -> int:
        """Count the frames that the header announces but the file lacks (truncated or damaged)."""
        return max((self.announced or 0) - num_read - len(self.corrupt), 0)

    def _get_patience(self, index: int) -> int:
        """Return how many failures in a row from frame ``index`` on mean the end; a file has at most the announced
        frames."""
        if self.live:
            return _MAX_FAILURES
        return min(max((self.announced or 0) - index, 1), _MAX_FAILURES)
