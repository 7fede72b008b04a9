"""Finds the files that the lines of a Pascal VOC list name."""

from __future__ import annotations

import os
import posixpath
import re

from centernet_d2.data.formats.image_files import NamedFiles
from centernet_d2.data.formats.text import read_lines
from centernet_d2.data.validation.issues import AnnotationIssue, leaves_folder
from centernet_d2.data.validation.missing import explain_missing

# A class's list of images has "name -1", "name  0" or "name  1" in each line.
_CLASS_LIST_LINE = re.compile(r"(.*\S)\s+(?:-1|0|1)")


def find_annotation(annotations: NamedFiles, name: str) -> str:
    """Return the XML file of a name of the list; if there is none, the path that it should have."""
    files = annotations.find(name, (".xml",))
    return os.path.join(annotations.folder, files[0] if files else f"{name}.xml")


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
        raise FileNotFoundError(f"the list {path} {explain_missing(path)}") from None
    if not lines:
        raise FileNotFoundError(f"the list {path} is empty")

    def exists(name: str) -> bool:
        return not leaves_folder(name) and bool(annotations.find(name, (".xml",)))

    without_flag = [match[1] if (match := _CLASS_LIST_LINE.fullmatch(line)) else None for line in lines]
    are_names = None in without_flag or all(map(exists, lines))
    names, issues = [], []
    for line, bare in zip(lines, without_flag, strict=True):
        whole, part = exists(line), bare is not None and exists(bare)
        if whole and part and not are_names:
            problem = f"has {line!r}, which may be that annotation or a class's number for {bare!r}: rename one of them"
            issues.append(AnnotationIssue(path, None, "ImageSets", problem))
        elif leaves_folder(line):
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
