"""Datasets named in the configuration, and what the configuration must agree with them on."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Sequence

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from centernet_d2.data.catalog import class_names, load_dataset_dicts
from centernet_d2.data.datasets.coco import register_coco
from centernet_d2.data.datasets.crops import register_crops
from centernet_d2.data.datasets.keypoint_sets import KEYPOINT_TYPES
from centernet_d2.data.datasets.mot import register_video
from centernet_d2.data.datasets.voc import register_voc
from centernet_d2.data.image_io import datasets_root, set_exif_orientation
from centernet_d2.structures.model_metadata import describe_classes

# Functions of name and two strings; how many of these are paths, by kind: both, unless said here.
_KINDS: dict[str, Callable[[str, str, str], None]] = {
    "coco": register_coco,
    "voc_json": functools.partial(register_coco, evaluator_type="pascal_voc"),
    "voc": register_voc,
    "crops": register_crops,
    "video": register_video,
    **KEYPOINT_TYPES,
}
_NUM_PATHS = {"voc": 1, "crops": 0}
_REGISTERED: dict[str, tuple[str, ...]] = {}


def register_custom_datasets(cfg: CfgNode) -> None:
    """Register the sets of ``DATASETS.CUSTOM``; no file is read. Doing it again changes nothing.

    ``INPUT.EXIF_ORIENTATION`` holds from here on for images and dataset dicts of this process.

    Raises:
        ValueError: an entry is malformed, or its name is that of another set.
    """
    set_exif_orientation(cfg.INPUT.EXIF_ORIENTATION)
    for entry in cfg.DATASETS.CUSTOM:
        if not isinstance(entry, list | tuple) or len(entry) != 4 or not all(isinstance(x, str) for x in entry):
            raise ValueError(
                f"DATASETS.CUSTOM: {entry!r} is not four strings (name, kind, and two that depend on the kind)"
            )
        name, kind, first, second = entry
        if kind not in _KINDS:
            raise ValueError(f"DATASETS.CUSTOM: the kind of {name!r} is {kind!r}, not one of {', '.join(_KINDS)}")
        num_paths = _NUM_PATHS.get(kind, 2)
        location = (kind, *resolve_paths(*(first, second)[:num_paths]), *(first, second)[num_paths:])
        if _REGISTERED.get(name) == location:
            continue
        if name in _REGISTERED:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        elif name in DatasetCatalog:
            raise ValueError(f"DATASETS.CUSTOM: the name {name!r} belongs to a built-in dataset, choose another")
        _KINDS[kind](name, location[1], location[2])
        _REGISTERED[name] = location


def location_of(name: str) -> tuple[str, ...] | None:
    """Kind and place, as in ``DATASETS.CUSTOM``, of a set that ``DATASETS.CUSTOM`` registered, None for others."""
    return _REGISTERED.get(name)


def category_ids(name: str) -> list[int]:
    """The ids that the annotation file of a registered dataset has for its classes, in their order; [] for none.

    The class names must have been requested before.
    """
    kind, source, _ = location_of(name) or ("", "", "")
    if kind == "crops":
        return category_ids(source)
    metadata = MetadataCatalog.get(name)
    if kind in KEYPOINT_TYPES and metadata.get("thing_dataset_id_to_contiguous_id") is None:
        # The schema says the class names without the file, but not the ids.
        with contextlib.suppress(OSError, ValueError):
            load_dataset_dicts(name)
    metadata = MetadataCatalog.get(name)
    ids = metadata.get("thing_dataset_id_to_contiguous_id") or {}
    one_each = sorted(ids.values()) == list(range(len(metadata.get("thing_classes", ()))))
    return sorted(ids, key=lambda number: ids[number]) if one_each else []


def resolve_num_classes(cfg: CfgNode) -> int:
    """``MODEL.CENTERNET.NUM_CLASSES``, or, where that is 0, what the datasets have.

    With a number given, datasets with missing files are skipped: prediction needs no dataset.

    Raises:
        ValueError: the configuration and the datasets, or these among each other, do not agree.
    """
    wanted = cfg.MODEL.CENTERNET.NUM_CLASSES
    names: dict[str, list[str]] = {}
    for dataset in dict.fromkeys((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)):
        try:
            names[dataset] = class_names(dataset)
        except FileNotFoundError:
            if not wanted:
                raise
    for dataset, found in names.items():
        first = next(iter(names))
        if found != names[first]:
            raise ValueError(f"{_describe_classes(first, names[first])}, but {_describe_classes(dataset, found)}")
        if wanted and wanted != len(found):
            raise ValueError(
                f"MODEL.CENTERNET.NUM_CLASSES is {wanted}, but {_describe_classes(dataset, found)}; "
                f"set it to {len(found)}, or to 0 to take it from the dataset"
            )
    if not wanted and not names:
        raise ValueError("MODEL.CENTERNET.NUM_CLASSES is 0 and DATASETS names no dataset to take it from")
    return wanted or len(next(iter(names.values())))


def _describe_classes(dataset: str, names: Sequence[str]) -> str:
    return describe_classes(f"dataset {dataset}", names)


def resolve_paths(*paths: str) -> tuple[str, ...]:
    """Paths as ``DATASETS.CUSTOM`` and tools mean them: relative ones start at ``DETECTRON2_DATASETS``.

    Where the first relative one is not there but is in the current folder, all of them start at that.
    """
    expanded = [os.path.expanduser(path) for path in paths]
    first = next((path for path in expanded if not os.path.isabs(path)), "")
    elsewhere = os.path.exists(first) and not os.path.exists(os.path.join(datasets_root(), first))
    return tuple(os.path.join("" if elsewhere else datasets_root(), path) for path in expanded)
