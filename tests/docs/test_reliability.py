"""What docs/reliability.md names is there, and `make test-reliability` runs it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "reliability.md").read_text()


def list_tests() -> list[tuple[str, str]]:
    """File and function of each test of the tables; one without a file is of the file before it."""
    named: list[tuple[str, str]] = []
    for line in TEXT.splitlines():
        file = ""
        for cell in re.findall(r"`([^`]+)`", line) if line.startswith("|") else ():
            if match := re.fullmatch(r"([\w/]+\.py)(?:::(\w+))?", cell):
                file = match[1]
                named.append((file, match[2] or ""))
            elif cell.startswith("test_"):
                named.append((file, cell))
    return named


def test_every_test_is_there():
    named = list_tests()
    assert len(named) > 60
    for file, name in named:
        path = ROOT / file if file.startswith("tools/") else ROOT / "tests" / file
        assert path.is_file(), file
        assert not name or f"def {name}(" in path.read_text(), (file, name)


def test_the_makefile_runs_them():
    (files,) = re.findall(r"^RELIABILITY := (.*?[^\\])$", (ROOT / "Makefile").read_text(), re.M | re.S)
    run = re.sub(r"\\\n", " ", files).split()
    assert [name for name in run if not (ROOT / "tests" / name).exists()] == []
    # Of `make test-slow`, of a line of its own, and by hand.
    left_out = {"engine/test_learning.py", "export/test_configs.py", "tools/mutate.py"}
    left_out |= {"tools/reference/compare_kitti.py", "tools/reference/compare_wider_face.py"}
    missing = {file for file, _ in list_tests() if not any(file == name or file.startswith(f"{name}/") for name in run)}
    assert missing - left_out == set()


def test_all_34_have_a_line():
    assert re.findall(r"^\| R(\d+) \|", TEXT, re.M) == [str(k) for k in range(1, 35)]
