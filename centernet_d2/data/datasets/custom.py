"""Datasets from ``DATASETS.CUSTOM``, and the number of classes that config and datasets must agree on.

An entry is a mapping or, shorter, the same four values in a list::

    {name: cats_train, type: coco, json_file: cats/train.json, image_root: cats/images}
    [cats_train, coco, cats/train.json, cats/images]

Types:
    * ``coco``, ``voc_json`` (COCO file, Pascal VOC's metric), ``video`` (with tracks), and the keypoint schemas
      (``face68``, ...): ``json_file``, ``image_root``. The keypoints that the categories of a ``coco`` file name are
      read, too (``datasets.own_keypoints``).
    * ``voc``, a folder in Pascal VOC's layout: ``root``, ``split``.
    * ``auto``, or a label format (``yolo``, ``labelme``, ...; ``formats.labels``): ``path`` of the folder or file, and
      ``split``, which may be ``all``.
    * ``crops``, one image for each object of another dataset: ``source``, ``margin`` (``datasets.crops``).

Relative paths start at ``DETECTRON2_DATASETS``, or at the current folder where only that has the file.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from centernet_d2.data.catalog import get_class_names, load_dataset_dicts
from centernet_d2.data.datasets.crops import register_crops
from centernet_d2.data.datasets.keypoint_sets import KEYPOINT_TYPES
from centernet_d2.data.datasets.label_folders import register_labels
from centernet_d2.data.datasets.mot import register_video
from centernet_d2.data.datasets.own_keypoints import KeypointSettings, register_own_coco
from centernet_d2.data.datasets.voc import register_voc
from centernet_d2.data.formats.labels import FORMATS
from centernet_d2.data.image_io import get_datasets_root, set_exif_orientation
from centernet_d2.structures.model_metadata import describe_classes


class _Type(NamedTuple):
    """A type of dataset: called with ``name`` and two strings, named by ``keys``; the first ``num_paths`` are paths.

    With ``own_keypoints`` it is also called with ``settings`` of keypoints.
    """

    register: Callable[..., None]
    keys: tuple[str, str] = ("json_file", "image_root")
    num_paths: int = 2
    own_keypoints: bool = False


_TYPES = {
    "coco": _Type(register_own_coco, own_keypoints=True),
    "voc_json": _Type(functools.partial(register_own_coco, evaluator_type="pascal_voc"), own_keypoints=True),
    "voc": _Type(register_voc, ("root", "split"), 1),
    **{
        name: _Type(functools.partial(register_labels, format_name=name), ("path", "split"), 1, own_keypoints=True)
        for name in ("auto", *FORMATS)
    },
    "crops": _Type(register_crops, ("source", "margin"), 0),
    "video": _Type(register_video),
    **{name: _Type(register) for name, register in KEYPOINT_TYPES.items()},
}
_REGISTERED: dict[str, tuple[str, str, str]] = {}
_SETTINGS: dict[str, KeypointSettings] = {}


def register_custom_datasets(cfg: CfgNode) -> None:
    """Register the datasets of ``DATASETS.CUSTOM``; no file is read. Calling it again changes nothing.

    Also sets ``INPUT.EXIF_ORIENTATION`` for this process.

    Raises:
        ValueError: an entry is malformed, or its name is that of another dataset.
    """
    set_exif_orientation(cfg.INPUT.EXIF_ORIENTATION)
    settings = KeypointSettings.from_config(cfg)
    for entry in cfg.DATASETS.CUSTOM:
        name, type_name, first, second = _parse_entry(entry)
        kind = _TYPES[type_name]
        paths, others = (first, second)[: kind.num_paths], (first, second)[kind.num_paths :]
        first, second = (*resolve_paths(*paths), *others)
        location = (type_name, first, second)
        if _REGISTERED.get(name) == location and _SETTINGS[name] == settings:
            continue
        if name in _REGISTERED:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        elif name in DatasetCatalog:
            raise ValueError(f"DATASETS.CUSTOM: the name {name!r} belongs to a built-in dataset, choose another")
        arguments = dict(zip(kind.keys, (first, second), strict=True))
        kind.register(name=name, **arguments, **({"settings": settings} if kind.own_keypoints else {}))
        _REGISTERED[name], _SETTINGS[name] = location, settings


def _parse_entry(entry: Any) -> tuple[str, str, str, str]:
    """Return name, type and the two values of an entry of ``DATASETS.CUSTOM``.

    Raises:
        ValueError: it is neither a mapping with the keys of its type nor four strings.
    """
    if isinstance(entry, Mapping):
        keys = ("name", "type", *_get_type(entry.get("name"), entry.get("type")).keys)
        if set(entry) != set(keys):
            raise ValueError(f"DATASETS.CUSTOM: {dict(entry)!r} must have the keys {', '.join(keys)}, and no others")
        entry = [entry[key] for key in keys]
        if keys[-1] == "margin" and isinstance(entry[-1], int | float):
            entry[-1] = str(entry[-1])
    if not isinstance(entry, list | tuple) or len(entry) != 4 or not all(isinstance(x, str) for x in entry):
        raise ValueError(
            f"DATASETS.CUSTOM: {entry!r} must be four strings (name, type, and two that depend on the type) or a "
            "mapping such as {name: ..., type: coco, json_file: ..., image_root: ...}"
        )
    name, type_name, first, second = entry
    _get_type(name, type_name)
    return name, type_name, first, second


def _get_type(name: Any, type_name: Any) -> _Type:
    if not isinstance(type_name, str) or type_name not in _TYPES:
        raise ValueError(f"DATASETS.CUSTOM: the type of {name!r} is {type_name!r}, not one of {', '.join(_TYPES)}")
    return _TYPES[type_name]


def get_location(name: str) -> tuple[str, str, str] | None:
    """Return type and the two values of a dataset from ``DATASETS.CUSTOM``; None for other datasets."""
    return _REGISTERED.get(name)


def read_category_ids(name: str) -> list[int]:
    """Return the category ids of a registered dataset's annotation file, in the order of the classes; [] if it has
    none.

    Call ``get_class_names`` first, which reads the file where it is needed.
    """
    type_name, source, _ = get_location(name) or ("", "", "")
    if type_name == "crops":
        return read_category_ids(source)
    metadata = MetadataCatalog.get(name)
    if type_name in KEYPOINT_TYPES and metadata.get("thing_dataset_id_to_contiguous_id") is None:
        # The schema has the class names but not the ids, so the file has to be read.
        with contextlib.suppress(OSError, ValueError):
            load_dataset_dicts(name)
    metadata = MetadataCatalog.get(name)
    ids = metadata.get("thing_dataset_id_to_contiguous_id") or {}
    one_each = sorted(ids.values()) == list(range(len(metadata.get("thing_classes", ()))))
    return sorted(ids, key=lambda number: ids[number]) if one_each else []


def resolve_num_classes(cfg: CfgNode) -> int:
    """Return ``MODEL.CENTERNET.NUM_CLASSES`` or, if that is 0, the number of classes of the datasets.

    With a number given, datasets without files are skipped: prediction needs no dataset.

    Raises:
        ValueError: the config and the datasets, or two datasets, disagree.
    """
    wanted = cfg.MODEL.CENTERNET.NUM_CLASSES
    names: dict[str, list[str]] = {}
    for dataset_name in dict.fromkeys((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)):
        try:
            names[dataset_name] = get_class_names(dataset_name)
        except FileNotFoundError:
            if not wanted:
                raise
    for dataset_name, classes in names.items():
        first = next(iter(names))
        if classes != names[first]:
            raise ValueError(f"{_describe(first, names[first])}, but {_describe(dataset_name, classes)}")
        if wanted and wanted != len(classes):
            raise ValueError(
                f"MODEL.CENTERNET.NUM_CLASSES is {wanted}, but {_describe(dataset_name, classes)}; "
                f"set it to {len(classes)}, or to 0 to take it from the dataset"
            )
    if not wanted and not names:
        raise ValueError("MODEL.CENTERNET.NUM_CLASSES is 0 and DATASETS names no dataset to take it from")
    return wanted or len(next(iter(names.values())))


def _describe(dataset_name: str, classes: Sequence[str]) -> str:
    return describe_classes(f"dataset {dataset_name}", classes)


def resolve_paths(*paths: str) -> tuple[str, ...]:
    """Resolve paths of ``DATASETS.CUSTOM`` and of tools: relative ones start at ``DETECTRON2_DATASETS``.

    If the first relative path exists in the current folder only, all of them start there.
    """
    expanded = [os.path.expanduser(path) for path in paths]
    first = next((path for path in expanded if not os.path.isabs(path)), "")
    elsewhere = os.path.exists(first) and not os.path.exists(os.path.join(get_datasets_root(), first))
    return tuple(os.path.join("" if elsewhere else get_datasets_root(), path) for path in expanded)
