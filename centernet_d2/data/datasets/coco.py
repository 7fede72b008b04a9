"""Reads and registers COCO-format files. (Detectron2 registers COCO itself.)"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from centernet_d2.data.formats.coco_keypoints import complete_keypoints, make_missing_box
from centernet_d2.data.formats.coco_segmentation import BAD_SEGMENTATION, select_usable
from centernet_d2.data.formats.text import NotTextError, has_mark, read_text
from centernet_d2.data.image_io import DatasetDict
from centernet_d2.data.validation.conversions import convert_fields, warn_conversions
from centernet_d2.data.validation.issues import (
    AnnotationError,
    AnnotationIssue,
    check_image_entry,
    check_object,
    is_integer,
    is_number,
    leaves_folder,
    raise_issues,
)
from centernet_d2.data.validation.missing import explain_missing
from centernet_d2.data.validation.object_boxes import settle_objects
from centernet_d2.geometry import from_pixel_index

_BOX_MADE = "is missing, made from the keypoints"


@dataclass
class CocoFile:
    """The content of a COCO file.

    Attributes:
        dataset_dicts: Detectron2's, in the order of "images", plus an image's "subset" if it has one, a name that
            evaluators may group by. Objects and images with fatal issues are dropped; ``settle_objects`` has been
            applied. Boxes are x, y, width, height in image pixels; keypoints are in continuous coordinates.
        class_names: in the order of the category ids.
        categories: entries of the file, in the same order.
        dataset_ids: category id to class, 0, 1, ...
        issues: the fatal ones and boxes that were made; ``check_annotations`` finds the others in the dataset dicts.
        scores_itself: whether pycocotools can evaluate on this file as it is.
    """

    dataset_dicts: list[DatasetDict]
    class_names: list[str]
    dataset_ids: dict[int, int]
    issues: list[AnnotationIssue]
    scores_itself: bool
    categories: list[dict[str, Any]] = field(default_factory=list)


def register_coco(name: str, metadata: dict[str, Any], json_file: str, image_root: str) -> None:
    """Register a COCO-format dataset, with the arguments of Detectron2's ``register_coco_instances``; the file is read
    at first use.

    The category ids may be any integers; dataset dicts number the classes from 0 in the order of the ids.

    Args:
        metadata: ``evaluator_type`` ("coco" if absent), and ``thing_classes`` if known without the file, with category
            ids from 1; otherwise the file gives them.
    """
    values = {"evaluator_type": "coco", **metadata}
    if "thing_classes" in values:
        values["thing_dataset_id_to_contiguous_id"] = count_from_1(values["thing_classes"])
    DatasetCatalog.register(name, lambda: load_coco(name, json_file, image_root, values["evaluator_type"]))
    MetadataCatalog.get(name).set(image_root=image_root, **values)


def count_from_1(class_names: Sequence[str]) -> dict[int, int]:
    """Map category ids 1, 2, ... to classes 0, 1, ..., for ``thing_dataset_id_to_contiguous_id``."""
    return {index + 1: index for index in range(len(class_names))}


def load_coco(name: str, json_file: str, image_root: str, evaluator_type: str = "coco") -> list[DatasetDict]:
    """Load the dataset dicts and set the metadata of ``name``.

    Raises:
        FileNotFoundError: no such file.
        AnnotationError: the first errors, each with file, annotation id and field.
    """
    coco = read_coco(json_file, image_root)
    raise_issues(f"dataset {name}, {json_file}", coco.issues)
    set_coco_metadata(name, coco, json_file, {"image_root": image_root, "evaluator_type": evaluator_type})
    return coco.dataset_dicts


def read_coco(json_file: str, image_root: str, box_margin: float = 0.1) -> CocoFile:
    """Read and check a COCO file.

    Args:
        box_margin: of boxes that are missing and made from the keypoints (``formats.coco_keypoints``).

    Raises:
        FileNotFoundError: no such file.
        AnnotationError: not JSON, or not a COCO file at all.
    """
    data, conversions = _read_json(json_file)
    coco = check_coco(data, conversions, json_file, image_root, box_margin)
    coco.scores_itself &= not has_mark(json_file)
    return coco


def check_coco(
    data: dict[str, list[Any]], conversions: Counter[str], json_file: str, image_root: str, box_margin: float = 0.1
) -> CocoFile:
    """Check the content of a COCO file, as :func:`read_coco` does; ``data`` is changed.

    Args:
        conversions: counts of what was converted already; none may be left out, because pycocotools cannot use the file
            then.
        json_file: name of the file in messages.
    """
    categories, issues = _read_categories(data["categories"], json_file)
    has_boxes = any(isinstance(annotation, dict) and annotation.get("bbox") for annotation in data["annotations"])
    dataset_ids = {number: index for index, number in enumerate(sorted(categories))}
    images = _read_images(data["images"], json_file, image_root, issues)
    scores_itself, seen = True, Counter[Any]()
    for position, annotation in enumerate(data["annotations"], start=1):
        if not isinstance(annotation, dict):
            issues.append(
                AnnotationIssue(json_file, f"number {position} of the list", "annotation", "is not an object")
            )
            continue
        number, image_id = annotation.get("id"), annotation.get("image_id")
        dataset_dict = images.get(image_id) if is_integer(image_id) else None
        file = os.path.relpath(dataset_dict["file_name"], image_root) if dataset_dict else json_file
        shown = number if is_integer(number) else f"number {position} of the list"
        size = (dataset_dict["height"], dataset_dict["width"]) if dataset_dict else (None, None)
        count = _count_keypoints(annotation, categories)
        conversions.update(complete_keypoints(annotation, count))
        if make_missing_box(annotation, box_margin):
            conversions["bbox of annotations " + _BOX_MADE] += 1
            # Where others have a box, this is an omission.
            issues += [AnnotationIssue(file, shown, "bbox", _BOX_MADE, fatal=False)] if has_boxes else []
        errors = check_object(annotation, file, shown, size, categories, count)
        errors = [issue for issue in errors if issue.fatal]
        if not is_integer(number):
            errors.append(AnnotationIssue(file, shown, "id", f"is {number!r}, not an integer"))
        elif seen[number]:
            errors.append(AnnotationIssue(file, shown, "id", "is used twice"))
        seen[shown] += 1
        if dataset_dict is None:
            errors.append(AnnotationIssue(file, shown, "image_id", f"is {image_id!r}, but there is no such image"))
        elif not errors:
            dataset_dict["annotations"].append(_convert_annotation(annotation, dataset_ids))
            scores_itself &= _is_complete(annotation)
        issues += errors
    warn_conversions(json_file, conversions)
    settle_objects(images.values())
    names = [categories[number]["name"] for number in dataset_ids]
    ordered = [categories[number] for number in dataset_ids]
    return CocoFile(list(images.values()), names, dataset_ids, issues, scores_itself and not conversions, ordered)


def set_coco_metadata(name: str, coco: CocoFile, json_file: str, extra: dict[str, Any]) -> None:
    """Set or replace the metadata of a dataset that takes its classes from the file."""
    classes = {"thing_classes": coco.class_names, "thing_dataset_id_to_contiguous_id": coco.dataset_ids}
    # Without json_file, Detectron2's evaluator writes a complete file from the dataset dicts.
    file = {"json_file": json_file} if coco.scores_itself else {}
    if not file and MetadataCatalog.get(name).get("json_file"):
        MetadataCatalog.remove(name)
    set_metadata(name, {**classes, **file, **extra})


def set_metadata(name: str, values: dict[str, Any]) -> None:
    """Set the metadata of a dataset, or replace it if the files have changed since."""
    metadata = MetadataCatalog.get(name)
    if any(metadata.get(key, value) != value for key, value in values.items()):
        MetadataCatalog.remove(name)
    MetadataCatalog.get(name).set(**values)


def read_coco_json(json_file: str) -> dict[str, list[Any]]:
    """Read the file with the lists "images", "categories" and "annotations"; text that is a number becomes one.

    Raises:
        FileNotFoundError: no such file.
        AnnotationError: not text, not JSON, no such lists, or no images.
    """
    return _read_json(json_file)[0]


def _read_json(json_file: str) -> tuple[dict[str, list[Any]], Counter[str]]:
    """Return the content, and counts of what was converted (``convert_fields``)."""
    try:
        data = json.loads(read_text(json_file))
    except FileNotFoundError:
        raise FileNotFoundError(f"the annotation file {json_file} {explain_missing(json_file)}") from None
    except NotTextError as error:
        raise AnnotationError(str(error)) from None
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{json_file} is not JSON: {error}") from None
    for key in ("images", "categories", "annotations"):
        if not isinstance(data, dict) or not isinstance(data.get(key), list):
            raise AnnotationError(f'{json_file} is not a COCO file: it has no list "{key}"')
    if not data["images"]:
        raise AnnotationError(f"{json_file} lists no images")
    return data, convert_fields(data)


def _read_categories(entries: list[Any], json_file: str) -> tuple[dict[int, dict[str, Any]], list[AnnotationIssue]]:
    categories: dict[int, dict[str, Any]] = {}
    issues = []
    for entry in entries:
        number = entry.get("id") if isinstance(entry, dict) else None
        if not is_integer(number) or not isinstance(entry.get("name"), str):
            problem = f"has the entry {str(entry)[:80]}, not one with an integer id and a name"
        elif number in categories:
            problem = f"uses the id {number} twice ({categories[number]['name']}, {entry['name']})"
        else:
            categories[number] = entry
            continue
        issues.append(AnnotationIssue(json_file, None, "categories", problem))
    for name, count in Counter(entry["name"] for entry in categories.values()).items():
        if count > 1:
            issues.append(AnnotationIssue(json_file, None, "categories", f"uses the name {name!r} {count} times"))
    if not entries:
        issues.append(AnnotationIssue(json_file, None, "categories", "is empty"))
    return categories, issues


def _read_images(
    entries: list[Any], json_file: str, image_root: str, issues: list[AnnotationIssue]
) -> dict[int, DatasetDict]:
    images: dict[int, DatasetDict] = {}
    for entry in entries:
        errors = check_image_entry(entry, json_file)
        if isinstance(entry, dict):
            name, number = entry.get("file_name"), entry.get("id")
            if not is_integer(number):
                errors.append(AnnotationIssue(str(name), None, "id", f"is {number!r}, not an integer"))
            elif number in images:
                errors.append(AnnotationIssue(str(name), None, "id", f"is {number}, as that of another image"))
            # Absolute names are allowed, as in Detectron2.
            if isinstance(name, str) and not os.path.isabs(name) and leaves_folder(name):
                errors.append(AnnotationIssue(name, None, "file_name", f"leads out of the folder {image_root}"))
        issues += errors
        if not errors:
            path = os.path.join(image_root, entry["file_name"])
            size = {"height": entry["height"], "width": entry["width"]}
            images[entry["id"]] = {"file_name": path, "image_id": entry["id"], **size, "annotations": []}
            if isinstance(entry.get("subset"), str):
                images[entry["id"]]["subset"] = entry["subset"]
    return images


def _count_keypoints(annotation: Any, categories: dict[int, dict[str, Any]]) -> int | None:
    number = annotation.get("category_id") if isinstance(annotation, dict) else None
    names = categories.get(number, {}).get("keypoints") if is_integer(number) else None
    return len(names) if isinstance(names, list) and names else None


def _is_complete(annotation: dict[str, Any]) -> bool:
    """Whether pycocotools scores this object correctly: it takes id 0 for no match, and needs the other fields."""
    complete = annotation["id"] > 0 and is_number(annotation.get("area")) and "iscrowd" in annotation
    return complete and "ignore" not in annotation and ("num_keypoints" in annotation or "keypoints" not in annotation)


def _convert_annotation(annotation: dict[str, Any], dataset_ids: dict[int, int]) -> dict[str, Any]:
    result = {
        "id": annotation["id"],
        "bbox": annotation["bbox"],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": dataset_ids[annotation["category_id"]],
        # "ignore" marks Pascal VOC's difficult objects in some COCO files.
        "iscrowd": int(bool(annotation.get("iscrowd", 0) or annotation.get("ignore", 0))),
    }
    for key in ("difficulties", "extreme_points"):  # difficulties: of WIDER FACE
        if key in annotation:
            result[key] = annotation[key]
    if annotation.get("segmentation"):
        usable = select_usable(annotation["segmentation"])
        # Detectron2 fails on any other "segmentation". A task that needs it reports the annotation.
        result["segmentation" if usable else BAD_SEGMENTATION] = usable or annotation["segmentation"]
    if "keypoints" in annotation:
        result["keypoints"] = points = list(annotation["keypoints"])
        for i in range(0, len(points), 3):
            if points[i + 2]:  # unlabeled points have no position, and a clothing item has 260 of them
                points[i : i + 2] = map(from_pixel_index, points[i : i + 2])
    return result
