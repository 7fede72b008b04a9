"""Counting of images that cannot be read."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Sequence

from centernet_d2.data.image_io import CorruptImageError

_logger = logging.getLogger(__name__)
# So many unreadable images one after the other stop training, whatever share is allowed.
_MAX_IN_A_ROW = 20


class TooManyCorruptError(RuntimeError):
    """More images cannot be read than the configuration allows."""


class CorruptImages:
    """Counts what could not be read, reports each file once, and stops when it is too much.

    It is too much when the files exceed the allowed fraction of the whole dataset, or when their fraction of those seen
    so far is beyond chance (six standard deviations), so that a hopeless set does not take an epoch to be noticed.
    """

    def __init__(self, num_images: int, max_fraction: float) -> None:
        self.num_images, self.max_fraction = num_images, max_fraction
        self.files: dict[str, str] = {}
        self.attempts = 0
        self.failures = 0

    def add(self, good: int, corrupt: Sequence[CorruptImageError]) -> None:
        """Note that ``good`` images could be read and that ``corrupt`` could not.

        Raises:
            TooManyCorruptError: names the first five files.
        """
        self.attempts += good + len(corrupt)
        self.failures += len(corrupt)
        for error in corrupt:
            if error.file_name not in self.files:
                self.files[error.file_name] = error.reason
                _logger.warning("Image %d that cannot be used, replaced by another: %s", len(self.files), error)
        if corrupt:
            self._judge()

    def _judge(self) -> None:
        allowed = self.max_fraction * self.num_images
        expected = self.max_fraction * self.attempts
        chance = 6 * math.sqrt(expected * (1 - min(self.max_fraction, 1.0)))
        beyond_chance = self.attempts >= _MAX_IN_A_ROW and self.failures > expected + chance
        if len(self.files) > allowed + 1e-9 or beyond_chance:
            self.stop()

    def stop(self) -> None:
        """Raise."""
        first = "\n  ".join(f"{name}: {reason}" for name, reason in itertools.islice(self.files.items(), 5))
        raise TooManyCorruptError(
            f"{self.failures} of {self.attempts} images could not be used ({len(self.files)} different ones, of "
            f"{self.num_images} in all); DATALOADER.MAX_CORRUPT_FRACTION allows {self.max_fraction:g}. "
            f"The first:\n  {first}"
        )
