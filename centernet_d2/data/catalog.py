"""Registered datasets: their dataset dicts and class names, with clear errors."""

from __future__ import annotations

import difflib
import os

from detectron2.data import DatasetCatalog, MetadataCatalog

from centernet_d2.data.image_io import DatasetDict, datasets_root, exif_orientation
from centernet_d2.data.validation.box_units import check_shares
from centernet_d2.data.validation.issues import raise_issues
from centernet_d2.data.validation.object_boxes import settle_objects


def load_dataset_dicts(name: str) -> list[DatasetDict]:
    """The dataset dicts of a registered dataset, of whatever origin, after ``settle_objects``.

    Raises:
        KeyError: no such name; the message has the closest ones.
        FileNotFoundError: its files are not there.
        AnnotationError: its annotations cannot be used (sets from ``DATASETS.CUSTOM`` and Pascal VOC), or are not in
            pixels.
    """
    if name not in DatasetCatalog:
        close = ", ".join(difflib.get_close_matches(name, DatasetCatalog.list(), n=3)) or "none is similar"
        raise KeyError(f"there is no dataset {name!r} ({close}); add your own through DATASETS.CUSTOM")
    try:
        dataset_dicts = DatasetCatalog.get(name)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"dataset {name}: {error} (datasets are looked for in {os.path.abspath(datasets_root())}, "
            "set DETECTRON2_DATASETS to change that; datasets/README.md shows the layout)"
        ) from None
    settle_objects(dataset_dicts)
    raise_issues(f"dataset {name}", check_shares(dataset_dicts))
    if exif_orientation({}):
        return dataset_dicts
    # In the dataset dicts, so that worker processes know.
    return [{"exif_orientation": False, **dataset_dict} for dataset_dict in dataset_dicts]


def class_names(name: str) -> list[str]:
    """Of a registered dataset; its files are read where they alone know.

    Raises:
        ValueError: the set does not say; and the errors of ``load_dataset_dicts``.
    """
    if name not in DatasetCatalog or not MetadataCatalog.get(name).get("thing_classes"):
        load_dataset_dicts(name)
    names = MetadataCatalog.get(name).get("thing_classes")
    if not names:
        raise ValueError(f"dataset {name} does not say its class names (MetadataCatalog thing_classes)")
    return list(names)
