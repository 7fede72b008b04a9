"""Explains why a file is missing: finds files with similar names."""

from __future__ import annotations

import functools
import os
import re
import unicodedata
from urllib.parse import unquote

_URL = re.compile(r"\b(https?|ftp|s3|gs|file)://?")


def explain_missing(path: str | os.PathLike[str]) -> str:
    """Return "does not exist" and a hint: a file with another case, suffix, Unicode form, folder, ..."""
    hint = find_similar_file(os.fspath(path))
    return f"does not exist: {hint}" if hint else "does not exist"


def find_similar_file(path: str) -> str:
    """Describe a file like ``path``, which does not exist; "" if there is none.

    Never raises. Folders are listed once, not for each file.
    """
    try:
        return _describe_link(path) or _describe_syntax(path) or _find_near(path)
    except (OSError, ValueError):
        return ""


def _describe_link(path: str) -> str:
    return f"it is a link to {os.readlink(path)!r}, which does not exist" if os.path.islink(path) else ""


def _describe_syntax(path: str) -> str:
    """Describe names in another syntax: URLs, Windows paths, escaped characters."""
    url = _URL.search(path)
    if url:
        return f"the name is a URL, {_shorten(path[url.start() :])}; download it and give the file's name"
    if "\\" in path:
        slashed = path.replace("\\", "/")
        if os.path.exists(slashed):
            name = "/".join(slashed.split("/")[-path.count("\\") - 1 :])
            return f"there is {name!r}; write / in place of \\"
        drive = re.search(r"[A-Za-z]:\\", path)
        return "the name is a Windows path" if drive else "the name has \\, but / separates folders"
    plain = unquote(path)
    if plain != path and os.path.exists(plain):
        return f"there is {os.path.basename(plain)!r}; % stands for characters in URLs only"
    return ""


def _find_near(path: str) -> str:
    folder, name = os.path.split(path)
    stem = os.path.splitext(name)[0]
    if folder and not os.path.isdir(folder):
        return _find_folder(folder, name)
    found = _list_names(folder or ".").get(_normalize(name), [])
    if found:
        return f"there is {_quote(found[0], name)}, {_describe_difference(name, found[0])}"
    for like, what in ((stem, "another suffix"), (name, "a suffix")):
        found = _list_stems(folder or ".").get(_normalize(like), [])
        if found and _normalize(os.path.splitext(found[0])[1]) == _normalize(os.path.splitext(name)[1]):
            return f"there is {found[0]!r}, with blanks around the name"
        if found:
            return f"there is {_shorten(found[0])}, with {what}"
    bare = _list_names(folder or ".").get(_normalize(stem), []) if stem != name else []
    if bare:
        return f"there is {_shorten(bare[0])}, without the suffix"
    return _find_elsewhere(folder or ".", name)


def _find_folder(folder: str, name: str) -> str:
    """Describe a folder like ``folder``, which does not exist, or a parent that has ``name`` itself."""
    above, last = folder, ""
    while above and not os.path.isdir(above):
        above, last = os.path.split(above)
    above = above or "."
    if os.path.isfile(os.path.join(above, name)):
        return f"there is no folder {folder!r}, but {os.path.join(above, name)!r} is there"
    found = _list_names(above).get(_normalize(last), [])
    if found:
        return f"there is no folder {folder!r}, but {_quote(found[0], last)}, {_describe_difference(last, found[0])}"
    return f"there is no folder {folder!r}"


def _find_elsewhere(folder: str, name: str) -> str:
    """Describe a file of that name one folder down or up."""
    below = [entry for entries in _list_names(folder).values() for entry in entries if "." not in entry][:50]
    for parent in (*(os.path.join(folder, entry) for entry in below), os.path.dirname(os.path.abspath(folder))):
        if os.path.isfile(os.path.join(parent, name)):
            return f"there is {os.path.join(parent, name)!r}, in another folder"
    return ""


def _describe_difference(wanted: str, found: str) -> str:
    if wanted.strip("\ufeff").strip() != wanted:
        return "without the invisible characters around the name"
    if found.strip() != found:
        return "with blanks around the name"
    if unicodedata.normalize("NFC", wanted) == unicodedata.normalize("NFC", found):
        form = "composed (NFC)" if unicodedata.is_normalized("NFC", found) else "decomposed (NFD)"
        return f"which looks the same but is in another Unicode form, {form}"
    return "which differs in upper and lower case"


def _normalize(name: str) -> str:
    """Normalize a name: equal for names that look the same to people."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).strip("\ufeff").strip()


def _list_names(folder: str) -> dict[str, list[str]]:
    """Return entries of a folder by normalized name."""
    return _list_folder(folder, os.stat(folder).st_mtime_ns)[0]


def _list_stems(folder: str) -> dict[str, list[str]]:
    """Return entries of a folder by normalized name without suffix."""
    return _list_folder(folder, os.stat(folder).st_mtime_ns)[1]


@functools.lru_cache(maxsize=16)
def _list_folder(folder: str, _: int) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    names: dict[str, list[str]] = {}
    stems: dict[str, list[str]] = {}
    for entry in sorted(os.listdir(folder)):
        names.setdefault(_normalize(entry), []).append(entry)
        stem, suffix = os.path.splitext(entry)
        if suffix:
            stems.setdefault(_normalize(stem), []).append(entry)
    return names, stems


def _quote(found: str, wanted: str) -> str:
    """Quote ``found``, escaped if it would look like ``wanted``."""
    alike = unicodedata.normalize("NFC", found) == unicodedata.normalize("NFC", wanted)
    return ascii(found) if alike and found != wanted else repr(found)


def _shorten(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= 100 else shown[:97] + "..."
