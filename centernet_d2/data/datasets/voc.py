"""Reads Pascal VOC 2007 and 2012, and registers custom folders in their layout."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Sequence

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from centernet_d2.data.datasets.coco import set_metadata
from centernet_d2.data.datasets.voc_files import find_annotation, read_split
from centernet_d2.data.formats.image_files import NamedFiles, find_image
from centernet_d2.data.formats.voc_xml import read_voc_names, read_voc_xml
from centernet_d2.data.image_io import CorruptImageError, DatasetDict, read_image_size
from centernet_d2.data.validation.conversions import warn_conversions
from centernet_d2.data.validation.issues import AnnotationIssue, raise_issues
from centernet_d2.data.validation.missing import explain_missing
from centernet_d2.data.validation.object_boxes import BOX_ISSUES, settle_objects


def register_voc(name: str, root: str, split: str) -> None:
    """Register a folder in VOC's layout, scored with COCO's metric (difficult objects are ignored).

    Args:
        root: holds ``Annotations/*.xml``, ``JPEGImages/`` and ``ImageSets/Main/<split>.txt``.
    """
    DatasetCatalog.register(name, lambda: _load_custom_voc(name, root, split))
    MetadataCatalog.get(name).set(dirname=root, split=split, evaluator_type="coco")


def read_voc(root: str, split: str, class_names: Sequence[str]) -> tuple[list[DatasetDict], list[AnnotationIssue]]:
    """Read the dataset dicts in the order of the split's list, and the issues of the files (such objects are dropped).

    ``image_id`` is the stem of the file's name; difficult objects have ``iscrowd`` 1; boxes are x1, y1, x2, y2.

    Raises:
        FileNotFoundError: a folder or list of the layout is absent.
    """
    annotations, images = (NamedFiles(_find_folder(root, name)) for name in ("Annotations", "JPEGImages"))
    classes = {name: index for index, name in enumerate(class_names)}
    names, issues = read_split(root, split, annotations)
    dataset_dicts: list[DatasetDict] = []
    conversions: Counter[str] = Counter()
    for stem in names:
        xml = find_annotation(annotations, stem)
        image, errors = read_voc_xml(xml)
        conversions.update(image.conversions)
        dataset_dict: DatasetDict = {"image_id": stem}
        try:
            file_name = find_image(images, stem, annotated_name=image.file_name)
            dataset_dict["file_name"] = os.path.join(images.folder, file_name)
            dataset_dict["height"], dataset_dict["width"] = image.size or read_image_size(dataset_dict["file_name"])
        except CorruptImageError as error:
            if "file_name" in dataset_dict:
                problem = f"is not in {xml} and the image: {error.reason}"
                errors.append(AnnotationIssue(error.file_name, None, "size", problem))
            else:
                errors.append(AnnotationIssue(error.file_name, None, "image", error.reason))
        dataset_dict["annotations"] = []
        for one in image.objects:
            if one.name not in classes:
                errors.append(
                    AnnotationIssue(xml, one.number, "name", f"is {one.name!r}, none of {', '.join(class_names)}")
                )
                continue
            box = {"bbox": list(one.bbox), "bbox_mode": BoxMode.XYXY_ABS, "iscrowd": int(one.difficult)}
            dataset_dict["annotations"].append({"id": one.number, "category_id": classes[one.name], **box})
        issues += errors
        if "height" in dataset_dict:
            dataset_dicts.append(dataset_dict)
    _check_first_pixel(dataset_dicts, os.path.join(root, "Annotations"))
    settle_objects(dataset_dicts)
    warn_conversions(f"{root}, {split}", conversions)
    return dataset_dicts, issues


def _check_first_pixel(dataset_dicts: list[DatasetDict], folder: str) -> None:
    """Add one issue for labels that seem to count pixels from 0, in the first dataset dict with one."""
    boxes = [(dataset_dict, one["bbox"]) for dataset_dict in dataset_dicts for one in dataset_dict["annotations"]]
    zero = [dataset_dict for dataset_dict, box in boxes if -1 in box[:2]]
    if zero:
        problem = f"of {len(zero)} of {len(boxes)} objects have an xmin or ymin of 0, but Pascal VOC counts from 1: if"
        problem += " these labels count from 0, every box is learned one pixel too far left and too high"
        zero[0].setdefault(BOX_ISSUES, []).append(AnnotationIssue(folder, None, "bndbox", problem, fatal=False))


@functools.lru_cache(maxsize=8)
def read_voc_class_names(root: str) -> tuple[str, ...]:
    """Return the class names in all of ``Annotations``, sorted; the same for every split."""
    return tuple(read_voc_names(_find_folder(root, "Annotations")))


def _find_folder(root: str, name: str) -> str:
    folder = os.path.join(root, name)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"the folder {folder} {explain_missing(folder)}")
    return folder


def _load_custom_voc(name: str, root: str, split: str) -> list[DatasetDict]:
    class_names = read_voc_class_names(root)
    dataset_dicts, issues = read_voc(root, split, class_names)
    raise_issues(f"dataset {name}, {root}", issues)
    # The COCO file that the evaluator writes needs numbers.
    for number, dataset_dict in enumerate(dataset_dicts):
        dataset_dict["image_id"] = number
    values = {"dirname": root, "split": split, "evaluator_type": "coco", "thing_classes": list(class_names)}
    set_metadata(name, values)
    return dataset_dicts


def load_pascal_voc(name: str, root: str, split: str) -> list[DatasetDict]:
    """Load a split of Pascal VOC itself: difficult objects are kept for training, and marked "difficult"."""
    dataset_dicts, issues = read_voc(root, split, MetadataCatalog.get(name).thing_classes)
    raise_issues(f"dataset {name}, {root}", issues)
    for dataset_dict in dataset_dicts:
        for annotation in dataset_dict["annotations"]:
            annotation["difficult"], annotation["iscrowd"] = annotation["iscrowd"], 0
    return dataset_dicts
