"""What to say of a file that is not there: what is there in its place."""

from __future__ import annotations

import functools
import os
import re
import unicodedata
from urllib.parse import unquote

_URL = re.compile(r"\b(https?|ftp|s3|gs|file)://?")


def missing(path: str | os.PathLike[str]) -> str:
    """ "does not exist", with what is there instead: another case, suffix, Unicode form, folder, ..."""
    hint = describe_nearest(os.fspath(path))
    return f"does not exist: {hint}" if hint else "does not exist"


def describe_nearest(path: str) -> str:
    """A few words on what stands in place of ``path``, which does not exist; "" where nothing is like it.

    Never raises; folders are listed once, not for each file.
    """
    try:
        return _link(path) or _other_syntax(path) or _near(path)
    except (OSError, ValueError):
        return ""


def _link(path: str) -> str:
    return f"it is a link to {os.readlink(path)!r}, which does not exist" if os.path.islink(path) else ""


def _other_syntax(path: str) -> str:
    """Names that mean something elsewhere: addresses, Windows' paths, escaped characters."""
    url = _URL.search(path)
    if url:
        return f"the name is a URL, {_shown(path[url.start() :])}; download it and give the file's name"
    if "\\" in path:
        slashed = path.replace("\\", "/")
        if os.path.exists(slashed):
            name = "/".join(slashed.split("/")[-path.count("\\") - 1 :])
            return f"there is {name!r}; write / in place of \\"
        drive = re.search(r"[A-Za-z]:\\", path)
        return "the name is a path of Windows" if drive else "the name has \\ where / parts folders"
    plain = unquote(path)
    if plain != path and os.path.exists(plain):
        return f"there is {os.path.basename(plain)!r}; % stands for characters in URLs only"
    return ""


def _near(path: str) -> str:
    folder, name = os.path.split(path)
    stem = os.path.splitext(name)[0]
    if folder and not os.path.isdir(folder):
        return _without_folder(folder, name)
    found = _listing(folder or ".").get(_plain(name), [])
    if found:
        return f"there is {_ascii(found[0], name)}, {_difference(name, found[0])}"
    for like, what in ((stem, "another suffix"), (name, "a suffix")):
        found = _stems(folder or ".").get(_plain(like), [])
        if found and _plain(os.path.splitext(found[0])[1]) == _plain(os.path.splitext(name)[1]):
            return f"there is {found[0]!r}, with blanks around the name"
        if found:
            return f"there is {_shown(found[0])}, with {what}"
    bare = _listing(folder or ".").get(_plain(stem), []) if stem != name else []
    if bare:
        return f"there is {_shown(bare[0])}, without the suffix"
    return _elsewhere(folder or ".", name)


def _without_folder(folder: str, name: str) -> str:
    """What is like ``folder``, whose name is wrong somewhere, or holds ``name`` itself."""
    above, last = folder, ""
    while above and not os.path.isdir(above):
        above, last = os.path.split(above)
    above = above or "."
    if os.path.isfile(os.path.join(above, name)):
        return f"there is no folder {folder!r}, but {os.path.join(above, name)!r} is there"
    found = _listing(above).get(_plain(last), [])
    if found:
        return f"there is no folder {folder!r}, but {_ascii(found[0], last)}, {_difference(last, found[0])}"
    return f"there is no folder {folder!r}"


def _elsewhere(folder: str, name: str) -> str:
    """A file of that name one folder further down or up."""
    below = [entry for entries in _listing(folder).values() for entry in entries if "." not in entry][:50]
    for place in (*(os.path.join(folder, entry) for entry in below), os.path.dirname(os.path.abspath(folder))):
        if os.path.isfile(os.path.join(place, name)):
            return f"there is {os.path.join(place, name)!r}, in another folder"
    return ""


def _difference(wanted: str, found: str) -> str:
    if wanted.strip("\ufeff").strip() != wanted:
        return "without the characters around the name that cannot be seen"
    if found.strip() != found:
        return "with blanks around the name"
    if unicodedata.normalize("NFC", wanted) == unicodedata.normalize("NFC", found):
        form = "composed (NFC)" if unicodedata.is_normalized("NFC", found) else "decomposed (NFD)"
        return f"which looks the same but is in another Unicode form, {form}"
    return "which differs in upper and lower case"


def _plain(name: str) -> str:
    """Equal for names that people take for the same."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).strip("\ufeff").strip()


def _listing(folder: str) -> dict[str, list[str]]:
    """Entries of a folder by their plain names."""
    return _list_folder(folder, os.stat(folder).st_mtime_ns)[0]


def _stems(folder: str) -> dict[str, list[str]]:
    """The same by their names without suffix."""
    return _list_folder(folder, os.stat(folder).st_mtime_ns)[1]


@functools.lru_cache(maxsize=16)
def _list_folder(folder: str, _: int) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    names: dict[str, list[str]] = {}
    stems: dict[str, list[str]] = {}
    for entry in sorted(os.listdir(folder)):
        names.setdefault(_plain(entry), []).append(entry)
        stem, suffix = os.path.splitext(entry)
        if suffix:
            stems.setdefault(_plain(stem), []).append(entry)
    return names, stems


def _ascii(found: str, wanted: str) -> str:
    """Escaped where the two would be printed alike."""
    alike = unicodedata.normalize("NFC", found) == unicodedata.normalize("NFC", wanted)
    return ascii(found) if alike and found != wanted else repr(found)


def _shown(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= 100 else shown[:97] + "..."
