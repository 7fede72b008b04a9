"""Counting of images that cannot be read."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Sequence

from centernet_d2.data.image_io import BrokenImageError

_logger = logging.getLogger(__name__)
# So many unreadable pictures one after the other stop training, whatever share is allowed.
_MAX_IN_A_ROW = 20


class TooManyBrokenError(RuntimeError):
    """More pictures cannot be read than the configuration allows."""


class BrokenPictures:
    """Counts what could not be read, reports each file once, and stops when it is too much.

    It is too much when the files exceed the allowed share of the whole data set, or when their share of those seen so
    far is beyond chance (six standard deviations), so that a hopeless set does not take an epoch to be noticed.
    """

    def __init__(self, num_pictures: int, max_share: float) -> None:
        self.num_pictures, self.max_share = num_pictures, max_share
        self.files: dict[str, str] = {}
        self.attempts = 0
        self.failures = 0

    def add(self, good: int, broken: Sequence[BrokenImageError]) -> None:
        """Note that ``good`` pictures could be read and that ``broken`` could not.

        Raises:
            TooManyBrokenError: names the first five files.
        """
        self.attempts += good + len(broken)
        self.failures += len(broken)
        for error in broken:
            if error.file_name not in self.files:
                self.files[error.file_name] = error.reason
                _logger.warning("Picture %d that cannot be used, replaced by another: %s", len(self.files), error)
        if broken:
            self._judge()

    def _judge(self) -> None:
        allowed = self.max_share * self.num_pictures
        expected = self.max_share * self.attempts
        chance = 6 * math.sqrt(expected * (1 - min(self.max_share, 1.0)))
        beyond_chance = self.attempts >= _MAX_IN_A_ROW and self.failures > expected + chance
        if len(self.files) > allowed + 1e-9 or beyond_chance:
            self.stop()

    def stop(self) -> None:
        """Raise."""
        first = "\n  ".join(f"{name}: {reason}" for name, reason in itertools.islice(self.files.items(), 5))
        raise TooManyBrokenError(
            f"{self.failures} of {self.attempts} pictures could not be used ({len(self.files)} different ones, of "
            f"{self.num_pictures} in all); DATALOADER.MAX_BROKEN_SHARE allows {self.max_share:g}. The first:\n  {first}"
        )
