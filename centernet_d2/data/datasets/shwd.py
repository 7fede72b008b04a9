"""Registers the Safety-Helmet-Wearing-Dataset (SHWD): heads with and without a helmet, in Pascal VOC's layout."""

from __future__ import annotations

import functools
import logging
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from centernet_d2.data.datasets.coco import set_metadata
from centernet_d2.data.datasets.voc import read_voc
from centernet_d2.data.image_io import DatasetDict
from centernet_d2.data.validation.issues import raise_issues

#: A head with a helmet; a head without.
CLASS_NAMES = ("hat", "person")
_METADATA: dict[str, Any] = {"thing_classes": list(CLASS_NAMES), "evaluator_type": "pascal_voc"}
_logger = logging.getLogger(__name__)


def register_shwd(name: str, root: str, split: str) -> None:
    """Register a split of ``root``, the unpacked archive."""
    DatasetCatalog.register(name, functools.partial(load_shwd, name, root, split))
    MetadataCatalog.get(name).set(dirname=root, split=split, **_METADATA)


def load_shwd(name: str, root: str, split: str) -> list[DatasetDict]:
    """Load the dataset dicts of ``read_voc``, with numbers for ``image_id``.

    Objects of other classes are dropped with a warning: the first release has four labeled "dog".

    Raises:
        FileNotFoundError: the layout is not there.
        AnnotationError: the first other errors, each with file, object and field.
    """
    dataset_dicts, issues = read_voc(root, split, CLASS_NAMES)
    for issue in (issue for issue in issues if issue.field == "name"):
        _logger.warning("Dropped: %s", issue)
    raise_issues(f"dataset {name}, {root}", (issue for issue in issues if issue.field != "name"))
    for number, dataset_dict in enumerate(dataset_dicts):
        dataset_dict["image_id"] = number
    set_metadata(name, {"dirname": root, "split": split, **_METADATA})
    return dataset_dicts
