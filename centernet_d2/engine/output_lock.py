"""Only one training at a time writes to an output folder."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from centernet_d2.engine.errors import FolderInUseError

_logger = logging.getLogger(__name__)
_FILE = ".lock"


@contextmanager
def lock_output(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Context manager: hold ``folder``, which is made if there is none, until the end or this process's death.

    The lock is the kernel's, not the file's existence, so that one that was killed holds nothing. Loaders' workers do
    not inherit it. A file system without locks is only warned of.

    Raises:
        FolderInUseError: another process holds it.
    """
    path = Path(folder, _FILE)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            holder = file.read(200) or "it has just started"
            raise FolderInUseError(
                f"another training writes to {folder} ({holder}): set another OUTPUT_DIR, or wait for its end"
            ) from None
        except OSError as error:
            _logger.warning("%s cannot be locked (%s): start no second training there", folder, error)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
