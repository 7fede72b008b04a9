"""Defects of the published LSNet and CenterNet++ code that can be restored, for comparisons with it."""

from __future__ import annotations

from collections.abc import Iterable

#: Name -> what the reference does. All are corrected by default.
DEFECTS = {
    "cumulative_offsets": "kernel points of the third level are scaled by the second level's factor too",
    "box_penalty": "the aspect term of the cross-IOU loss has no epsilon and a gradient through its factor",
    "invisible_joints": "keypoints without a label count in the denominator of the cross-IOU loss",
    "left_joints": "kernel points of a pose are joints of the left side alone",
    "crowd_as_background": "cells in crowd regions are negatives",
    "zero_iou_positives": "a candidate without overlap can be positive (ATSS)",
    "giou_plus_one": "widths and heights in the GIoU loss are one unit larger",
    "local_normalizers": "losses are divided by the counts of their own process",
}


def check_defects(names: Iterable[str]) -> frozenset[str]:
    """Return the names as a set.

    Raises:
        ValueError: one is not in :data:`DEFECTS`.
    """
    unknown = sorted(set(names) - DEFECTS.keys())
    if unknown:
        raise ValueError(f"MODEL.LSNET.REFERENCE_DEFECTS has {unknown}, which are not among {sorted(DEFECTS)}")
    return frozenset(names)
