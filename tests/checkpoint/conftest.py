"""The names and shapes of the reference networks."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def key_lists(shared_data: Path) -> dict[str, dict[str, tuple[int, ...]]]:
    """Shape by name of the reference networks' state."""
    path = shared_data.parent / "spec" / "centernet_state_dict_keys.txt"
    if not path.is_file():
        pytest.skip(f"no list of reference names at {path}")
    lists: dict[str, dict[str, tuple[int, ...]]] = {}
    for line in path.read_text().splitlines():
        if line.startswith("####"):
            shapes = lists.setdefault(" ".join(line.split()[1:3]), {})
        elif line:
            name, shape = line.split("\t")
            shapes[name] = ast.literal_eval(shape)
    return lists
