"""Names that parameters had before, so that old checkpoints of this project load."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import TypeVar

_logger = logging.getLogger(__name__)
_Value = TypeVar("_Value")

#: Old name of a head -> new name.
RENAMED_HEADS = {
    "landmark_heatmap": "keypoint_heatmap",
    "landmark_subcell": "keypoint_offset",
    "landmark_offsets": "keypoint_regression",
    "landmark_grouping": "keypoint_grouping",
    "Displacement": "displacement",
}
# Of LSNet; a module named by a Python keyword cannot be exported.
_OLD_CLASS_HEAD = "task.heads.class."
_OLD_HEAD = re.compile(r"\btask\.branches\.(\w+)\.heads\.")


def rename_parameter(name: str) -> str:
    """Return the current name of the parameter ``name``."""
    name = name.replace(_OLD_CLASS_HEAD, "task.heads.classes.")
    return _OLD_HEAD.sub(lambda found: f"task.heads.{RENAMED_HEADS.get(found[1], found[1])}.layers.", name)


def rename_parameters(weights: Mapping[str, _Value]) -> dict[str, _Value]:
    """Return ``weights`` under current names. One message is logged if any name changes."""
    renamed = {rename_parameter(name): value for name, value in weights.items()}
    changed = [name for name in weights if name not in renamed]
    if changed:
        _logger.info("Checkpoint with old names, %d translated (such as %s)", len(changed), changed[0])
    return renamed
