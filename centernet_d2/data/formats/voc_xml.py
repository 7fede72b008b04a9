"""Pascal VOC's XML: one file an image, boxes in whole pixels counted from 1, both ends inside."""

from __future__ import annotations

import math
import os
import xml.etree.ElementTree as ElementTree
from typing import NamedTuple

from centernet_d2.data.formats.numbers import parse_integer, parse_number
from centernet_d2.data.formats.plain_xml import parse_xml
from centernet_d2.data.validation.issues import AnnotationIssue
from centernet_d2.data.validation.missing import explain_missing

# What tools write for it; labelImg's default for a pose gets here, too.
_DIFFICULT = {
    **dict.fromkeys(("0", "0.0", "false", "no", "none", "unspecified"), 0),
    **dict.fromkeys(("1", "1.0", "true", "yes"), 1),
}


class VocObject(NamedTuple):
    """``number`` counts the file's objects from 1; ``bbox`` is x1, y1, x2, y2 in continuous image coordinates."""

    number: int
    name: str
    bbox: tuple[float, float, float, float]
    difficult: bool


class VocImage(NamedTuple):
    """What a file holds.

    Attributes:
        size: (height, width) in pixels, None where the file does not say.
        file_name: of the image, "" where the file does not say; many tools write a wrong one.
        conversions: a text for each value that was read as another.
    """

    size: tuple[int, int] | None
    objects: list[VocObject]
    file_name: str = ""
    conversions: tuple[str, ...] = ()


def read_voc_xml(file_name: str) -> tuple[VocImage, list[AnnotationIssue]]:
    """Read one file; objects with errors are left out and reported. Never raises for a bad or absent file."""
    nothing = VocImage(None, [])
    try:
        root = parse_xml(file_name)
    except FileNotFoundError:
        return nothing, [AnnotationIssue(file_name, None, "file", explain_missing(file_name))]
    except OSError as error:
        return nothing, [AnnotationIssue(file_name, None, "file", f"cannot be read: {error}")]
    except ValueError as error:
        return nothing, [AnnotationIssue(file_name, None, "file", str(error))]
    issues: list[AnnotationIssue] = []
    objects: list[VocObject] = []
    conversions: list[str] = []
    for number, element in enumerate(root.findall("object"), start=1):
        try:
            objects.append(_read_object(element, number, conversions))
        except _FormatError as error:
            issues.append(AnnotationIssue(file_name, number, error.args[0], error.args[1]))
    image = (root.findtext("filename") or "").strip()
    return VocImage(_read_size(root), objects, image, tuple(conversions)), issues


class _FormatError(Exception):
    """Field and problem."""


def _read_object(element: ElementTree.Element, number: int, conversions: list[str]) -> VocObject:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise _FormatError("name", "is missing")
    box = element.find("bndbox")
    if box is None:
        raise _FormatError("bndbox", "is missing")
    values = [_read_number(box, field) for field in ("xmin", "ymin", "xmax", "ymax")]
    difficult = _read_difficult((element.findtext("difficult") or "").strip() or "0", conversions)
    return VocObject(number, name, (values[0] - 1, values[1] - 1, values[2], values[3]), difficult)


def _read_difficult(text: str, conversions: list[str]) -> bool:
    """Read the flag; a value other than 0 or 1 that is understood is noted in ``conversions``."""
    if text not in ("0", "1"):
        if text.lower() not in _DIFFICULT:
            raise _FormatError("difficult", f"is {text!r}, not 0 or 1")
        conversions.append(f"difficult is {text!r}, read as {_DIFFICULT[text.lower()]}")
    return bool(_DIFFICULT[text.lower()])


def _read_number(box: ElementTree.Element, field: str) -> float:
    text = box.findtext(field)
    value = parse_number(text or "")
    if math.isnan(value):
        raise _FormatError(f"bndbox/{field}", "is missing" if text is None else f"is {text!r}, not a number")
    return value


def _read_size(root: ElementTree.Element) -> tuple[int, int] | None:
    height, width = (parse_integer(root.findtext(f"size/{name}") or "") or 0 for name in ("height", "width"))
    return (height, width) if height > 0 and width > 0 else None


def read_voc_names(folder: str) -> list[str]:
    """Return the class names in any XML file in or below ``folder``, sorted; files that are not XML count as empty."""
    names: set[str] = set()
    for parent, below, files in os.walk(folder, followlinks=True):
        below[:] = [name for name in below if not name.startswith(".")]
        for file in files:
            if file.lower().endswith(".xml"):
                image, _ = read_voc_xml(os.path.join(parent, file))
                names.update(found.name for found in image.objects)
    return sorted(names)
