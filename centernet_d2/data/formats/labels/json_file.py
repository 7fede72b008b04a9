"""Reading of JSON files that annotation tools write."""

from __future__ import annotations

import json
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
