"""Loads the dataset dicts and class names of registered datasets, with clear errors."""

from __future__ import annotations

import difflib
import os

from detectron2.data import DatasetCatalog, MetadataCatalog

from centernet_d2.data.image_io import DatasetDict, get_datasets_root, uses_exif_orientation
from centernet_d2.data.validation.box_units import check_fractions
from centernet_d2.data.validation.issues import raise_issues
from centernet_d2.data.validation.object_boxes import settle_objects


def load_dataset_dicts(name: str) -> list[DatasetDict]:
    """Load the dataset dicts of any registered dataset, after ``settle_objects``.

    Raises:
        KeyError: no such dataset; the message names the closest ones.
        FileNotFoundError: its files are absent.
        AnnotationError: its annotations cannot be used (datasets from ``DATASETS.CUSTOM`` and Pascal VOC), or are not
            in pixels.
    """
    if name not in DatasetCatalog:
        close = ", ".join(difflib.get_close_matches(name, DatasetCatalog.list(), n=3)) or "none is similar"
        raise KeyError(f"there is no dataset {name!r} ({close}); add your own through DATASETS.CUSTOM")
    try:
        dataset_dicts = DatasetCatalog.get(name)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"dataset {name}: {error} (datasets are looked for in {os.path.abspath(get_datasets_root())}, "
            "set DETECTRON2_DATASETS to change that; datasets/README.md shows the layout)"
        ) from None
    settle_objects(dataset_dicts)
    raise_issues(f"dataset {name}", check_fractions(dataset_dicts))
    if uses_exif_orientation({}):
        return dataset_dicts
    # Set in the dataset dicts, so that worker processes have it, too.
    return [{"exif_orientation": False, **dataset_dict} for dataset_dict in dataset_dicts]


def get_class_names(name: str) -> list[str]:
    """Return the class names of a registered dataset; reads its files if only they have them.

    Raises:
        ValueError: the dataset has no class names; and the errors of ``load_dataset_dicts``.
    """
    if name not in DatasetCatalog or not MetadataCatalog.get(name).get("thing_classes"):
        load_dataset_dicts(name)
    names = MetadataCatalog.get(name).get("thing_classes")
    if not names:
        raise ValueError(f"dataset {name} does not say its class names (MetadataCatalog thing_classes)")
    return list(names)
