"""XML without a document type: the kind that annotation tools write."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from centernet_d2.data.formats.text import NotTextError, read_text

_DECLARED = re.compile(rb"\s*<\?xml[^>]*\bencoding\s*=\s*[\"']([\w.:-]+)")


def parse_xml(path: str | os.PathLike[str]) -> ElementTree.Element:
    """Return the root of a file. A document type is refused: it could define entities that multiply.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not XML, or has a document type; the text says which, without the path.
    """
    parser = ElementTree.XMLParser(target=_Builder())
    try:
        parser.feed(_read_content(path))
        return parser.close()
    except (ElementTree.ParseError, LookupError, UnicodeError) as error:  # the latter for encodings
        raise ValueError(f"is not XML: {error}{_describe_encoding_error(path)}") from error


def _read_content(path: str | os.PathLike[str]) -> bytes | str:
    """Return text if the parser does not know the file's encoding (such as GBK or Shift JIS), else bytes."""
    content = Path(path).read_bytes()
    declared = _DECLARED.match(content)
    name = declared[1].decode() if declared else "utf-8"
    return content if name.lower().startswith("utf") else content.decode(name)


def _describe_encoding_error(path: str | os.PathLike[str]) -> str:
    """Name the encoding if it is the cause of the error, else return ""."""
    try:
        read_text(path)
    except NotTextError as error:
        return f" (the file {error.reason})"
    return ""


class _Builder(ElementTree.TreeBuilder):
    def doctype(self, *_: Any) -> None:
        """Refuse a document type, before anything that it defines is read."""
        raise ValueError("has a document type (<!DOCTYPE ...>), which annotation files do not need")
