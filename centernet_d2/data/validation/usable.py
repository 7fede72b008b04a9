"""Which tasks a dataset's labels can train."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from centernet_d2.data.formats.coco_segmentation import BAD_SEGMENTATION
from centernet_d2.data.image_io import DatasetDict
from centernet_d2.data.validation.issues import AnnotationError
from centernet_d2.structures.keypoint_schema import KeypointSchema

#: Label -> tasks (MODEL.CENTERNET.TASK) that learn from it; docs/your_data.md has the same table.
TASKS = {
    "boxes": ("DetectionTask",),
    "keypoints": ("KeypointRegressionTask", "KeypointHeatmapTask"),
    "outlines": ("LSNetContourTask", "RotatedBoxTask"),
}
# What a task requires of each object -> the label without which it learns nothing.
_NEEDED = {"keypoints": "keypoints", "contour": "outlines", "corners": "outlines"}


def check_pairing(name: str, dataset_dicts: Sequence[DatasetDict], task: str, required: Collection[str]) -> None:
    """Check that a training set has an object with the labels that a task learns from; sets without objects pass.

    Args:
        task: its name, for the message.
        required: the task's ``required_fields``.

    Raises:
        AnnotationError: it has none; says what it can train.
    """
    counts = _count_labels(dataset_dicts)
    for field, kind in _NEEDED.items():
        if field in required and counts["boxes"] and not counts[kind]:
            useful = " or ".join(task for label, tasks in TASKS.items() if counts[label] for task in tasks)
            raise AnnotationError(
                f"dataset {name}: {task} learns from {kind}, and none of the {counts['boxes']} objects has any. "
                f"These labels train {useful} (MODEL.CENTERNET.TASK); docs/your_data.md says which label gives what"
            )


def _count_labels(dataset_dicts: Sequence[DatasetDict]) -> dict[str, int]:
    objects = [one for dataset_dict in dataset_dicts for one in dataset_dict.get("annotations", ())]
    return {
        "boxes": len(objects),
        "keypoints": sum(any(one.get("keypoints", ())[2::3]) for one in objects),
        "outlines": sum("segmentation" in one or BAD_SEGMENTATION in one for one in objects),
    }


def describe_use(dataset_dicts: Sequence[DatasetDict], schema: KeypointSchema | None) -> list[str]:
    """Return lines that say what labels there are, and what they can train."""
    objects = [one for dataset_dict in dataset_dicts for one in dataset_dict.get("annotations", ())]
    counts = _count_labels(dataset_dicts)
    counts["keypoints"] *= schema is not None
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
