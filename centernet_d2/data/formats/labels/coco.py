"""COCO's JSON in a folder: a file for each split, as Roboflow, CVAT and our own converter write it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from centernet_d2.data.formats.labels.json_file import find_json
from centernet_d2.data.formats.labels.label_set import LabelSet, copy_image
from centernet_d2.data.validation.conversions import convert_fields
from centernet_d2.data.validation.issues import AnnotationError

NAME = "coco_folder"
_SPLITS = ("train", "val", "test")


def recognize(path: Path) -> bool:
    return bool(_find_files(path))


def _find_files(path: Path) -> list[tuple[str, Path, dict[str, Any]]]:
    """Return split, file and content of the COCO files at ``path``, one level deep."""
    files = [path] if path.is_file() else sorted([*path.glob("*.json"), *path.glob("*/*.json")])
    found = []
    for file, data in find_json(files, _is_coco):
        name = f"{file.parent.name if file != path else ''}/{file.stem}"
        found.append((next((split for split in _SPLITS if split in name), ""), file, data))
    return found


def _is_coco(data: Any) -> bool:
    return isinstance(data, dict) and isinstance(data.get("images"), list) and "categories" in data


def read(path: Path) -> LabelSet:
    """Read a file, or all files of a folder; a split is recognized by "train", "val" or "test" in a file's or folder's
    name. Class names decide where ids differ between files. A list of images without "annotations" has no objects.

    Raises:
        AnnotationError: a file's lists are malformed.
    """
    files = _find_files(path)
    if not files:
        raise FileNotFoundError(f"{path} has no COCO file")
    root = path if path.is_dir() else path.parent
    result = LabelSet({"images": [], "annotations": [], "categories": []}, str(root))
    for split, file, data in files:
        _append(result, data, split if len(files) > 1 else "", file, root)
    return result


def _append(result: LabelSet, data: dict[str, Any], split: str, file: Path, root: Path) -> None:
    if "annotations" not in data:
        result.notes[f'{file.name} has no "annotations", so no objects'] += 1
    result.notes.update(convert_fields(data))
    known = {one["name"]: one for one in result.data["categories"]}
    try:
        classes = {}
        for one in data["categories"]:
            if one["name"] not in known:
                known[one["name"]] = {**one, "id": len(known) + 1}
                result.data["categories"].append(known[one["name"]])
            ours, theirs = known[one["name"]].get("keypoints") or [], one.get("keypoints") or []
            if ours != theirs:
                raise AnnotationError(f"{file}, categories: {one['name']} has the keypoints {theirs}, elsewhere {ours}")
            classes[one["id"]] = known[one["name"]]["id"]
        images = {}
        for one in data["images"]:
            images[one["id"]] = len(result.data["images"]) + 1
            place = _find_place(str(one["file_name"]), file, root, split)
            entry = {**one, "id": images[one["id"]], "file_name": place}
            result.data["images"].append({**entry, **({"split": split} if split else {})})
        for one in data.get("annotations", ()):
            changes = {"image_id": images[one["image_id"]], "category_id": classes[one["category_id"]]}
            result.data["annotations"].append({**one, "id": len(result.data["annotations"]) + 1, **changes})
    except (KeyError, TypeError) as error:
        raise AnnotationError(f"{file} is not a COCO file: an entry lacks or has a wrong {error}") from None


def _find_place(name: str, file: Path, root: Path, split: str) -> str:
    """Return the image's path relative to ``root``: beside the file, in ``images``, or in a folder of the split."""
    folders = (file.parent, file.parent / "images", root, root / "images", *(root.glob(f"*{split}*") if split else ()))
    found = next((folder / name for folder in folders if (folder / name).is_file()), file.parent / name)
    return os.path.relpath(found, root)


def write(labels: LabelSet, folder: Path) -> None:
    """Write ``<split>.json`` ("labels.json" without splits), with copies of the images in ``images/<split>``."""
    folder.mkdir(parents=True, exist_ok=True)
    categories = [{"skeleton": [], **one} if one.get("keypoints") else one for one in labels.data["categories"]]
    by_split: dict[str, tuple[list[Any], list[Any]]] = {}
    for image, objects in labels.list_objects():
        split = image.get("split", "")
        target = copy_image(labels, image, folder / "images" / split)
        images, annotations = by_split.setdefault(split, ([], []))
        images.append({**image, "file_name": target.relative_to(folder).as_posix()})
        annotations += objects
    for split, (images, annotations) in by_split.items():
        data = {**labels.data, "images": images, "annotations": annotations, "categories": categories}
        file = folder / f"{split or 'labels'}.json"
        file.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
