"""KITTI's object benchmark (Geiger et al. 2012): a text file of labels and one of calibration for each image.

Boxes stay as they are in the labels, as edges x1, y1, x2, y2: both published evaluations and P2, which projects into
the same frame, take them so. Lengths are meters in camera coordinates, see ``centernet_d2.ops.box3d_geometry``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from centernet_d2.data.datasets.kitti import CLASS_NAMES, TYPES
from centernet_d2.data.formats.image_files import NamedFiles, find_image
from centernet_d2.data.formats.numbers import parse_number
from centernet_d2.data.formats.text import NotTextError, read_lines
from centernet_d2.data.image_io import CorruptImageError
from centernet_d2.data.preparation.conversion import Converted, Fields, Summary, convert, make_image_entry
from centernet_d2.data.validation.issues import AnnotationIssue, check_object
from centernet_d2.data.validation.missing import explain_missing

#: Split of the training images -> part -> number of images (Chen et al. 2015; Xiang et al. 2017).
SPLITS = {"3dop": {"train": 3712, "val": 3769}, "subcnn": {"train": 3682, "val": 3799}}
_NUMBERS = (
    *("truncated", "occluded", "alpha", "x1", "y1", "x2", "y2"),
    *("height", "width", "length", "x", "y", "z", "rotation_y"),
)
_OCCLUSIONS = (0, 1, 2, 3)
# Labels have two decimals.
_HALF_TURN = math.pi + 0.01


def convert_kitti(root: Path, lists: dict[str, Path]) -> list[Summary]:
    """Write ``root/annotations/<split>_{train,val}.json`` for each split of ``lists``.

    Args:
        root: has ``training/{image_2,label_2,calib}``, or each in ``data_object_<folder>/training``, as the archives
            unpack.
        lists: split ("3dop", "subcnn") -> folder with its ``train.txt`` and ``val.txt``, an image's number a line.

    Raises:
        FileNotFoundError: one of the folders or lists is not there, or ``lists`` is empty.
        ValueError: a list has something else than names.
    """
    if not lists:
        raise FileNotFoundError(f"{root} has neither ImageSets_3dop nor ImageSets_subcnn with train.txt and val.txt")
    folders = {name: _find_folder(root, name) for name in ("image_2", "label_2", "calib")}
    parts = [(split, part, known) for split in lists for part, known in SPLITS[split].items()]
    names = {(split, part): read_list(lists[split] / f"{part}.txt") for split, part, _ in parts}
    files = NamedFiles(root)
    return [
        convert(
            names[split, part],
            lambda name: read_kitti(files, folders, name),
            root / "annotations" / f"{split}_{part}.json",
            [{"id": number, "name": name} for number, name in enumerate(CLASS_NAMES, start=1)],
            options=repr(folders),
            known={"images": known},
        )
        for split, part, known in parts
    ]


def read_list(path: Path) -> list[str]:
    """Return the names of a list of images.

    Raises:
        FileNotFoundError: it is not there, or empty.
        ValueError: one of them is no name.
    """
    if not path.is_file():
        raise FileNotFoundError(f"the list of images {path} {explain_missing(path)}")
    names = [line.strip() for line in read_lines(path) if line.strip()]
    if not names:
        raise FileNotFoundError(f"the list of images {path} is empty")
    for name, count in Counter(names).items():
        if not name.isalnum() or count > 1:
            problem = f"{name!r}, which is not an image's number" if count == 1 else f"{name!r} {count} times"
            raise ValueError(f"the list of images {path} has {problem}")
    return names


def read_kitti(files: NamedFiles, folders: dict[str, str], name: str) -> Converted:
    """Return one image with its objects; invalid ones are left out and reported. Never raises for bad content.

    The image has "calib", the 3x4 matrix P2, and "ignored", the objects of other types than the classes. An object
    has "line", its place in the label file from 1; "truncated" 0 to 1; "occluded" 0 to 3; "alpha", "rotation_y"
    radians; "dim" height, width, length; "location" x, y, z; "depth" (its z); meters. DontCare regions have but
    "type", "line", "bbox".

    Args:
        files: those of the dataset's folder.
        folders: "image_2", "label_2" and "calib" -> where, relative to that folder.
    """
    root, image, label = Path(files.folder), f"{folders['image_2']}/{name}", f"{folders['label_2']}/{name}.txt"
    try:
        image = find_image(files, image, ".png")
        entry = make_image_entry(root, image, calib=_read_calibration(root, f"{folders['calib']}/{name}.txt"))
        lines = _read_lines(root, label)
    except CorruptImageError as error:
        return Converted(issues=[AnnotationIssue(image, None, "image", error.reason)])
    except _FieldError as error:
        return Converted(issues=[AnnotationIssue(*error.args)])
    objects, ignored, issues = [], [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        fields, errors = _convert_object(line.split(), label, number, (entry["height"], entry["width"]))
        issues += errors
        if fields and "category_id" in fields:
            objects.append(fields)
        elif fields:
            ignored.append(fields)
    return Converted({**entry, "ignored": ignored}, objects, issues)


class _FieldError(Exception):
    """What a ``AnnotationIssue`` has."""


def _find_folder(root: Path, name: str) -> str:
    for folder in (f"training/{name}", f"data_object_{name}/training/{name}"):
        if (root / folder).is_dir():
            return folder
    raise FileNotFoundError(f"{root} has neither training/{name} nor data_object_{name}.zip, unpacked or not")


def _read_lines(root: Path, file: str) -> list[str]:
    try:
        return read_lines(root / file)
    except FileNotFoundError:
        raise _FieldError(file, None, "file", explain_missing(root / file)) from None
    except NotTextError as error:
        raise _FieldError(file, None, "file", error.reason) from None


def _read_calibration(root: Path, file: str) -> list[list[float]]:
    """Return P2, of the left color camera, 3x4."""
    for line in _read_lines(root, file):
        name, _, values = line.partition(":")
        if name.strip() == "P2":
            numbers = [parse_number(value) for value in values.split()]
            if len(numbers) != 12 or not all(map(math.isfinite, numbers)):
                raise _FieldError(file, None, "P2", f"is {values.strip()!r}, not twelve finite numbers")
            return [numbers[row : row + 4] for row in (0, 4, 8)]
    raise _FieldError(file, None, "P2", "is missing")


def _convert_object(
    words: list[str], file: str, line: int, size: tuple[int, int]
) -> tuple[Fields | None, list[AnnotationIssue]]:
    """Return a label as an entry of "annotations" or of "ignored", or None, and its issues;
    ``size`` (height, width)."""
    if len(words) != 1 + len(_NUMBERS):
        return None, [AnnotationIssue(file, line, "line", f"has {len(words)} values, not {1 + len(_NUMBERS)}")]
    if words[0] not in TYPES:
        return None, [AnnotationIssue(file, line, "type", f"is {words[0]!r}, not one of {', '.join(TYPES)}")]
    values = dict(zip(_NUMBERS, map(parse_number, words[1:]), strict=True))
    x1, y1, x2, y2 = (values[name] for name in ("x1", "y1", "x2", "y2"))
    fields: Fields = {"line": line, "bbox": [x1, y1, x2 - x1, y2 - y1]}
    errors = check_object({**fields, "category_id": 1}, file, line, size, (1,), None)
    # A box that reaches outside of the image is kept: it is cut when trained on.
    errors = [
        error for error in errors if error.fatal or min(x2, size[1]) <= max(x1, 0) or min(y2, size[0]) <= max(y1, 0)
    ]
    if words[0] != "DontCare":
        errors += [AnnotationIssue(file, line, *error) for error in _check_values(values)]
        fields |= _convert_3d(values)
    if words[0].lower() in CLASS_NAMES:
        category = CLASS_NAMES.index(words[0].lower()) + 1
        fields |= {"category_id": category, "area": fields["bbox"][2] * fields["bbox"][3], "iscrowd": 0}
    else:
        fields["type"] = words[0]
    return None if errors else fields, errors


def _convert_3d(values: dict[str, float]) -> Fields:
    location = [values["x"], values["y"], values["z"]]
    dimensions = [values["height"], values["width"], values["length"]]
    shown = {name: values[name] for name in ("truncated", "alpha", "rotation_y")}
    occluded = int(values["occluded"]) if values["occluded"] in _OCCLUSIONS else None
    return {**shown, "occluded": occluded, "dim": dimensions, "location": location, "depth": values["z"]}


def _check_values(values: dict[str, float]) -> list[tuple[str, str]]:
    """Return field and problem of everything that is wrong, except the box's edges."""
    expected: list[tuple[tuple[str, ...], str, Callable[[float], bool]]] = [
        (("truncated",), "a fraction from 0 to 1", lambda x: 0 <= x <= 1),
        (("occluded",), "0, 1, 2 or 3", lambda x: x in _OCCLUSIONS),
        (("alpha", "rotation_y"), "an angle from -pi to pi", lambda x: abs(x) <= _HALF_TURN),
        (("height", "width", "length"), "a positive number of meters", lambda x: 0 < x < math.inf),
        (("x", "y", "z"), "a finite number", math.isfinite),
    ]
    return [
        (name, f"is {values[name]:g}, not {what}")
        for names, what, holds in expected
        for name in names
        if not holds(values[name])
    ]
