"""Atomic writing: after a kill, a full disk or an error the last good file is still there."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch

from centernet_d2.checkpoint.reading import load_file

_POINTER = "last_checkpoint"


def save_checkpoint(data: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Write ``data`` (tensors, plain values) as a torch file: ``path`` is the old file or all of the new, never a part.

    Raises:
        OSError: disk full, no permission, ...; ``path`` is as it was and no temporary file is left.
        UnsafeCheckpointError: ``data`` holds what :func:`load_file` would refuse.
    """
    write_atomically(Path(path), lambda file: torch.save(data, file), lambda written: load_file(written, mmap=True))


def save_pointer(folder: str | os.PathLike[str], name: str) -> None:
    """Make ``name``, a file of ``folder``, the checkpoint to resume from."""
    write_text(Path(folder) / _POINTER, name)


def read_pointer(folder: str | os.PathLike[str]) -> str | None:
    """Return the name in ``folder/last_checkpoint``; None where there is no such file.

    Raises:
        ValueError: it is empty, garbage, or leads out of the folder.
    """
    path = Path(folder) / _POINTER
    if not path.is_file():
        return None
    with path.open("rb") as file:
        name = file.read(256).decode("utf-8", errors="replace").strip()
    if not re.fullmatch(r"[\w.\-]+\.pth", name):
        raise ValueError(f"{path} holds {name!r}, which is no name of a checkpoint in its folder")
    return name


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8; raises as :func:`write_atomically`."""
    write_atomically(path, lambda file: file.write(text.encode()), lambda _: None)


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any], verify: Callable[[Path], Any]) -> None:
    """Call ``write`` on a temporary file beside ``path``, sync, ``verify`` what is on disk, and only then rename.

    Raises:
        Exception: whatever went wrong, after the temporary file has been removed.
    """
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        verify(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Delete temporary files of this machine's processes that were killed while they wrote."""
    for path in Path(folder).glob("*.tmp-*"):
        pid = path.name.rpartition("-")[2]
        if pid.isdigit() and not _is_running(int(pid)):
            path.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    with contextlib.suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
    return True


def _sync_folder(folder: Path) -> None:
    """Sync the folder: without that a rename may not reach the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
