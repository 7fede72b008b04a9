"""The command itself: train, resume, evaluate; two machines on one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from centernet_d2.checkpoint.reading import load_file
from centernet_d2.cli.options import build_training_parser
from centernet_d2.data.synthetic.registration import SHAPE_NAMES
from centernet_d2.engine.run import run
from tests.helpers import runs  # noqa: F401  (registers the small datasets)

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "train_net.py"
# Group normalization, so that a batch may be shared between processes without a change.
SMALL = [
    "MODEL.DEVICE=cpu", "MODEL.HOURGLASS.CHANNELS=[64, 64]", "MODEL.HOURGLASS.BLOCKS=[1, 1]", "MODEL.HOURGLASS.NORM=GN",
    "INPUT.SIZE_TRAIN=[64, 64]", "INPUT.SIZE_TEST=[64, 64]", "SOLVER.IMS_PER_BATCH=2", "SOLVER.REFERENCE_WORLD_SIZE=0",
    "SOLVER.OPTIMIZER=SGD", "SOLVER.STEPS=()", "SOLVER.MAX_ITER=4", "SOLVER.CHECKPOINT_PERIOD=2", "SEED=3",
    "DATALOADER.NUM_WORKERS=0",
]  # fmt: skip


def arguments(folder: Path, *options: str) -> list[str]:
    config = ROOT / "configs" / "Synthetic" / "shapes_1pt.yaml"
    return ["--config-file", str(config), *options, *SMALL, f"OUTPUT_DIR={folder}"]


def main(folder: Path, *options: str, extra: tuple[str, ...] = ()) -> object:
    extra = ("DATASETS.TEST=('engine_test_val',)", *extra)
    return run(build_training_parser("").parse_args([*arguments(folder, *options), *extra]))


def last_loss(folder: Path) -> float:
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return next(line["total_loss"] for line in reversed(lines) if "total_loss" in line)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    results = main(folder)
    assert 0 <= results["bbox"]["AP"] <= 100
    return folder


def test_training_leaves_what_is_needed(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"config.yaml", "log.txt", "metrics.json", "last_checkpoint"} <= names
    assert {"model_0000001.pth", "model_final.pth"} <= names
    assert "Saving checkpoint" in (trained / "log.txt").read_text(), "our own lines are in the log, too"


def test_training_and_evaluation_leave_a_report_and_what_it_was(trained, tmp_path):
    text = (trained / "report.html").read_text()
    for title in ("Losses", "First images of training, with labels", "Confusion matrix: engine_test_val"):
        assert f"<h2>{title}</h2>" in text
    (described,) = json.loads((trained / "run.json").read_text())["runs"][:1]
    assert described["task"] == "train" and described["finished"] >= described["started"]
    assert described["config_file"].endswith("shapes_1pt.yaml") and described["seed"] == 3
    assert described["versions"]["torch"] == torch.__version__
    train, test = described["datasets"]["train"][0], described["datasets"]["test"][0]
    assert (train["name"], test["name"]) == ("synthetic_shapes_train", "engine_test_val")
    assert test["images"] == 4 and len(test["sha256"]) == 64

    main(tmp_path, "--eval-only", extra=(f"MODEL.WEIGHTS={trained / 'model_final.pth'}",))
    (evaluated,) = json.loads((tmp_path / "run.json").read_text())["runs"]
    assert evaluated["task"] == "evaluate" and set(evaluated["datasets"]) == {"test"}
    assert evaluated["datasets"]["test"] == described["datasets"]["test"]
    assert "Best and worst images: engine_test_val" in (tmp_path / "report.html").read_text()


def test_the_start_says_nothing_that_is_of_no_use(tmp_path):
    """No color codes in files, nothing of compiled operators, which are not used, nothing on stderr."""
    command = [sys.executable, str(TOOL), *arguments(tmp_path), "DATASETS.TEST=()", "SOLVER.MAX_ITER=1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stderr == ""
    for text in (done.stdout, (tmp_path / "log.txt").read_text()):
        assert "\x1b" not in text and "detectron2._C" not in text and "CUDA_HOME" not in text
        assert "sys.platform" in text and "HOURGLASS" in text


def test_evaluation_alone(trained, tmp_path):
    final = f"MODEL.WEIGHTS={trained / 'model_final.pth'}"
    results = main(tmp_path, "--eval-only", extra=(final,))
    again = main(trained, "--eval-only", "--resume")
    assert results["bbox"] == pytest.approx(again["bbox"], nan_ok=True)
    assert not list(tmp_path.glob("*.pth"))


def test_evaluating_what_does_not_fit_is_an_error(trained, tmp_path):
    with pytest.raises(ValueError, match=r"MODEL\.WEIGHTS"):
        main(tmp_path, "--eval-only")
    final = f"MODEL.WEIGHTS={trained / 'model_final.pth'}"
    with pytest.raises(ValueError, match="does not hold all of this model"):
        main(tmp_path, "--eval-only", extra=(final, "MODEL.CENTERNET.GRID_POINTS=[0, 4, 8]"))


def test_resuming(trained, tmp_path):
    """From the checkpoint in the center to the same weights."""
    (tmp_path / "model_0000001.pth").write_bytes((trained / "model_0000001.pth").read_bytes())
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    main(tmp_path, "--resume")
    ours, expected = (load_file(folder / "model_final.pth")["model"] for folder in (tmp_path, trained))
    assert all(torch.equal(ours[name], x) for name, x in expected.items())


def test_two_machines(trained, tmp_path):
    """Two starts of the command that meet on the loopback give one machine's losses with the same global batch."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    machines = []
    for rank in range(2):
        options = ["--num-machines", "2", "--machine-rank", str(rank), "--dist-url", url]
        command = [sys.executable, str(TOOL), *arguments(tmp_path, *options), "DATASETS.TEST=()"]
        machines.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    output = [machine.communicate(timeout=120)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], output
    assert last_loss(tmp_path) == pytest.approx(last_loss(trained), rel=1e-5)


@pytest.mark.parametrize("processes", [1, 2])
def test_dataset_errors_are_one_message_and_status_1(processes, tmp_path):
    """A missing image of the test set: no traceback, whatever the number of processes, and no first step."""
    data = {
        "images": [{"id": 1, "file_name": "absent.png", "width": 64, "height": 64}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [8, 8, 30, 20], "area": 600, "iscrowd": 0}],
        "categories": [{"id": k, "name": name} for k, name in enumerate(SHAPE_NAMES, start=1)],
    }
    (tmp_path / "a.json").write_text(json.dumps(data))
    custom = f"DATASETS.CUSTOM=[['test_train_net', 'coco', '{tmp_path}/a.json', '{tmp_path}']]"
    options = (*arguments(tmp_path / "out", "--num-gpus", str(processes)), custom, "DATASETS.TEST=('test_train_net',)")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(TOOL), *options], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 2, done.stderr
    first, second = done.stderr.splitlines()
    assert first.startswith("error: dataset test_train_net (a score without these images would be wrong): 1 errors")
    assert second == f"  {tmp_path}/absent.png, image: the file does not exist"
    assert "Starting training" not in done.stdout


def test_torchrun(trained, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(TOOL)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command += [*arguments(tmp_path), "DATASETS.TEST=()"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    assert last_loss(tmp_path) == pytest.approx(last_loss(trained), rel=1e-5)
