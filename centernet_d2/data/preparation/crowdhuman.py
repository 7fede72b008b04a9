"""CrowdHuman's odgt files (Shao et al. 2018): a line of JSON for each image, with three boxes for each person.

Boxes stay as they are, x, y, width, height, read as edges in continuous coordinates; full ones may reach out of the
image.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from centernet_d2.data.formats.image_files import NamedFiles, find_image, list_image_suffixes
from centernet_d2.data.formats.text import read_lines
from centernet_d2.data.image_io import CorruptImageError
from centernet_d2.data.preparation.conversion import Converted, Fields, Summary, convert, make_image_entry
from centernet_d2.data.validation.issues import AnnotationIssue, check_object, leaves_folder

#: Kind -> key of the box, name of the class.
BOXES = {"full": ("fbox", "person"), "visible": ("vbox", "person"), "head": ("hbox", "head")}
#: Published numbers of images.
SPLITS = {"train": 15000, "val": 4370}
_TAGS = ("person", "mask")


class Line(NamedTuple):
    """``number`` from 1, and the text of a line."""

    number: int
    text: str


def convert_crowdhuman(root: Path, boxes: str = "full") -> list[Summary]:
    """Write ``root/annotations/<split>.json``, ``<split>_<boxes>.json`` for the others, of the splits that are there.

    Args:
        root: has ``annotation_{train,val}.odgt``, and the images, ``<ID>.jpg`` or another suffix, at any depth.
        boxes: of ``BOXES``.

    Raises:
        FileNotFoundError: neither file is there.
        ValueError: one is not text.
    """
    odgt = {split: root / f"annotation_{split}.odgt" for split in SPLITS}
    present = {split: path for split, path in odgt.items() if path.is_file()}
    if not present:
        raise FileNotFoundError(f"there is neither {' nor '.join(path.name for path in odgt.values())} in {root}")
    files = NamedFiles(root)
    images = [path.relative_to(root) for path in root.rglob("*") if path.suffix.lower() in list_image_suffixes()]
    names = {path.stem: path.with_suffix("").as_posix() for path in sorted(images, reverse=True)}
    suffix = "" if boxes == "full" else f"_{boxes}"

    def convert_split(split: str, path: Path) -> Summary:
        return convert(
            _read_lines(path),
            lambda line: read_line(files, names, path, line, boxes),
            root / "annotations" / f"{split}{suffix}.json",
            [{"id": 1, "name": BOXES[boxes][1]}],
            known={"images": SPLITS[split]},
        )

    return [convert_split(split, path) for split, path in present.items()]


def read_line(files: NamedFiles, names: dict[str, str], path: Path, line: Line, boxes: str) -> Converted:
    """Return one image with its objects; invalid ones are left out and reported. Never raises for bad content.

    Crowds, ``iscrowd``, are those with the tag "mask", whole whatever ``boxes`` are, and what ``extra`` or, for heads,
    ``head_attr`` says to ignore.

    Args:
        files: those of the dataset's folder.
        names: ID -> its image relative to that folder, without suffix.
        path: of the odgt file, for messages.
    """
    try:
        content = json.loads(line.text)
        name, entries = content["ID"], content["gtboxes"]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        return Converted(
            issues=[AnnotationIssue(str(path), None, f"line {line.number}", f"has no ID and gtboxes: {error!r}")]
        )
    if not isinstance(name, str) or not isinstance(entries, list):
        return Converted(
            issues=[AnnotationIssue(str(path), None, f"line {line.number}", "ID is no text or gtboxes no list")]
        )
    if leaves_folder(name):
        return Converted(issues=[AnnotationIssue(name, None, "image", f"leads out of the folder {files.folder}")])
    try:
        image = make_image_entry(Path(files.folder), find_image(files, names.get(name, f"Images/{name}")))
    except CorruptImageError as error:
        return Converted(issues=[AnnotationIssue(f"Images/{name}.jpg", None, "image", error.reason)])
    objects, issues = [], []
    for number, entry in enumerate(entries, start=1):
        try:
            fields = _convert_object(entry, boxes)
        except _FieldError as error:
            issues.append(AnnotationIssue(name, number, *error.args))
            continue
        errors = check_object(fields, name, number, (image["height"], image["width"]), (1,), None)
        # One that reaches outside of the image is kept: it is cut when trained on.
        errors = [error for error in errors if error.fatal or not _is_visible(fields["bbox"], image)]
        issues += errors
        if not errors:
            objects.append({**fields, "area": fields["bbox"][2] * fields["bbox"][3]})
    return Converted(image, objects, issues)


class _FieldError(Exception):
    """Field and problem."""


def _read_lines(path: Path) -> list[Line]:
    return [Line(number, line) for number, line in enumerate(read_lines(path), start=1) if line.strip()]


def _convert_object(entry: Any, boxes: str) -> Fields:
    """Return an entry of "annotations" without its area; its box is still to be checked."""
    tag = entry.get("tag") if isinstance(entry, dict) else None
    if tag not in _TAGS:
        raise _FieldError("tag", f"is {tag!r}, not one of {', '.join(_TAGS)}")
    key = BOXES[boxes][0] if tag == "person" else "fbox"
    if key not in entry:
        raise _FieldError(key, "is missing")
    attributes = [entry.get(name, {}) for name in ("extra", *(["head_attr"] if boxes == "head" else []))]
    flags = [one.get("ignore", 0) if isinstance(one, dict) else None for one in attributes]
    if not all(flag in (0, 1) for flag in flags):
        raise _FieldError("ignore", f"is {flags}, not 0 or 1")
    return {"category_id": 1, "bbox": entry[key], "iscrowd": int(tag == "mask" or 1 in flags)}


def _is_visible(box: list[float], image: Fields) -> bool:
    """Whether any of x, y, width, height is inside of the image."""
    x, y, width, height = box
    return min(x + width, image["width"]) > max(x, 0) and min(y + height, image["height"]) > max(y, 0)
