"""The XML of dlib's imglab: images with boxes, and in them named parts, pixels counted from 0."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

from centernet_d2.data.formats.numbers import parse_number
from centernet_d2.data.formats.plain_xml import parse_xml


class DlibImage(NamedTuple):
    """An image of the file.

    Attributes:
        file: its name with forward slashes, "" where it has none.
        boxes: of each box, its parts' x, y by name; NaN where a coordinate is no number.
    """

    file: str
    boxes: list[dict[str, tuple[float, float]]]


def read_dlib_xml(xml_file: Path) -> list[DlibImage]:
    """The images in the order of the file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not imglab's, or lists no images.
    """
    try:
        root = parse_xml(xml_file)
    except ValueError as error:
        raise ValueError(f"{xml_file} {error}") from error
    images = [
        DlibImage(image.get("file", "").replace("\\", "/"), [_read_parts(box) for box in image.iterfind("box")])
        for image in root.iterfind("images/image")
    ]
    if not images:
        raise ValueError(f"{xml_file} lists no images (images/image)")
    return images


def _read_parts(box: ElementTree.Element) -> dict[str, tuple[float, float]]:
    return {
        part.get("name", ""): (parse_number(part.get("x", "")), parse_number(part.get("y", "")))
        for part in box.iterfind("part")
    }
