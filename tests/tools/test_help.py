"""--help of every command of tools/ and datasets/: quick, and every option explained."""

from __future__ import annotations

import ast
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = sorted([*ROOT.glob("tools/*.py"), *ROOT.glob("datasets/*.py")])
# Prints which of the slow packages were imported, as the last line of the output.
_RUN = """
import atexit, runpy, sys
slow = ("torch", "detectron2", "cv2", "centernet_d2", "numpy")
atexit.register(lambda: print("imported:", *[name for name in slow if name in sys.modules]))
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_help_waits_for_no_import(path):
    command = [sys.executable, "-c", _RUN, str(path), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT / "tools")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and done.stdout.startswith("usage:")
    assert done.stdout.splitlines()[-1] == "imported:"


FILES = [*COMMANDS, ROOT / "centernet_d2/engine/options.py", ROOT / "centernet_d2/data/options.py"]


@pytest.mark.parametrize("path", FILES)
def test_every_option_is_explained(path):
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    added = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument"]
    unexplained = [ast.unparse(call.args[0]) for call in added if "help" not in {word.arg for word in call.keywords}]
    assert unexplained == []


def test_choices_that_stand_in_the_tools_are_those_of_the_package():
    import benchmark
    import convert_checkpoint
    import landmark_report

    from centernet_d2.checkpoint.conversion import NAMES
    from centernet_d2.data.preparation import crowdhuman, face_300w
    from centernet_d2.data.preparation.kitti import SPLITS
    from centernet_d2.evaluation.keypoints.metrics import NORMALIZERS

    assert (*benchmark.PARTS, "memory") == benchmark.CHOICES
    for name in NAMES:
        assert convert_checkpoint.parse(["a", "b", "--to", name]).to == name
    for name in NORMALIZERS:
        assert landmark_report.parse(["a=b", "--normalizer", name]).normalizer == name
    scripts = {
        name: runpy.run_path(str(ROOT / f"datasets/prepare_{name}.py")) for name in ("crowdhuman", "300w", "kitti")
    }
    assert scripts["crowdhuman"]["BOXES"] == tuple(crowdhuman.BOXES)
    assert scripts["300w"]["BOXES"] == tuple(face_300w.BOXES)
    assert scripts["kitti"]["SPLITS"] == tuple(SPLITS)
