"""Faces with 68 landmarks from the XML of dlib's imglab."""

from __future__ import annotations

from pathlib import Path

from centernet_d2.data.formats.dlib_xml import DlibImage, read_dlib_xml
from centernet_d2.data.formats.numbers import parse_digits
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
    # An image may be listed twice: its position tells the two apart.
    items = list(enumerate(read_dlib_xml(xml_file), start=1))
    return convert(items, lambda item: _convert_image(xml_file, *item), json_file, FACE68.to_coco_categories())


def _convert_image(xml_file: Path, number: int, image: DlibImage) -> Converted:
    name = image.file
    if not name:
        return Converted(issues=[AnnotationIssue(str(xml_file), None, "image", f"number {number} has no file")])
    faces, issues = [], []
    for position, points in enumerate(image.boxes, start=1):
        numbered = {k: point for key, point in points.items() if (k := parse_digits(key)) is not None}
        if sorted(numbered) == list(range(len(FACE68))):
            faces.append(Face([numbered[k] for k in range(len(FACE68))], name, position))
        else:
            parts = ", ".join(sorted(points))[:40] or "(none)"
            problem = f"has the {len(points)} parts {parts}, not 0 to {len(FACE68) - 1}"
            issues.append(AnnotationIssue(name, position, "box", problem))
    return convert_faces(xml_file.parent, name, faces, issues)
