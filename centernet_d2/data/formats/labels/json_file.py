"""Reading of JSON files that annotation tools write."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from centernet_d2.data.formats.text import read_text


def read_json(path: Path) -> Any:
    """Return the content.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not text or not JSON.
    """
    try:
        return json.loads(read_text(path))
    except RecursionError:
        raise ValueError("is not JSON: nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error}") from None


def find_json(files: Iterable[Path], is_wanted: Callable[[Any], bool]) -> Iterator[tuple[Path, Any]]:
    """Yield each JSON file whose content is wanted, with it; what cannot be read or is not JSON is left out."""
    for file in files:
        try:
            data = read_json(file) if file.suffix.lower() == ".json" else None
        except (OSError, ValueError):
            continue
        if is_wanted(data):
            yield file, data
