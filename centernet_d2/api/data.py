"""What a user calls a dataset becomes config keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

Data = str | Path | Mapping[str, str]


def describe_data(data: Data, role: str, images: str | Path | None = None) -> tuple[str, list[Any]]:
    """The name of a dataset, and its entry of DATASETS.CUSTOM (none for one that is registered already).

    Args:
        data: a COCO-format file; a folder with ``_annotations.coco.json``; a folder in Pascal VOC's layout; a mapping
            as in DATASETS.CUSTOM without the name, such as ``{"type": "face68", "json_file": ..., "image_root": ...}``;
            or the name of a registered dataset.
        role: "train" or "val": part of the name, and the split of a VOC folder.
        images: folder of the images of a file (default: that of the file).

    Raises:
        FileNotFoundError: it is a path, and nothing of this kind is there.
    """
    name = f"custom_{role}"
    if isinstance(data, Mapping):
        return name, [{"name": name, **data}]
    path = Path(data).expanduser()
    if path.is_dir() and (path / "_annotations.coco.json").is_file():
        path = path / "_annotations.coco.json"
    if path.is_dir():
        if not (path / "ImageSets" / "Main").is_dir():
            raise FileNotFoundError(
                f"{path} has neither _annotations.coco.json nor ImageSets/Main (Pascal VOC's layout)"
            )
        return name, [[name, "voc", str(path.resolve()), role]]
    if path.is_file():
        return name, [[name, "coco", str(path.resolve()), str(Path(images or path.parent).resolve())]]
    if path.suffix or len(path.parts) > 1:
        raise FileNotFoundError(f"there is no dataset {data}: neither a file nor a folder")
    return str(data), []


def build_training_options(
    data: Data, val: Data | None, images: str | Path | None, val_images: str | Path | None
) -> list[str]:
    """Config keys that make ``data`` the training set, ``val`` that of evaluation, and take the classes from them."""
    name, custom = describe_data(data, "train", images)
    tests: tuple[str, ...] = ()
    if val is not None:
        test, more = describe_data(val, "val", val_images)
        tests, custom = (test,), [*custom, *more]
    classes = ["MODEL.CENTERNET.NUM_CLASSES=0", "MODEL.METADATA.CLASS_NAMES=[]", "MODEL.METADATA.CATEGORY_IDS=[]"]
    return [f"DATASETS.CUSTOM={custom!r}", f"DATASETS.TRAIN={(name,)!r}", f"DATASETS.TEST={tests!r}", *classes]


def build_schedule_options(iterations: int | None, batch_size: int | None) -> list[str]:
    """Config keys of a schedule on one machine: the rate falls at 64 and 86 % of it, as in the paper's."""
    options: list[Any] = []
    if iterations:
        steps = tuple(sorted({iterations * 90 // 140, iterations * 120 // 140} - {0}))
        options += [f"SOLVER.MAX_ITER={iterations}", f"SOLVER.STEPS={steps!r}", "SOLVER.EPOCHS=0.0"]
        options += ["SOLVER.REFERENCE_WORLD_SIZE=0"]
    if batch_size:
        options += [f"SOLVER.IMS_PER_BATCH={batch_size}", "SOLVER.REFERENCE_WORLD_SIZE=0"]
    return options
