"""Drawn frames into a video file or a window, through OpenCV."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from centernet_d2.video.reader import VideoError

_STOP_KEYS = (27, ord("q"))


class VideoWriter:
    """An MP4 file, as large as its first image, that is complete when closed (as a context manager, for one)."""

    def __init__(self, path: Path, rate: float) -> None:
        """
        Args:
            rate: frames per second.
        """
        self.path, self.rate = path, rate
        self.num_written = 0
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def write(self, image: np.ndarray, copies: int = 1) -> None:
        """Append (H, W, 3) uint8, BGR, once or several times; an image of another size than the first is resized.

        Raises:
            VideoError: OpenCV cannot write such a file there.
        """
        if self._writer is None:
            self._size = (image.shape[1], image.shape[0])
            self._writer = cv2.VideoWriter(str(self.path), cv2.VideoWriter.fourcc(*"mp4v"), self.rate, self._size)
            if not self._writer.isOpened():
                raise VideoError(f"{self.path}: OpenCV cannot write this file (codec mp4v)")
        if (image.shape[1], image.shape[0]) != self._size:
            image = cv2.resize(image, self._size, interpolation=cv2.INTER_AREA)
        for _ in range(copies):
            self._writer.write(image)
        self.num_written += copies

    def count_copies_at(self, seconds: float) -> int:
        """Return how often to write an image so that the video lasts ``seconds`` with it: a camera's frames come
        irregularly."""
        return max(round(seconds * self.rate) + 1 - self.num_written, 0)

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Window:
    """A window on the screen; to be used in the main thread."""

    def __init__(self, title: str) -> None:
        self.title = title
        cv2.namedWindow(title, cv2.WINDOW_NORMAL)

    def show(self, image: np.ndarray) -> bool:
        """Show (H, W, 3) uint8, BGR; False once somebody has pressed Escape or q, or closed the window."""
        cv2.imshow(self.title, image)
        pressed = cv2.waitKey(1) & 0xFF
        return pressed not in _STOP_KEYS and cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) > 0

    def close(self) -> None:
        """Close the window."""
        cv2.destroyWindow(self.title)


def open_window(title: str) -> tuple[Window | None, str]:
    """Open a window; return it, or None and the reason why there is none."""
    # Checked first: without a display, some of OpenCV's builds end the process.
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return None, "there is no screen"
    try:
        return Window(title), ""
    except cv2.error:
        return None, "this OpenCV cannot open windows (opencv-python can, opencv-python-headless cannot)"
