"""Finds the files that the lines of a Pascal VOC list name."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable

from centernet_d2.data.formats.text import read_lines
from centernet_d2.data.validation.issues import AnnotationIssue, escapes
from centernet_d2.data.validation.missing import missing

# Suffixes of files that annotation tools leave beside images.
_NO_IMAGES = frozenset(
    (
        *(".xml", ".txt", ".json", ".jsonl", ".csv", ".tsv", ".yaml", ".yml", ".md", ".html", ".npy", ".npz", ".mat"),
        *(".pkl", ".pts", ".lab", ".log", ".bak", ".tmp", ".svg", ".zip", ".lnk", ".ini", ".db", ".cfg", ".py"),
    )
)
# Suffixes of images in the order of preference; any other comes last.
_IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".jfif", ".avif", ".jp2", ".tga", ".ppm")
# A class's list of images has "name -1", "name  0" or "name  1" in each line.
_CLASS_LIST_LINE = re.compile(r"(.*\S)\s+(?:-1|0|1)")


class NamedFiles:
    """Finds files below ``folder`` by name without suffix, sub-folders included; each folder is listed once."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._listed: dict[str, dict[str, list[str]]] = {}

    def find(self, name: str, fits: Callable[[str], bool]) -> list[str]:
        """Find the files called ``name`` (with / for sub-folders) whose lower-case suffix fits; relative paths,
        sorted."""
        parent, stem = posixpath.split(name)
        if parent not in self._listed:
            path = os.path.join(self.folder, parent)
            entries: dict[str, list[str]] = {}
            for entry in sorted(os.listdir(path)) if os.path.isdir(path) else ():
                entries.setdefault(os.path.splitext(entry)[0], []).append(entry)
            self._listed[parent] = entries
        names = self._listed[parent].get(stem, [])
        return [posixpath.join(parent, entry) for entry in names if fits(os.path.splitext(entry)[1].lower())]


def find_annotation(annotations: NamedFiles, name: str) -> str:
    """The XML file of a name of the list; if there is none, the path that it should have."""
    files = annotations.find(name, lambda suffix: suffix == ".xml")
    return os.path.join(annotations.folder, files[0] if files else f"{name}.xml")


def find_image(images: NamedFiles, name: str, annotated_name: str) -> str:
    """The image of a name of the list; if there is none, the path that it should have.

    Args:
        annotated_name: the file name in the annotation, which decides if there are several images.
    """
    files = images.find(name, lambda suffix: suffix not in _NO_IMAGES)

    def order(file: str) -> tuple[bool, int]:
        suffix = os.path.splitext(file)[1].lower()
        return posixpath.basename(file) != annotated_name, _IMAGES.index(suffix) if suffix in _IMAGES else len(_IMAGES)

    return os.path.join(images.folder, min(files, key=order) if files else f"{name}.jpg")


def read_split(root: str, split: str, annotations: NamedFiles) -> tuple[list[str], list[AnnotationIssue]]:
    """Read the names in ``ImageSets/Main/<split>.txt``, one per line, and the issues of unclear lines.

    Names may contain blanks. The flags of a class's list are dropped, unless an annotation has the whole line as its
    name.

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

    def exists(name: str) -> bool:
        return not escapes(name) and bool(annotations.find(name, lambda suffix: suffix == ".xml"))

    without_flag = [match[1] if (match := _CLASS_LIST_LINE.fullmatch(line)) else None for line in lines]
    are_names = None in without_flag or all(map(exists, lines))
    names, issues = [], []
    for line, bare in zip(lines, without_flag, strict=True):
        whole, part = exists(line), bare is not None and exists(bare)
        if whole and part and not are_names:
            problem = f"has {line!r}, which may be that annotation or a class's number for {bare!r}: rename one of them"
            issues.append(AnnotationIssue(path, None, "ImageSets", problem))
        elif escapes(line):
            issues.append(AnnotationIssue(line, None, "ImageSets", f"leads out of the folder {root}"))
        elif whole or not part:
            suffix_free = os.path.splitext(posixpath.basename(line.replace("\\", "/")))[0]
            if not whole and suffix_free != line and exists(suffix_free):
                problem = f"has {line!r}, but names have neither folder nor suffix: write {suffix_free!r}"
                issues.append(AnnotationIssue(path, None, "ImageSets", problem))
            else:
                names.append(line)
        else:
            names.append(str(bare))
    return names, issues
