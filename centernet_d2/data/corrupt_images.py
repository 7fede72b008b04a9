"""Counts images that cannot be read, and stops training when there are too many."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Sequence

from centernet_d2.data.image_io import CorruptImageError

_logger = logging.getLogger(__name__)
# This many unreadable images in a row stop training, whatever fraction is allowed.
_MAX_IN_A_ROW = 20


class TooManyCorruptError(RuntimeError):
    """More images are unreadable than the config allows."""


class CorruptImages:
    """Counts unreadable images, logs each file once, and raises an error when there are too many.

    There are too many when the files exceed the allowed fraction of the dataset, or when their fraction of the images
    seen so far exceeds it by six standard deviations, so that a bad dataset is noticed within an epoch.
    """

    def __init__(self, num_images: int, max_fraction: float) -> None:
        self.num_images, self.max_fraction = num_images, max_fraction
        self.files: dict[str, str] = {}
        self.attempts = 0
        self.failures = 0

    def add(self, good: int, corrupt: Sequence[CorruptImageError]) -> None:
        """Count ``good`` readable images and the ``corrupt`` ones.

        Raises:
            TooManyCorruptError: there are too many; names the first five files.
        """
        self.attempts += good + len(corrupt)
        self.failures += len(corrupt)
        for error in corrupt:
            if error.file_name not in self.files:
                self.files[error.file_name] = error.reason
                _logger.warning("Unreadable image %d, replaced by another: %s", len(self.files), error)
        if corrupt:
            self._check_limits()

    def _check_limits(self) -> None:
        allowed = self.max_fraction * self.num_images
        expected = self.max_fraction * self.attempts
        chance = 6 * math.sqrt(expected * (1 - min(self.max_fraction, 1.0)))
        beyond_chance = self.attempts >= _MAX_IN_A_ROW and self.failures > expected + chance
        if len(self.files) > allowed + 1e-9 or beyond_chance:
            self.stop()

    def stop(self) -> None:
        """Raise ``TooManyCorruptError``."""
        first = "\n  ".join(f"{name}: {reason}" for name, reason in itertools.islice(self.files.items(), 5))
        raise TooManyCorruptError(
            f"{self.failures} of {self.attempts} images could not be used ({len(self.files)} different ones, of "
            f"{self.num_images} in all); DATALOADER.MAX_CORRUPT_FRACTION allows {self.max_fraction:g}. "
            f"The first:\n  {first}"
        )
