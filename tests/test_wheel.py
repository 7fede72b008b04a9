"""The wheel, installed in a fresh environment outside the checkout: train, evaluate, predict, export."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.helpers.exported import SMALL

ROOT = Path(__file__).parents[1]
TINY = [*SMALL, "SOLVER.IMS_PER_BATCH=2", "SOLVER.REFERENCE_WORLD_SIZE=0", "SOLVER.STEPS=()", "SOLVER.MAX_ITER=30"]
TINY += [
    "DATALOADER.NUM_WORKERS=0",
    "DATASETS.TEST=()",
    "SEED=2",
    "SOLVER.WARMUP_ITERS=5",
]  # enough for boxes with an area


def run(folder: Path, *command: object) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def scripts(tmp_path_factory) -> Path:
    """The scripts of an environment with the wheel, which sees the other packages of this one."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = run(
        ROOT, "git", "ls-files", "centernet_d2", "configs", "setup.py", "pyproject.toml", "MANIFEST.in", "LICENSE"
    )
    for name in filter(lambda name: (ROOT / name).is_file(), listed.splitlines()):
        copy = folder / "source" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run(folder, *pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder, folder / "source")
    (wheel,) = folder.glob("*.whl")
    run(folder, sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    run(folder, *pip, "--python", python, "install", "--no-deps", "--no-index", wheel)
    site = run(folder, python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    Path(site, "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    assert run(folder, python, "-c", "import centernet_d2; print(centernet_d2.__file__)").startswith(site)
    return python.parent


@pytest.mark.slow
def test_train_predict_export(scripts, tmp_path):
    command = scripts / "centernet-d2"
    cv2.imwrite(str(tmp_path / "a.png"), np.random.default_rng(0).integers(0, 255, (80, 100, 3), np.uint8))
    run(tmp_path, command, "train", "--config-file", "Synthetic/shapes_1pt.yaml", "OUTPUT_DIR=mine", *TINY)
    lowest = ["--confidence-threshold", "0", "--output"]
    run(tmp_path, command, "predict", "--model", "mine", "a.png", *lowest, "with_torch")
    test = ["--output", "scores", "DATASETS.TEST=('synthetic_shapes_val',)"]
    assert "bbox" in run(tmp_path, command, "evaluate", "--model", "mine", *test)
    run(
        tmp_path, scripts / "python", "-m", "centernet_d2", "export", "--model", "mine", "--output", "a.onnx", "--check"
    )
    run(tmp_path, command, "predict", "--model", "a.onnx", "a.png", *lowest, "with_onnx")
    found = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("with_torch", "with_onnx")]
    scores = [[one["score"] for one in results[0]["objects"]] for results in found]
    assert len(scores[0]) > 5 and np.allclose(*scores, atol=0.01)


@pytest.mark.slow
def test_configs_and_license_are_inside(scripts, tmp_path):
    code = (
        "from centernet_d2 import model_zoo; from centernet_d2.cli.install_detectron2 import _find_license; "
        "print(len(model_zoo.list_configs()), model_zoo.get_config_file('Synthetic/shapes_1pt.yaml'), _find_license())"
    )
    count, config, license = run(tmp_path, scripts / "python", "-c", code).split()
    assert int(count) == len([path for path in (ROOT / "configs").rglob("*.yaml") if not path.name.startswith("Base-")])
    assert Path(config).is_relative_to(scripts.parent) and Path(license).is_relative_to(scripts.parent)
