"""Downloaded archives, unpacked in place: nothing outside the folder, no links, no bombs, nothing half written."""

from __future__ import annotations

import errno
import io
import itertools
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, NamedTuple

from centernet_d2.data.validation.issues import AnnotationIssue, leaves_folder
from centernet_d2.progress import track

# An archive may unpack to this many times its own size, and so many bytes more. Deflated images and annotations
# stay far below; a bomb reaches a thousand.
_MAX_EXPANSION = 200
_FREE_BYTES = 100 * 2**20
_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, ValueError)
# Not an error of the archive: stop here.
_OWN_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)


def unpack_archives(folder: Path, password: str | None = None) -> list[AnnotationIssue]:
    """Unpack every zip and tar of ``folder``, each into the folder that has its name without the suffix.

    Where an archive's entries lie in a folder of that very name already, it is not repeated: ``afw.zip`` with
    ``afw/1.pts`` gives ``afw/1.pts``, and so does one with ``1.pts``. Files that are there in their full size are not
    written again, so an interrupted run goes on. A split archive (``300w.zip.001``, ``.002``, ...) is read as one.
    Apple's ``__MACOSX`` folders are passed over.

    Args:
        password: of encrypted zips. Python decrypts a few megabytes a second; ``unzip -P`` is much faster.

    Returns:
        One issue, with archive and entry, for everything refused or damaged; all the rest is unpacked.

    Raises:
        OSError: the disk is full, no permission.
    """
    issues: list[AnnotationIssue] = []
    for parts in _group_archives(folder):
        name = re.sub(r"\.001$", "", parts[0].name)
        try:
            with ExitStack() as stack:
                is_tar = name.lower().endswith(_TAR_SUFFIXES)
                entries, size = (_open_tar if is_tar else _open_zip)(parts, password, stack)
                issues += _unpack(entries, size, name, folder / re.sub(r"(\.tar)?\.\w+$", "", name))
        except (*_DAMAGED, OSError) as error:
            if isinstance(error, OSError) and error.errno in _OWN_TROUBLE:
                raise
            issues.append(AnnotationIssue(name, None, "archive", f"is damaged or incomplete: {error}"))
    return issues


class _Entry(NamedTuple):
    """``open`` reads the content, ``size`` bytes; ``problem`` says why it must not be."""

    name: str
    size: int
    problem: str
    open: Callable[[], IO[bytes]]


class _PasswordError(Exception):
    """No entry of the archive can be read."""


def _group_archives(folder: Path) -> Iterator[list[Path]]:
    """Return the files of each archive of ``folder``, in the order of the names."""
    for path in sorted(folder.iterdir()):
        name = path.name.lower()
        if path.is_file() and name.endswith((".zip", *_TAR_SUFFIXES)):
            yield [path]
        elif name.endswith(".zip.001"):
            numbered = (path.with_suffix(f".{number:03d}") for number in itertools.count(1))
            yield list(itertools.takewhile(Path.is_file, numbered))


def _open_zip(parts: list[Path], password: str | None, stack: ExitStack) -> tuple[Iterator[_Entry], int]:
    files = [stack.enter_context(part.open("rb")) for part in parts]
    file: Any = files[0] if len(files) == 1 else io.BufferedReader(_Joined(files))
    archive = stack.enter_context(zipfile.ZipFile(file))
    if password:
        archive.setpassword(password.encode())

    def iterate_entries() -> Iterator[_Entry]:
        for info in track(archive.infolist(), parts[0].name, "files"):
            if not info.is_dir():
                link = stat.S_ISLNK(info.external_attr >> 16)
                yield _Entry(
                    info.filename, info.file_size, "is a link" if link else "", _make_zip_opener(archive, info)
                )

    return iterate_entries(), sum(part.stat().st_size for part in parts)


def _make_zip_opener(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    def open_entry() -> IO[bytes]:
        try:
            return archive.open(info)
        except RuntimeError as error:
            if isinstance(error, NotImplementedError):
                raise
            raise _PasswordError("is encrypted: the password is missing or wrong") from error

    return open_entry


def _open_tar(parts: list[Path], password: str | None, stack: ExitStack) -> tuple[Iterator[_Entry], int]:
    archive = stack.enter_context(tarfile.open(parts[0]))  # noqa: SIM115

    def open_entry(info: tarfile.TarInfo) -> Callable[[], IO[bytes]]:
        return lambda: archive.extractfile(info) or io.BytesIO()

    def iterate_entries() -> Iterator[_Entry]:
        for info in track(archive, parts[0].name, "files"):
            if not info.isdir():
                yield _Entry(info.name, info.size, "" if info.isreg() else "is a link or a device", open_entry(info))

    return iterate_entries(), parts[0].stat().st_size


def _unpack(entries: Iterator[_Entry], size: int, archive: str, target: Path) -> list[AnnotationIssue]:
    """Unpack the entries of an archive of ``size`` bytes; return what went wrong."""
    issues: list[AnnotationIssue] = []
    left = _MAX_EXPANSION * size + _FREE_BYTES
    for entry in entries:
        name, problem = entry.name.replace("\\", "/"), entry.problem
        if name.startswith("__MACOSX/"):
            continue
        if leaves_folder(name) or PureWindowsPath(name).drive:
            problem = f"leads out of the folder {target.name}"
        elif entry.size > left:
            problem = f"would unpack to {entry.size} bytes, absurdly many for an archive of {size}"
        elif not problem:
            try:
                left -= entry.size
                _write(entry, _place(name, target))
            except _PasswordError as error:
                return [*issues, AnnotationIssue(archive, None, entry.name, str(error))]
            except (*_DAMAGED, OSError) as error:
                if isinstance(error, OSError) and error.errno in _OWN_TROUBLE:
                    raise
                problem = f"cannot be unpacked: {error}"
        if problem:
            issues.append(AnnotationIssue(archive, None, entry.name, problem))
    return issues


def _place(name: str, target: Path) -> Path:
    parts = PurePosixPath(name).parts
    return target.joinpath(*parts[1:] if len(parts) > 1 and parts[0] == target.name else parts)


def _write(entry: _Entry, path: Path) -> None:
    """Write an entry; the final name exists only when the file is complete."""
    if path.is_file() and path.stat().st_size == entry.size:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".unpacking")
    try:
        with entry.open() as source, temporary.open("wb") as file:
            shutil.copyfileobj(source, file)
        if temporary.stat().st_size != entry.size:
            raise EOFError(f"only {temporary.stat().st_size} of {entry.size} bytes are there")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class _Joined(io.RawIOBase):
    """Files, one after the other, as one that can be read and sought."""

    def __init__(self, files: list[Any]) -> None:
        self._files = files
        self._ends = list(itertools.accumulate(file.seek(0, io.SEEK_END) for file in files))
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = (0, self._position, self._ends[-1])[whence]
        if start + offset < 0:
            raise ValueError("a position before the start")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        for file, end, start in zip(self._files, self._ends, [0, *self._ends], strict=False):
            if self._position < end:
                file.seek(self._position - start)
                count = int(file.readinto(memoryview(buffer)[: end - self._position]))
                self._position += count
                return count
        return 0
