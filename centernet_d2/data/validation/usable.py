"""Which tasks a dataset's labels can train."""

from __future__ import annotations

from collections.abc import Sequence

from centernet_d2.data.image_io import DatasetDict
from centernet_d2.structures.keypoint_schema import KeypointSchema

#: Label -> tasks (MODEL.CENTERNET.TASK) that learn from it; docs/your_data.md has the same table.
TASKS = {
    "boxes": ("DetectionTask",),
    "keypoints": ("KeypointRegressionTask", "KeypointHeatmapTask"),
    "outlines": ("ExtremePointTask", "LSNetContourTask"),
}


def describe_use(dataset_dicts: Sequence[DatasetDict], schema: KeypointSchema | None) -> list[str]:
    """Return lines that say what labels there are, and what they can train."""
    objects = [one for dataset_dict in dataset_dicts for one in dataset_dict.get("annotations", ())]
    counts = {
        "boxes": len(objects),
        "keypoints": sum(any(one.get("keypoints", ())[2::3]) for one in objects) if schema else 0,
        "outlines": sum("segmentation" in one for one in objects),
    }
    lines = []
    for kind, count in counts.items():
        if count:
            few = f" ({len(objects) - count} objects have none)" if count < len(objects) else ""
            lines.append(f"{count} {kind} train {' or '.join(TASKS[kind])}{few}")
    crowds = sum(bool(one.get("iscrowd")) for one in objects)
    empty = sum(not dataset_dict.get("annotations") for dataset_dict in dataset_dicts)
    lines += [f"{crowds} objects are crowds or difficult: neither trained nor scored"] if crowds else []
    lines += [f"{empty} images have no objects: they train as background"] if empty else []
    return lines
