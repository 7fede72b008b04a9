"""Errors in users' files: raised in all processes and printed as one sentence."""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from detectron2.utils import comm

from centernet_d2.data.corrupt_images import TooManyCorruptError
from centernet_d2.data.formats.text import NotTextError
from centernet_d2.data.image_io import CorruptImageError
from centernet_d2.data.validation.issues import AnnotationError

_STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO}
# Of folders on a network that has gone.
_STORAGE |= {errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH}


class FolderInUseError(RuntimeError):
    """The output folder is that of a training that is running."""


class StorageError(RuntimeError):
    """A disk is full, or does not do what it should."""


#: Errors whose message is enough; others need the traceback.
USER_ERRORS = (
    *(AnnotationError, TooManyCorruptError, CorruptImageError, NotTextError, FileNotFoundError),
    *(FolderInUseError, StorageError),
)


def run_in_main_process(check: Callable[[], None]) -> None:
    """Run ``check`` in the main process while the others wait. All processes raise its exception."""
    error: Exception | None = None
    if comm.is_main_process():
        try:
            check()
        except Exception as raised:
            error = raised
    error = comm.all_gather(error)[0]
    if error is not None:
        raise error


def run_tool(main: Callable[[], Any], errors: tuple[type[BaseException], ...] = USER_ERRORS) -> Any:
    """Return ``main()``. On one of ``errors``, print its message to stderr and exit with status 1."""
    hide_tracebacks()
    try:
        return main()
    except errors as error:
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"error: {text}", file=sys.stderr)
        raise SystemExit(1) from None


@contextmanager
def explain_storage(folder: str) -> Iterator[None]:
    """Context manager: a disk's error, whatever was being written, becomes one that says how to go on.

    Args:
        folder: the output folder.

    Raises:
        StorageError: in place of such an ``OSError``.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _STORAGE:
            raise
        raise StorageError(
            f"{error}: the run stopped; its output folder is {folder}. Complete checkpoints there are as they were: "
            "when the disk is in order, --resume goes on from the last"
        ) from None


def hide_tracebacks(elsewhere: Callable[[], bool] = lambda: False) -> None:
    """Keep tracebacks of user errors out of this process's log: Detectron2 logs every exception in training.

    Args:
        elsewhere: whether there is a user error in another process, of which an error in this one is a consequence.
    """

    def is_wanted(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        is_known = isinstance(error, USER_ERRORS) or (isinstance(error, OSError) and error.errno in _STORAGE)
        return error is None or not (is_known or elsewhere())

    logging.getLogger("detectron2.engine.train_loop").addFilter(is_wanted)
    # Where log.txt cannot be written, a traceback for each line would bury the error that ends the run.
    logging.raiseExceptions = False
