"""What several processes have found, together."""

from __future__ import annotations

import logging
from typing import Any, TypeVar

from detectron2.utils import comm

Found = TypeVar("Found")
_logger = logging.getLogger(__name__)


def gather_pictures(found: dict[Any, Found], dataset_name: str, num_pictures: int) -> dict[Any, Found] | None:
    """Picture -> what was found there, of all processes, in the main one; None in the others.

    A picture that two processes saw, so that each had as many, counts once. A warning says how many of the
    ``num_pictures`` are missing.
    """
    gathered = comm.gather(found)
    if not comm.is_main_process():
        return None
    together = {key: one for part in gathered for key, one in part.items()}
    if len(together) < num_pictures:
        _logger.warning("Only %d of the %d pictures of %s were evaluated", len(together), num_pictures, dataset_name)
    return together
