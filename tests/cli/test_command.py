"""``centernet-d2`` itself: commands, their errors, and life without Detectron2 and PyTorch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from centernet_d2 import __version__, cli
from tests.helpers.exported import export_synthetic

ROOT = Path(__file__).parents[2]
# Started before anything else: whatever is named cannot be imported.
_WITHOUT = """
import sys
for name in {absent!r}:
    sys.modules[name] = None
from centernet_d2.cli import main
sys.exit(main(sys.argv[1:]))
"""


def run_without(absent: list[str], *arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _WITHOUT.format(absent=absent), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_usage(capsys):
    assert cli.main([]) == 2 and cli.main(["--help"]) == 0
    printed = capsys.readouterr()
    assert printed.err == printed.out and all(f"  {name} " in printed.out for name in cli.COMMANDS)
    assert cli.main(["--version"]) == 0 and __version__ in capsys.readouterr().out
    assert cli.main(["prediction"]) == 2
    assert "did you mean predict?" in capsys.readouterr().err


def test_every_command_has_a_module():
    names = {path.stem.replace("_", "-") for path in (ROOT / "centernet_d2" / "cli").glob("*.py")}
    assert names - {"--init--", "options"} == set(cli.COMMANDS)


@pytest.mark.parametrize(
    "line",
    [
        "train --config-file Synthetic/shapes_1pt.yaml", "predict --config-file Synthetic/shapes_1pt.yaml a.png",
        "evaluate --config-file Synthetic/shapes_1pt.yaml", "analyze Synthetic/shapes_1pt.yaml",
        "export --config-file Synthetic/shapes_1pt.yaml --output a.onnx", "check-data --json a.json",
        "show-data --config-file Synthetic/shapes_1pt.yaml", "convert a.pth b.pth", "prepare-data mot17 .",
    ],
)  # fmt: skip
def test_without_detectron2_one_sentence_says_what_to_do(line, tmp_path):
    done = run_without(["detectron2"], *line.split(), folder=tmp_path)
    assert done.returncode == 1
    (sentence,) = [text for text in done.stderr.splitlines() if "1/1" not in text]
    assert "Detectron2 is not installed" in sentence and "centernet-d2 install-detectron2" in sentence


def test_an_onnx_file_needs_neither(tmp_path):
    """From a folder without a checkout: images and JSON as with PyTorch."""
    pytest.importorskip("onnxruntime")
    export_synthetic(tmp_path / "model.onnx")
    cv2.imwrite(str(tmp_path / "a.png"), np.random.default_rng(0).integers(0, 255, (80, 100, 3), np.uint8))
    line = ["predict", "--model", "model.onnx", "a.png", "--confidence-threshold", "0", "--output", "out"]
    done = run_without(["detectron2", "torch", "torchvision"], *line, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (result,) = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (result["file_name"], result["height"], result["width"]) == ("a.png", 80, 100)
    assert result["objects"][0].keys() >= {"category_id", "category_name", "score", "box"}
    assert cv2.imread(str(tmp_path / "out" / "a.jpg")).shape == (400, 500, 3)


def test_models(capsys, tmp_path, monkeypatch):
    assert cli.main(["models"]) == 0
    assert "ctdet_coco_dla_2x" in capsys.readouterr().out
    assert cli.main(["models", "ctdet_coco_dla_2x"]) == 0
    assert "license: MIT" in capsys.readouterr().out
    monkeypatch.setenv("CENTERNET_D2_CACHE", str(tmp_path))
    assert cli.main(["models", "ctdet_coco_dla_2x", "--download"]) == 1
    assert "drive.google.com" in capsys.readouterr().err
    assert cli.main(["models", "ctdet_coco_dla"]) == 1
    assert "there is no model" in capsys.readouterr().err


def test_an_unknown_configuration_is_one_line(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--config-file", "Synthetic/shape_1pt.yaml"])
    assert "did you mean Synthetic/shapes_1pt.yaml" in capsys.readouterr().err
