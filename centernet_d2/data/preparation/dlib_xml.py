"""The XML of dlib's imglab: images with boxes, and in them named parts, pixels counted from 0."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from centernet_d2.data.formats.plain_xml import parse_xml
from centernet_d2.data.preparation.conversion import Converted, Summary, convert
from centernet_d2.data.preparation.faces import Face, convert_faces
from centernet_d2.data.schemas import FACE68
from centernet_d2.data.validation.issues import AnnotationIssue


def convert_dlib_xml(xml_file: Path, json_file: Path) -> Summary:
    """Write ``json_file`` with the images of ``xml_file``, named relative to its folder; boxes are of the landmarks.

    Raises:
        OSError: files cannot be read or written.
        ValueError: the file is not imglab's.
    """
    try:
        root = parse_xml(xml_file)
    except ValueError as error:
        raise ValueError(f"{xml_file} {error}") from error
    # A position, because an image may be listed twice, and the content, so that it is another item if that changes.
    items = [(number, ElementTree.tostring(element)) for number, element in enumerate(root.iterfind("images/image"), 1)]
    if not items:
        raise ValueError(f"{xml_file} lists no images (images/image)")

    def read_item(item: tuple[int, bytes]) -> Converted:
        return _convert_image(xml_file, item[0], ElementTree.fromstring(item[1]))

    return convert(items, read_item, json_file, FACE68.to_coco_categories())


def _convert_image(xml_file: Path, number: int, image: ElementTree.Element) -> Converted:
    name = image.get("file", "").replace("\\", "/")
    if not name:
        return Converted(issues=[AnnotationIssue(str(xml_file), None, "image", f"number {number} has no file")])
    faces, issues = [], []
    for position, box in enumerate(image.iterfind("box"), start=1):
        points = {
            part.get("name", ""): (_parse_number(part.get("x")), _parse_number(part.get("y")))
            for part in box.iterfind("part")
        }
        numbered = {int(key): point for key, point in points.items() if key.isdecimal()}
        if sorted(numbered) == list(range(len(FACE68))):
            faces.append(Face([numbered[k] for k in range(len(FACE68))], name, position))
        else:
            problem = (
                f"has the {len(points)} parts {', '.join(sorted(points))[:40] or '(none)'}, not 0 to {len(FACE68) - 1}"
            )
            issues.append(AnnotationIssue(name, position, "box", problem))
    return convert_faces(xml_file.parent, name, faces, issues)


def _parse_number(text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        return math.nan
