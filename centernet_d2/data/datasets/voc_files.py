"""Which files the lines of a Pascal VOC list mean."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable

from centernet_d2.data.formats.text import read_lines
from centernet_d2.data.validation.issues import AnnotationIssue, escapes
from centernet_d2.data.validation.missing import missing

# What annotation tools leave beside images; of other suffixes these are tried first, in this order.
_NO_IMAGES = frozenset(
    (
        *(".xml", ".txt", ".json", ".jsonl", ".csv", ".tsv", ".yaml", ".yml", ".md", ".html", ".npy", ".npz", ".mat"),
        *(".pkl", ".pts", ".lab", ".log", ".bak", ".tmp", ".svg", ".zip", ".lnk", ".ini", ".db", ".cfg", ".py"),
    )
)
_IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".jfif", ".avif", ".jp2", ".tga", ".ppm")
# A class's list has "name -1", "name  0" or "name  1" in each line.
_FLAGGED = re.compile(r"(.*\S)\s+(?:-1|0|1)")


class NamedFiles:
    """Files below ``folder`` by their names without suffix, in sub-folders, too; each is listed once."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._listed: dict[str, dict[str, list[str]]] = {}

    def find(self, name: str, fits: Callable[[str], bool]) -> list[str]:
        """Those called ``name`` (/ parts sub-folders) whose lower-case suffix fits, relative to the folder, sorted."""
        parent, stem = posixpath.split(name)
        if parent not in self._listed:
            path = os.path.join(self.folder, parent)
            entries: dict[str, list[str]] = {}
            for entry in sorted(os.listdir(path)) if os.path.isdir(path) else ():
                entries.setdefault(os.path.splitext(entry)[0], []).append(entry)
            self._listed[parent] = entries
        found = self._listed[parent].get(stem, [])
        return [posixpath.join(parent, entry) for entry in found if fits(os.path.splitext(entry)[1].lower())]


def find_annotation(annotations: NamedFiles, name: str) -> str:
    """The XML file of a name of the list; where there is none, what it should be."""
    found = annotations.find(name, lambda suffix: suffix == ".xml")
    return os.path.join(annotations.folder, found[0] if found else f"{name}.xml")


def find_image(images: NamedFiles, name: str, given: str) -> str:
    """The image of a name of the list; where there is none, what it should be.

    Args:
        given: the name of the file in the annotation, which decides where there are several.
    """
    found = images.find(name, lambda suffix: suffix not in _NO_IMAGES)

    def order(file: str) -> tuple[bool, int]:
        suffix = os.path.splitext(file)[1].lower()
        return posixpath.basename(file) != given, _IMAGES.index(suffix) if suffix in _IMAGES else len(_IMAGES)

    return os.path.join(images.folder, min(found, key=order) if found else f"{name}.jpg")


def read_split(root: str, split: str, annotations: NamedFiles) -> tuple[list[str], list[AnnotationIssue]]:
    """The names in ``ImageSets/Main/<split>.txt``, one a line, blanks and all; and which of them mean nothing.

    The numbers of a class's list are left away. A name that ends like them is taken for a name where its annotation is
    there.

    Raises:
        FileNotFoundError: the list is absent or empty.
        NotTextError: it is not text.
    """
    path = os.path.join(root, "ImageSets", "Main", f"{split}.txt")
    try:
        lines = [line.strip() for line in read_lines(path) if line.strip()]
    except FileNotFoundError:
        raise FileNotFoundError(f"the list {path} {missing(path)}") from None
    if not lines:
        raise FileNotFoundError(f"the list {path} is empty")

    def there(name: str) -> bool:
        return not escapes(name) and bool(annotations.find(name, lambda suffix: suffix == ".xml"))

    flagged = [match[1] if (match := _FLAGGED.fullmatch(line)) else None for line in lines]
    are_names = None in flagged or all(map(there, lines))
    names, issues = [], []
    for line, bare in zip(lines, flagged, strict=True):
        whole, part = there(line), bare is not None and there(bare)
        if whole and part and not are_names:
            problem = f"has {line!r}, which may be that annotation or a class's number for {bare!r}: rename one of them"
            issues.append(AnnotationIssue(path, None, "ImageSets", problem))
        elif escapes(line):
            issues.append(AnnotationIssue(line, None, "ImageSets", f"leads out of the folder {root}"))
        elif whole or not part:
            suffix_free = os.path.splitext(posixpath.basename(line.replace("\\", "/")))[0]
            if not whole and suffix_free != line and there(suffix_free):
                problem = f"has {line!r}, but names here have neither folder nor suffix: write {suffix_free!r}"
                issues.append(AnnotationIssue(path, None, "ImageSets", problem))
            else:
                names.append(line)
        else:
            names.append(str(bare))
    return names, issues
