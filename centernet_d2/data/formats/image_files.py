"""Finds the image files that labels name without a suffix."""

from __future__ import annotations

import functools
import os
import posixpath
from collections.abc import Collection

from PIL import Image

from centernet_d2.data.image_io import CorruptImageError

# Suffixes that PIL knows and that are no photos: documents, scientific data and videos.
_NO_IMAGES = {
    *(".eps", ".ps", ".pdf", ".emf", ".wmf", ".mpg", ".mpeg", ".h5", ".hdf", ".grib", ".bufr", ".fit", ".fits"),
}


@functools.cache
def list_image_suffixes() -> frozenset[str]:
    """Return the suffixes of the image files that the installed Pillow reads, in lower case, with the dot."""
    readable = (suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN)
    return frozenset(readable) - _NO_IMAGES


class NamedFiles:
    """Finds files below ``folder`` by name without suffix, sub-folders included; each folder is listed once."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = os.fspath(folder)
        self._listed: dict[str, dict[str, list[str]]] = {}

    def find(self, name: str, suffixes: Collection[str]) -> list[str]:
        """Find the files called ``name`` (with / for sub-folders) with one of the suffixes (lower case, with the dot);
        paths relative to ``folder``, sorted."""
        parent, stem = posixpath.split(name)
        if parent not in self._listed:
            path = os.path.join(self.folder, parent)
            entries: dict[str, list[str]] = {}
            for entry in sorted(os.listdir(path)) if os.path.isdir(path) else ():
                entries.setdefault(os.path.splitext(entry)[0], []).append(entry)
            self._listed[parent] = entries
        names = self._listed[parent].get(stem, [])
        return [posixpath.join(parent, entry) for entry in names if os.path.splitext(entry)[1].lower() in suffixes]


def find_image(images: NamedFiles, name: str, suffix: str = ".jpg", annotated_name: str = "") -> str:
    """Return the image called ``name`` (without suffix), relative to ``images.folder``; if there is none, ``name +
    suffix``.

    Args:
        annotated_name: the file name in the annotation, which decides if there are several.

    Raises:
        CorruptImageError: there are several.
    """
    files = images.find(name, list_image_suffixes())
    files = [file for file in files if posixpath.basename(file) == annotated_name] or files
    if len(files) > 1:
        problem = f"is ambiguous: there are {', '.join(files)}; all but one must go"
        raise CorruptImageError(os.path.join(images.folder, name), problem)
    return files[0] if files else name + suffix
