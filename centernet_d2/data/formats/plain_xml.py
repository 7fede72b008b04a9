"""XML without a document type: the kind that annotation tools write."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from typing import Any


def parse_xml(path: str | os.PathLike[str]) -> ElementTree.Element:
    """The root of a file; one with a document type is refused, since only that can define entities that multiply.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not XML, or has a document type; the text says which, without the path.
    """
    parser = ElementTree.XMLParser(target=_Builder())
    try:
        return ElementTree.parse(path, parser).getroot()
    except (ElementTree.ParseError, LookupError) as error:  # the latter for an unknown encoding
        raise ValueError(f"is not XML: {error}") from error


class _Builder(ElementTree.TreeBuilder):
    def doctype(self, *_: Any) -> None:
        """Called where a document type begins, before anything that it defines."""
        raise ValueError("has a document type (<!DOCTYPE ...>), which annotation files do not need")
