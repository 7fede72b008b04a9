"""How far something is: a line on stderr with the speed and the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import IO, TypeVar

Item = TypeVar("Item")
# Seconds between two lines in a terminal, where each replaces the last, and elsewhere, such as in a log file.
_TERMINAL, _LOG = 0.5, 10.0


class Progress:
    """Counts, and shows the count now and then; what is over sooner shows nothing.

    Args:
        name: of what is done.
        total: count at the end; None where nobody knows.
        unit: what is counted, in the plural.
        done: count at the start, which took no time.
        stream: stderr unless given.
    """

    def __init__(
        self,
        name: str,
        total: float | None,
        unit: str = "images",
        done: float = 0.0,
        stream: IO[str] | None = None,
    ) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.count, self._done = done, done
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._start = self._shown = time.monotonic()
        self._has_line = False

    def advance(self, count: float = 1) -> None:
        """Add ``count``."""
        self.count += count
        now = time.monotonic()
        if now - self._shown >= (_TERMINAL if self._terminal else _LOG):
            self._shown = now
            speed = (self.count - self._done) / (now - self._start)
            self._write(describe_progress(self.name, self.count, self.total, self.unit, speed))

    def close(self) -> None:
        """End the line in a terminal."""
        if self._has_line and self._terminal:
            self._stream.write("\n")
            self._stream.flush()
        self._has_line = False

    def _write(self, text: str) -> None:
        self._stream.write(f"\r{text}\x1b[K" if self._terminal else f"{text}\n")
        self._stream.flush()
        self._has_line = True


def track(items: Iterable[Item], name: str, unit: str = "images", total: int | None = None) -> Iterator[Item]:
    """Yield the items, counted by a :class:`Progress`.

    Args:
        total: their number, where ``len(items)`` does not say it.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    progress = Progress(name, total, unit)
    try:
        for item in items:
            yield item
            progress.advance()
    finally:
        progress.close()


def describe_progress(name: str, count: float, total: float | None, unit: str, speed: float) -> str:
    """Return such as "photos: 120 of 500 images, 41.3 images/s, 0:09 left"."""
    of_all = f" of {total:,.0f}" if total else ""
    left = f", {format_seconds((total - count) / speed)} left" if total and speed and total >= count else ""
    return f"{name}: {count:,.0f}{of_all} {unit}, {speed:,.1f} {unit}/s{left}"


def format_seconds(seconds: float) -> str:
    """Return minutes and seconds, "2:05", or hours, "1:02:05"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
