"""What README prints runs as it stands, with a network of a few steps instead of the demo's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_metadata import write_dataset

ROOT = Path(__file__).resolve().parents[1]
TINY = (
    *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "SOLVER.MAX_ITER", "1", "SOLVER.STEPS", "()"),
    *("SOLVER.IMS_PER_BATCH", "2", "SOLVER.REFERENCE_WORLD_SIZE", "0", "DATALOADER.NUM_WORKERS", "0", "SEED", "2"),
    *("INPUT.SIZE_TRAIN", "[64,64]", "INPUT.SIZE_TEST", "[64,64]"),
)
# Enough steps for boxes with an area.
HOURGLASS = (
    "SOLVER.MAX_ITER",
    "30",
    "SOLVER.WARMUP_ITERS",
    "5",
    "MODEL.HOURGLASS.CHANNELS",
    "[16,16]",
    "MODEL.HOURGLASS.BLOCKS",
    "[1,1]",
    "DATASETS.TEST",
    "()",
)


def blocks(language: str, page: str = "README.md") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where README's commands run: the checkout's tools and configs, and ``output/demo`` as `make demo` leaves it."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("tools", "configs", "centernet_d2"):
        (folder / name).symlink_to(ROOT / name)
    config = "configs/Synthetic/shapes_1pt.yaml"
    command = [sys.executable, "tools/train_net.py", "--config-file", config, *TINY, *HOURGLASS]
    run([*command, "OUTPUT_DIR", "output/demo"], folder)
    make = ["make", "-n", "demo", "PYTHON=true", "-f", str(ROOT / "Makefile")]
    lines = subprocess.run(make, cwd=folder, check=True, capture_output=True, text=True).stdout.replace("\\\n", " ")
    (photo,) = (line for line in lines.splitlines() if "photo.jpg" in line)
    run(["sh", "-c", photo.replace(".venv/bin/python", sys.executable)], folder)
    return folder


def run(command: list[str], folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "DETECTRON2_DATASETS": "."}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.skipif(not shutil.which("make"), reason="the test runs the Makefile's commands; make is missing")
def test_every_python_block_runs(folder):
    assert (folder / "output" / "demo" / "photo.jpg").is_file()
    assert len(blocks("python")) == 1
    for code in blocks("python"):
        printed = run([sys.executable, "-c", code.replace("> 0.3", "> -1")], folder)
        assert re.search(r"^(ellipse|rectangle|triangle|cross|star|crescent) \d\.\d\d \[", printed, re.M), printed
    (code,) = blocks("python", "docs/inference.md")
    assert re.search(r"\['(ellipse|rectangle|triangle|cross|star|crescent)'", run([sys.executable, "-c", code], folder))


@pytest.mark.skipif(not shutil.which("make"), reason="the test runs the Makefile's commands; make is missing")
def test_data_of_ones_own(folder):
    """Check, train, draw: the commands as printed, with settings for a step on a CPU."""
    write_dataset(folder / "my")
    (folder / "my" / "photos").mkdir()
    (folder / "my" / "a.json").rename(folder / "my" / "train.json")
    (folder / "my" / "a.png").rename(folder / "my" / "photos" / "a.png")
    (block,) = (text for text in blocks("sh") if "my/train.json" in text)
    lines = block.replace("\\\n", " ").replace("source .venv/bin/activate\n", "")
    small = " ".join(f"'{word}'" for word in TINY)
    trained = re.sub(r"(train_net\.py .*)", lambda found: f"{found[1]} {small}", lines)
    assert trained != lines
    run(["sh", "-e", "-c", trained.replace("tools/", f"{sys.executable} tools/")], folder)
    assert (folder / "output" / "predictions" / "results.json").is_file()
