"""WIDER FACE (Yang et al. 2016): one text file for each split, and the lists of faces that each difficulty counts.

Boxes stay as they are in the lists, x, y, width, height in whole pixels, read as edges in continuous coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from centernet_d2.data.formats.image_files import list_image_suffixes
from centernet_d2.data.formats.matlab import read_mat
from centernet_d2.data.formats.numbers import parse_digits, parse_number
from centernet_d2.data.formats.text import read_lines
from centernet_d2.data.image_io import CorruptImageError
from centernet_d2.data.preparation.conversion import Converted, Fields, Summary, convert, make_image_entry
from centernet_d2.data.validation.issues import AnnotationIssue, leaves_folder

#: The evaluation's, each with the largest faces of the next.
DIFFICULTIES = ("easy", "medium", "hard")
#: What the published files have; the lists' rows of zeros for images without faces are none.
KNOWN = {"train": {"images": 12880, "objects": 159420}, "val": {"images": 3226, "objects": 39708}}
#: Columns after x, y, width and height, and their largest values.
_FLAGS = {"blur": 2, "expression": 1, "illumination": 1, "invalid": 1, "occlusion": 2, "pose": 1}
_NO_DIFFICULTIES = "{} not there (eval_tools.zip): easy, medium and hard cannot be scored"


class Listed(NamedTuple):
    """An image of a list.

    Attributes:
        name: event and file, ``0--Parade/0_Parade_marchingband_1_849.jpg``.
        line: of the name in the list, from 1.
        total: the text of the line after it, the number of faces.
        rows: what follows, a face each.
        chosen: difficulty -> x, y, width, height of each face and whether it counts, 0 or 1.
    """

    name: str
    line: int
    total: str
    rows: tuple[str, ...]
    chosen: Mapping[str, list[list[float]]]


def convert_wider_face(root: Path) -> list[Summary]:
    """Write ``root/annotations/{train,val}.json``, of the splits whose list is there.

    Faces marked invalid, and those without area, are crowds: not trained on. With all of
    ``wider_{easy,medium,hard}_val.mat`` below ``root``, each face of "val" has "difficulties", those that count it.

    Args:
        root: has, at any depth, ``wider_face_<split>_bbx_gt.txt`` and ``WIDER_<split>/images``.

    Raises:
        FileNotFoundError: neither list is there, or not the images of one.
        ImportError: SciPy is needed and not installed.
        ValueError: a file cannot be understood.
    """
    lists = {split: _find(root, f"wider_face_{split}_bbx_gt.txt") for split in KNOWN}
    if not any(lists.values()):
        raise FileNotFoundError(f"there is neither wider_face_train_bbx_gt.txt nor wider_face_val_bbx_gt.txt in {root}")
    return [_convert_split(root, split, path) for split, path in lists.items() if path]


def _convert_split(root: Path, split: str, path: Path) -> Summary:
    folder = _find(root, f"WIDER_{split}/images")
    if folder is None:
        raise FileNotFoundError(f"there is no folder WIDER_{split}/images in {root}")
    mats = {name: _find(root, f"wider_{name}_val.mat") for name in DIFFICULTIES} if split == "val" else {}
    absent = [f"wider_{name}_val.mat" for name, mat in mats.items() if mat is None]
    chosen = {} if absent else {name: read_difficulty(mat) for name, mat in mats.items() if mat}
    listed = [
        one._replace(chosen={name: faces.get(one.name.rpartition(".")[0], []) for name, faces in chosen.items()})
        for one in read_list(path)
    ]
    summary = convert(
        listed,
        lambda one: read_image(root, folder.relative_to(root).as_posix(), path, one),
        root / "annotations" / f"{split}.json",
        [{"id": 1, "name": "face"}],
        options=str(folder),
        known=KNOWN[split],
    )
    if absent:
        summary.notes.append(_NO_DIFFICULTIES.format(f"{', '.join(absent)} {'is' if len(absent) == 1 else 'are'}"))
    return summary


def read_list(path: Path) -> Iterator[Listed]:
    """Yield the images of a ``wider_face_<split>_bbx_gt.txt``, without difficulties.

    Raises:
        ValueError: it is not such a list.
    """
    lines = [line.strip() for line in read_lines(path)]
    starts = [number for number, line in enumerate(lines) if Path(line).suffix.lower() in list_image_suffixes()]
    if not starts or any(lines[: starts[0]]):
        raise ValueError(f"{path} is not a list of WIDER FACE: its first line is {''.join(lines[:1])!r}, not an image")
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        total, *rows = [line for line in lines[start + 1 : end] if line] or [""]
        yield Listed(lines[start], start + 1, total, tuple(rows), {})


def read_difficulty(path: Path) -> dict[str, list[list[float]]]:
    """Return, by image (event and stem of the file), x, y, width, height of each face and whether it counts, 0 or 1.

    Args:
        path: of a ``wider_{easy,medium,hard}_val.mat``.

    Raises:
        ImportError: SciPy is not installed.
        ValueError: it is not such a file.
    """
    content = read_mat(path)
    try:
        columns = [content[key] for key in ("event_list", "file_list", "face_bbx_list", "gt_list")]
        result = {}
        for event, *cells in zip(*columns, strict=True):
            # A cell array of one is its element by now.
            images = [[cell] for cell in cells] if isinstance(cells[0], str) else cells
            for name, boxes, numbers in zip(*images, strict=True):
                faces = np.pad(np.asarray(boxes, dtype=np.float64).reshape(-1, 4), ((0, 0), (0, 1)))
                faces[np.asarray(numbers, dtype=np.int64).reshape(-1) - 1, 4] = 1
                result[f"{event}/{name}"] = faces.tolist()
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a difficulty of WIDER FACE: {error!r}") from error
    return result


def read_image(root: Path, folder: str, path: Path, one: Listed) -> Converted:
    """Return one image with its faces; invalid ones are left out and reported. Never raises for bad content.

    A face has the list's "blur", "expression", "illumination", "occlusion" and "pose", and "line", where it is there.

    Args:
        folder: of the images, relative to ``root``.
        path: the list, for messages.
    """
    rows = one.rows
    if one.total == "0" and [set(row.split()) for row in rows] == [{"0"}]:
        rows = ()
    if parse_digits(one.total) != len(rows):
        problem = f"of {one.name} is {one.total!r}, but {len(rows)} faces follow: the image is left out"
        return Converted(issues=[AnnotationIssue(str(path), one.line + 1, "number of faces", problem)])
    file_name = f"{folder}/{one.name}"
    if leaves_folder(file_name):
        return Converted(issues=[AnnotationIssue(file_name, None, "image", f"leads out of the folder {root}")])
    try:
        image = make_image_entry(root, file_name)
    except CorruptImageError as error:
        return Converted(issues=[AnnotationIssue(file_name, None, "image", error.reason)])
    faces = [_convert_face(row.split(), str(path), line) for line, row in enumerate(rows, start=one.line + 2)]
    issues = [error for _, errors in faces for error in errors]
    boxes = [fields["bbox"] if fields else None for fields, _ in faces]
    for difficulty, chosen in one.chosen.items() if rows else ():
        if len(chosen) != len(rows) or any(box and box != face[:4] for box, face in zip(boxes, chosen, strict=True)):
            problem = f"of {one.name} has other faces than the list: the image is left out"
            return Converted(issues=[*issues, AnnotationIssue(str(path), one.line, difficulty, problem)])
    objects = []
    for number, (fields, _) in enumerate(faces):
        if fields and one.chosen:
            fields["difficulties"] = [name for name, chosen in one.chosen.items() if chosen[number][4]]
        objects += [fields] if fields else []
    return Converted(image, objects, issues)


def _convert_face(words: list[str], file: str, line: int) -> tuple[Fields | None, list[AnnotationIssue]]:
    """Return a row as an entry of "annotations", or None, and its issues."""
    if len(words) != 4 + len(_FLAGS):
        return None, [AnnotationIssue(file, line, "line", f"has {len(words)} values, not {4 + len(_FLAGS)}")]
    x, y, width, height, *values = (parse_number(word) for word in words)
    flags = {name: int(value) for name, value in zip(_FLAGS, values, strict=True) if value in range(_FLAGS[name] + 1)}
    errors = [
        AnnotationIssue(file, line, name, f"is {word!r}, not a whole number from 0 to {_FLAGS[name]}")
        for name, word in zip(_FLAGS, words[4:], strict=True)
        if name not in flags
    ]
    if not all(map(math.isfinite, (x, y, width, height))):
        errors.append(AnnotationIssue(file, line, "bbox", f"is {' '.join(words[:4])}, not four finite numbers"))
    if errors:
        return None, errors
    invalid = flags.pop("invalid")
    if width <= 0 or height <= 0:
        # Listed all the same, because the evaluation numbers and may count it.
        errors = [AnnotationIssue(file, line, "bbox", f"{' '.join(words[:4])} has no area: the face is not trained on")]
    area, crowd = max(width, 0) * max(height, 0), int(invalid or bool(errors))
    return {
        "category_id": 1,
        "bbox": [x, y, width, height],
        "area": area,
        "iscrowd": crowd,
        "line": line,
        **flags,
    }, errors


def _find(root: Path, name: str) -> Path | None:
    return min(root.rglob(name), key=lambda path: (len(path.parts), path), default=None)
