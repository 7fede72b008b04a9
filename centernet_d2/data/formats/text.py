"""Reading text files that users wrote: every reader of the project gets its text here."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

# UTF-32 first: its mark begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


class NotTextError(ValueError):
    """A file that is not text in UTF-8; ``file_name`` and ``reason`` say which and why."""

    def __init__(self, file_name: str, reason: str) -> None:
        super().__init__(file_name, reason)
        self.file_name = file_name
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.file_name} {self.reason}"


def read_text(path: str | os.PathLike[str]) -> str:
    """Return the text of a file in UTF-8, without the byte-order mark that Windows writes; line ends become ``\n``.

    UTF-16 and UTF-32 are read where they have a byte-order mark, as Notepad and PowerShell write it.

    Raises:
        OSError: the file cannot be read.
        NotTextError: it is in another encoding, which the message names if it is known.
    """
    content = Path(path).read_bytes()
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8-sig")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise NotTextError(os.fspath(path), _describe_problem(content, encoding, error)) from None
    if "\0" in text:
        looks = "it looks like UTF-16 without a byte-order mark" if encoding == "utf-8-sig" else "it looks binary"
        raise NotTextError(os.fspath(path), f"is not text in UTF-8 (it has a NUL byte): {looks}; save it as UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def has_mark(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins with a byte-order mark, which other readers of JSON do not skip."""
    with open(path, "rb") as file:
        return file.read(4).startswith((codecs.BOM_UTF8, *_MARKS))


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """Return the lines of ``read_text``, without their ends; raises what that does.

    Only a line feed ends a line: ``str.splitlines`` would also part a name or a JSON string at U+2028 and others.
    """
    return read_text(path).removesuffix("\n").split("\n")


def _describe_problem(content: bytes, encoding: str, error: UnicodeDecodeError) -> str:
    name = encoding.removesuffix("-sig").upper()
    start = error.start + (len(codecs.BOM_UTF8) if content.startswith(codecs.BOM_UTF8) else 0)
    line = content.count(b"\n", 0, start) + 1
    where = f"byte {content[start : start + 1].hex()} on line {line}"
    if encoding != "utf-8-sig":
        return f"is not text in {name} ({where}), though it begins with the byte-order mark of that"
    looks = "it looks binary" if b"\0" in content[:4096] else "it looks like Latin-1 or another Windows encoding"
    return f"is not text in {name} ({where}): {looks}; save it as UTF-8"
