"""Pascal VOC's XML: one file an image, boxes in whole pixels counted from 1, both ends inside."""

from __future__ import annotations

import math
import os
import xml.etree.ElementTree as ElementTree
from typing import NamedTuple

from centernet_d2.data.formats.plain_xml import parse_xml
from centernet_d2.data.validation.issues import AnnotationIssue


class VocObject(NamedTuple):
    """``number`` counts the file's objects from 1; ``bbox`` is x1, y1, x2, y2 in continuous image coordinates."""

    number: int
    name: str
    bbox: tuple[float, float, float, float]
    difficult: bool


class VocImage(NamedTuple):
    """``size`` is (height, width) in pixels, None where the file does not say."""

    size: tuple[int, int] | None
    objects: list[VocObject]


def read_voc_xml(file_name: str) -> tuple[VocImage, list[AnnotationIssue]]:
    """Read one file; objects with faults are left out and reported. Never raises for a bad or absent file."""
    nothing = VocImage(None, [])
    try:
        root = parse_xml(file_name)
    except FileNotFoundError:
        return nothing, [AnnotationIssue(file_name, None, "file", "does not exist")]
    except OSError as error:
        return nothing, [AnnotationIssue(file_name, None, "file", f"cannot be read: {error}")]
    except ValueError as error:
        return nothing, [AnnotationIssue(file_name, None, "file", str(error))]
    issues: list[AnnotationIssue] = []
    objects = []
    for number, element in enumerate(root.findall("object"), start=1):
        try:
            objects.append(_object(element, number))
        except _Fault as fault:
            issues.append(AnnotationIssue(file_name, number, fault.args[0], fault.args[1]))
    return VocImage(_size(root), objects), issues


class _Fault(Exception):
    """Field and problem."""


def _object(element: ElementTree.Element, number: int) -> VocObject:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise _Fault("name", "is missing")
    box = element.find("bndbox")
    if box is None:
        raise _Fault("bndbox", "is missing")
    values = [_number(box, field) for field in ("xmin", "ymin", "xmax", "ymax")]
    difficult = (element.findtext("difficult") or "0").strip()
    if difficult not in ("0", "1"):
        raise _Fault("difficult", f"is {difficult!r}, not 0 or 1")
    return VocObject(number, name, (values[0] - 1, values[1] - 1, values[2], values[3]), difficult == "1")


def _number(box: ElementTree.Element, field: str) -> float:
    text = box.findtext(field)
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _Fault(f"bndbox/{field}", "is missing" if text is None else f"is {text!r}, not a number")
    return value


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    try:
        height, width = int(root.findtext("size/height") or ""), int(root.findtext("size/width") or "")
    except ValueError:
        return None
    return (height, width) if height > 0 and width > 0 else None


def read_voc_names(folder: str) -> list[str]:
    """The class names used in any XML file of ``folder``, sorted; files that are not XML count as empty."""
    names: set[str] = set()
    for entry in os.scandir(folder):
        if entry.name.endswith(".xml"):
            image, _ = read_voc_xml(entry.path)
            names.update(found.name for found in image.objects)
    return sorted(names)
