"""What README prints runs as it stands, with a network of a few steps instead of the demo's."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from centernet_d2.model_zoo import find_model
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


SHAPE = "(ellipse|rectangle|triangle|cross|star|crescent)"


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


def run(command: list[str], folder: Path, **variables: str) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "DETECTRON2_DATASETS": ".",
        **variables,
    }
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.skipif(not shutil.which("make"), reason="the test runs the Makefile's commands; make is missing")
def test_every_python_block_runs(folder):
    assert (folder / "output" / "demo" / "photo.jpg").is_file()
    first, script = blocks("python")
    assert 'Detector("centerface")' in first  # see below
    printed = run([sys.executable, "-c", script.replace("> 0.3", "> -1")], folder)
    assert re.search(rf"^{SHAPE} \d\.\d\d \[", printed, re.M), printed
    (code,) = blocks("python", "docs/inference.md")
    assert re.search(rf"\['{SHAPE}'", run([sys.executable, "-c", code], folder))


@pytest.mark.skipif(not shutil.which("make"), reason="the test runs the Makefile's commands; make is missing")
def test_the_page_on_the_detector(folder):
    """All blocks one after another, with a network of a few steps."""
    write_data(folder / "my")
    shutil.copytree(folder / "my" / "photos", folder / "output" / "demo" / "images")
    small = [f"{key}={value}" for key, value in zip(TINY[::2], TINY[1::2], strict=True) if not key.startswith("SOLVER")]
    code = "\n".join(blocks("python", "docs/api.md"))
    trained = code.replace('device="cpu")', f'device="cpu", options={small!r})').replace(
        '/demo")', '/demo", threshold=0)'
    )
    assert trained.count("options=") == 1
    printed = run([sys.executable, "-c", trained], folder)
    assert re.search(rf"^{SHAPE} \d\.\d\d \[", printed, re.M) and "images/a.png" in printed


def test_the_first_screen(tmp_path):
    """With the published file where its download would be, and a real photo."""
    shared = ROOT.parent / "shared"
    published, photo = shared / "models/centerface/centerface.onnx", shared / "data/dlib_faces/2008_001322.jpg"
    if not (published.is_file() and photo.is_file()):
        pytest.skip(f"no {published} or no {photo}")
    (tmp_path / "cache").mkdir()
    shutil.copyfile(published, tmp_path / "cache" / find_model("centerface").file_name)
    shutil.copyfile(photo, tmp_path / "photo.jpg")
    cache = {"CENTERNET_D2_CACHE": str(tmp_path / "cache")}
    code, commands = blocks("python")[0], blocks("sh")[0].splitlines()
    assert (
        re.match(r"\[\[", run([sys.executable, "-c", code], tmp_path, **cache))
        and (tmp_path / "predictions.jpg").is_file()
    )
    # The wheel's test installs.
    assert [line.split()[:2] for line in commands[:2]] == [["pip", "install"], ["centernet-d2", "install-detectron2"]]
    run(["sh", "-e", "-c", as_module(commands[2])], tmp_path, **cache)
    (result,) = json.loads((tmp_path / "output" / "demo" / "results.json").read_text())
    assert result["objects"] and all(one["category_name"] == "face" for one in result["objects"])


@pytest.mark.skipif(not shutil.which("make"), reason="the test runs the Makefile's commands; make is missing")
def test_data_of_ones_own(folder):
    """Check, train, draw: the commands as printed, with settings for a step on a CPU."""
    write_data(folder / "my")
    (block,) = (text for text in blocks("sh") if "check-data --json my/train.json" in text)
    lines = block.replace("\\\n", " ")
    small = " ".join(f"'{word}'" for word in TINY)
    trained = re.sub(r"(centernet-d2 train .*)", lambda found: f"{found[1]} {small}", lines)
    assert trained != lines
    run(["sh", "-e", "-c", as_module(trained)], folder)
    assert (folder / "output" / "predictions" / "results.json").is_file()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("make"), reason="the test runs the Makefile's commands; make is missing")
def test_getting_started(folder):
    """All commands but the first, which needs a download."""
    write_data(folder / "my")
    first, *others = blocks("sh", "docs/getting_started.md")
    assert "centerface" in first and len(others) == 4
    lines = "".join(others).replace("\\\n", " ").replace("output/shapes\n", "output/shapes DATASETS.TEST '()'\n", 1)
    small = " ".join(f"'{word}'" for word in (*TINY, *HOURGLASS[-6:-2]))
    short = re.sub(r"(centernet-d2 (?:train|show-data) .*)", lambda found: f"{found[1]} {small}", lines)
    run(["sh", "-e", "-c", as_module(short.replace("--num-images 16", "--num-images 2"))], folder)
    output = folder / "output"
    assert any((output / "inputs").iterdir()) and (output / "mine" / "model.onnx").is_file()
    assert (output / "shapes" / "images" / "results.json").is_file()


def as_module(commands: str) -> str:
    """Shell commands that run without the installed entry point."""
    return commands.replace("centernet-d2 ", f"{sys.executable} -m centernet_d2 ")


def write_data(folder: Path) -> None:
    """``train.json`` and ``photos``."""
    if not (folder / "photos").is_dir():
        write_dataset(folder)
        (folder / "photos").mkdir()
        (folder / "a.json").rename(folder / "train.json")
        (folder / "a.png").rename(folder / "photos" / "a.png")
