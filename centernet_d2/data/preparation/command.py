"""The common part of ``centernet-d2 prepare-data``: unpacking, what is printed, the exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from centernet_d2.data.preparation.archives import unpack_archives
from centernet_d2.data.preparation.conversion import Summary, describe_issues


def prepare(folder: Path, convert: Callable[[Path], Sequence[Summary]], password: str | None = None) -> int:
    """Unpack the archives of ``folder``, convert, print what came of it.

    Returns:
        The exit status: 1 where nothing could be converted.
    """
    try:
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}")
        issues = unpack_archives(folder, password)
        if issues:
            print("\n".join(["archives:", *describe_issues(issues)]))
        summaries = convert(folder)
    except (OSError, ValueError, ImportError) as error:
        print(error, file=sys.stderr)
        return 1
    for summary in summaries:
        print(summary)
    return int(not any(summary.images for summary in summaries))
