"""Names that config keys and values had before, so that old files keep working."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from detectron2.config import CfgNode

_logger = logging.getLogger(__name__)

#: Old key -> new key; "" for a removed key, whose meaning the task now declares.
RENAMED_KEYS: dict[str, str] = {
    "MODEL.CENTERNET.BRANCHES": "MODEL.CENTERNET.EXTRA_HEADS",
    "MODEL.CENTERNET.BOX_BRANCH": "MODEL.CENTERNET.BOX_HEAD",
    "MODEL.CENTERNET.BOX_CELLS": "MODEL.CENTERNET.BOX_SAMPLING",
    "MODEL.CENTERNET.POINT_FLAGS": "MODEL.CENTERNET.GRID_POINTS",
    "MODEL.CENTERNET.SIZE_ENCODING": "MODEL.CENTERNET.BOX_ENCODING",
    "MODEL.CENTERNET.GAUSSIAN_SHARE": "MODEL.CENTERNET.GAUSSIAN_ALPHA",
    "MODEL.LANDMARK.SCHEME": "MODEL.KEYPOINT.SCHEMA",
    "MODEL.LANDMARK.ONE_OBJECT": "MODEL.KEYPOINT.SINGLE_INSTANCE",
    "MODEL.LANDMARK.SNAP": "MODEL.KEYPOINT.PEAK_MATCHING",
    "MODEL.LANDMARK.SUBCELL": "MODEL.KEYPOINT.OFFSET",
    "MODEL.LANDMARK.SUBCELL_PER_LANDMARK": "MODEL.KEYPOINT.OFFSET_PER_KEYPOINT",
    "MODEL.LANDMARK.SUBCELL_RADIUS": "MODEL.KEYPOINT.OFFSET_RADIUS",
    "MODEL.LANDMARK.SUBCELL_WEIGHT": "MODEL.KEYPOINT.OFFSET_WEIGHT",
    "MODEL.LANDMARK.OFFSETS_WEIGHT": "MODEL.KEYPOINT.REGRESSION_WEIGHT",
    **{
        f"MODEL.LANDMARK.{key}": f"MODEL.KEYPOINT.{key}"
        for key in (
            *("CENTER", "BOX_SIZE", "REFINE", "TOPK_PEAKS", "SOFT_NMS", "HEATMAP_RADIUS", "HEATMAP_WEIGHT"),
            "GROUPING_WEIGHT",
        )
    },
    "MODEL.EXTREME.AGGREGATION": "MODEL.EXTREME.EDGE_AGGREGATION",
    "MODEL.EXTREME.SUPPRESS_GHOSTS": "MODEL.EXTREME.GHOST_BOX_SUPPRESSION",
    "MODEL.EXTREME.CENTER_CELL": "MODEL.EXTREME.CENTER_LOOKUP",
    "MODEL.BOX3D_ON": "",
    "MODEL.TRACKING_ON": "",
    "MODEL.TRACKING.LOST_PROB": "MODEL.TRACKING.FN_PROB",
    "MODEL.TRACKING.FALSE_PROB": "MODEL.TRACKING.FP_PROB",
    "MODEL.TRACKING.CENTER_NOISE": "MODEL.TRACKING.HEATMAP_JITTER",
    "MODEL.INFERENCE.FOLD_BATCH_NORM": "MODEL.INFERENCE.FUSE_BATCH_NORM",
    "INPUT.AFFINE.STRETCH": "INPUT.AFFINE.ASPECT_JITTER",
    **{f"INPUT.OCCLUSION.{key}": f"INPUT.RANDOM_ERASING.{key}" for key in ("PROB", "MAX_PATCHES", "MAX_SIZE")},
    "DATALOADER.MAX_BROKEN_SHARE": "DATALOADER.MAX_CORRUPT_FRACTION",
}

#: Key (its new name) -> old value -> new value.
RENAMED_VALUES: dict[str, dict[str, str]] = {
    "MODEL.CENTERNET.TASK": {
        "GridPointTask": "DetectionTask",
        "Boxes3DTask": "Detection3DTask",
        "LandmarkHeatmapTask": "KeypointHeatmapTask",
        "LandmarkRegressionTask": "KeypointRegressionTask",
        "ClothesLandmarkTask": "KeypointRegressionTask",
    },
    "MODEL.CENTERNET.EXTRA_HEADS": {"Displacement": "DisplacementHead"},
    "MODEL.CENTERNET.BOX_HEAD": {"GridBoxSize": "BoxSizeHead", "GridBox": "BoxHead"},
    "MODEL.CENTERNET.GAUSSIAN_RADIUS": {"published": "cornernet"},
    "MODEL.EXTREME.CENTER_LOOKUP": {"places": "positions"},
}


def rename_key(key: str) -> str:
    """Return the current name of ``key``; "" for a removed key."""
    return RENAMED_KEYS.get(key, key)


def rename_value(key: str, value: Any) -> Any:
    """Return the current name of ``value`` of ``key`` (a current key)."""
    table = RENAMED_VALUES.get(key, {})
    if isinstance(value, list | tuple):
        return type(value)(table.get(x, x) if isinstance(x, str) else x for x in value)
    return table.get(value, value) if isinstance(value, str) else value


def rename_pairs(pairs: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Return keys and values under current names, without removed keys; one warning lists what was renamed."""
    result, changes = [], []
    for key, value in pairs:
        new_key = rename_key(key)
        new_value = rename_value(new_key, value)
        if new_key != key:
            changes.append(f"{key} is now {new_key}" if new_key else f"{key} is gone: the task implies it")
        elif new_value != value:
            changes.append(f"{key} {value!r} is now {new_value!r}")
        if new_key:
            result.append((new_key, new_value))
    if changes:
        _logger.warning("Config with old names, translated: %s", "; ".join(changes))
    return result


def rename_node(node: CfgNode) -> CfgNode:
    """Return a copy of ``node`` with current keys and values."""
    result = type(node)()
    for key, value in rename_pairs(_iterate_leaves(node)):
        _set(result, key, value)
    return result


def _iterate_leaves(node: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, CfgNode) and value:
            yield from _iterate_leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _set(node: CfgNode, key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        node = node.setdefault(parent, type(node)())
    node[last] = value
