"""--help of every command, and of the scripts of tools/ and datasets/: quick, options explained."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from centernet_d2 import cli
from centernet_d2.cli import convert, prepare_data

ROOT = Path(__file__).resolve().parents[2]
DATASETS = [*prepare_data.PREPARATIONS, *prepare_data.FILES]
COMMANDS = sorted([*ROOT.glob("tools/*.py"), *ROOT.glob("datasets/*.py")])
# Prints which of the slow packages were imported, as the last line of the output.
_RUN = """
import atexit, runpy, sys
slow = ("torch", "detectron2", "cv2", "numpy")
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


@pytest.mark.parametrize(
    "words", [[name] for name in cli.COMMANDS] + [["prepare-data", x] for x in DATASETS], ids="-".join
)
def test_commands_show_an_example(words):
    command = [sys.executable, "-c", _RUN, str(ROOT / "centernet_d2/__main__.py"), *words, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT / "tools")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and done.stdout.startswith(f"usage: centernet-d2 {' '.join(words)} ")
    assert re.search(rf"^    centernet-d2 {words[0]}", done.stdout, re.M)
    assert done.stdout.splitlines()[-1] == "imported:"


FILES = [*COMMANDS, *ROOT.glob("centernet_d2/cli/*.py")]


@pytest.mark.parametrize("path", FILES)
def test_every_option_is_explained(path):
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    added = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument"]
    unexplained = [
        ast.unparse(call.args[0]) for call in added if not {"help", None} & {word.arg for word in call.keywords}
    ]
    assert unexplained == []
    options = [settings for one in prepare_data.PREPARATIONS.values() for settings in one.options.values()]
    assert all(settings["help"] for settings in options)  # those that are passed as **settings


def test_choices_that_stand_in_the_tools_are_those_of_the_package():
    import benchmark
    import landmark_report

    from centernet_d2.checkpoint.conversion import NAMES
    from centernet_d2.data.preparation import crowdhuman, face_300w
    from centernet_d2.data.preparation.kitti import SPLITS
    from centernet_d2.evaluation.keypoints.metrics import NORMALIZERS

    assert (*benchmark.PARTS, "allocator", "memory") == benchmark.CHOICES
    assert tuple(NAMES) == convert.NAMES
    for name in NORMALIZERS:
        assert landmark_report.parse(["a=b", "--normalizer", name]).normalizer == name
    options = {name: preparation.options for name, preparation in prepare_data.PREPARATIONS.items()}
    assert options["crowdhuman"]["boxes"]["choices"] == tuple(crowdhuman.BOXES)
    assert options["300w"]["boxes"]["choices"] == tuple(face_300w.BOXES)
    assert tuple(options["kitti"]) == tuple(SPLITS)
