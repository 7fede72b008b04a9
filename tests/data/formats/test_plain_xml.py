"""XML of annotation tools, and files that mean harm."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from centernet_d2.data.formats.plain_xml import parse_xml
from centernet_d2.data.formats.voc_xml import read_voc_xml

DOCUMENT = "<annotation><object><name>{}</name></object></annotation>"
MULTIPLYING = "".join(f"<!ENTITY e{i} '{f'&e{i - 1};' * 10}'>" for i in range(1, 10))
DOCTYPES = {
    "multiplying entities": (f"<!DOCTYPE a [<!ENTITY e0 'lol'>{MULTIPLYING}]>", "&e9;"),
    "a file's content": ("<!DOCTYPE a [<!ENTITY e SYSTEM 'file:///etc/hostname'>]>", "&e;"),
    "a file of definitions": ("<!DOCTYPE a SYSTEM 'a.dtd'>", "cat"),
}


def test_text_and_attributes_in_any_encoding(tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-16", "iso-8859-1"):
        path = tmp_path / f"{encoding}.xml"
        path.write_text(f"<?xml version='1.0' encoding='{encoding}'?><a b='é'>{'ü&amp;' * 9}</a>", encoding=encoding)
        root = parse_xml(path)
        assert (root.tag, root.attrib, root.text) == ("a", {"b": "é"}, "ü&" * 9)


@pytest.mark.parametrize("kind", DOCTYPES)
def test_document_types_are_refused_at_once(kind: str, tmp_path: Path) -> None:
    doctype, content = DOCTYPES[kind]
    path = tmp_path / "a.xml"
    path.write_text(doctype + DOCUMENT.format(content))
    start = time.perf_counter()
    with pytest.raises(ValueError, match="document type"):
        parse_xml(path)
    image, (issue,) = read_voc_xml(str(path))
    assert time.perf_counter() - start < 5
    assert (image.size, image.objects) == (None, [])
    assert (issue.file, issue.field) == (str(path), "file") and issue.problem.startswith("has a document type")


@pytest.mark.parametrize(
    "content", [b"", b"<a>", b"\xff\xfe\x00", b"<?xml version='1.0' encoding='klingon'?><a/>", b"<a>&x;</a>"]
)
def test_what_is_not_xml(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^is not XML: "):
        parse_xml(path)
    assert "is not XML" in str(read_voc_xml(str(path))[1][0])


def test_a_folder_is_an_issue_too(tmp_path: Path) -> None:
    _, (issue,) = read_voc_xml(str(tmp_path))
    assert issue.problem.startswith("cannot be read")
