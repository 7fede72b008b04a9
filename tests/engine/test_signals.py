"""SIGTERM, Ctrl-C and SIGUSR1: a checkpoint of the last step, the right status, no process left, an exact resume."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from centernet_d2.checkpoint.reading import load_file
from tests.helpers.stops import Training, is_running, list_descendants, training

ROOT = Path(__file__).resolve().parents[2]
STATUS = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGUSR1: 0}
OPTS = ("MODEL.BACKBONE.NAME", "DropoutBackbone", "SOLVER.EMA.DECAY", 0.5, "SOLVER.CHECKPOINT_PERIOD", 1000)
LONG = (*OPTS, "SOLVER.MAX_ITER", 2000)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("whole") / "run"
    with training(folder, *OPTS) as one:
        assert one.finish() == 0
    return load_file(folder / "model_final.pth")


def check_stopped(one: Training, number: int) -> int:
    """Check what a stopped training leaves; returns the number of finished steps."""
    assert one.finish() == STATUS[number]
    said = one.read()
    assert "Traceback" not in said and "rror" not in said
    (line,) = (line for line in said.splitlines() if "Stopped by" in line)
    steps = int(re.search(r"after (\d+) of \d+ iterations", line)[1])
    assert steps == said.count("done ") and line.endswith("To go on: the same command with --resume")
    name = f"model_{steps - 1:07d}.pth"
    assert (one.folder / "last_checkpoint").read_text() == name
    assert load_file(one.folder / name)["iteration"] == steps - 1
    return steps


@pytest.mark.parametrize("number", STATUS)
@pytest.mark.parametrize("workers", [0, 2])
def test_stopped_and_resumed(number, workers, uninterrupted, tmp_path):
    """To the same weights, optimizer, average and random states as a run that was not stopped."""
    opts = (*OPTS, "DATALOADER.NUM_WORKERS", workers)
    with training(tmp_path / "run", *opts) as one:
        one.wait_for("done 5")
        one.signal(number, group=number == signal.SIGINT)
        assert 6 <= check_stopped(one, number) < 20
    with training(tmp_path / "run", *opts, resume=True) as one:
        assert one.finish() == 0
    ours = load_file(tmp_path / "run" / "model_final.pth")
    for name, value in uninterrupted["model"].items():
        assert torch.equal(ours["model"][name], value), name
    trainer = uninterrupted["trainer"]
    for key, state in trainer["_trainer"]["optimizer"]["state"].items():
        assert all(torch.equal(ours["trainer"]["_trainer"]["optimizer"]["state"][key][k], x) for k, x in state.items())
    assert torch.equal(ours["trainer"]["random_states"][0]["torch"], trainer["random_states"][0]["torch"])


@pytest.mark.parametrize("workers", [0, 1])
def test_waiting_for_data(workers, tmp_path):
    """An image that never arrives does not hold it up."""
    with training(tmp_path / "run", *LONG, "DATALOADER.NUM_WORKERS", workers, stall_in="training") as one:
        one.wait_for("stalled")
        time.sleep(0.5)
        start = time.monotonic()
        one.signal(signal.SIGTERM)
        check_stopped(one, signal.SIGTERM)
        assert time.monotonic() - start < 5


def test_evaluating(tmp_path):
    opts = (*LONG, "DATASETS.TEST", ("engine_test_val",), "TEST.EVAL_PERIOD", 6)
    with training(tmp_path / "run", *opts, stall_in="evaluation") as one:
        one.wait_for("stalled")
        one.signal(signal.SIGINT)
        assert check_stopped(one, signal.SIGINT) == 6


def test_a_second_signal_stops_at_once(tmp_path):
    """While the first one's checkpoint cannot be written."""
    with training(tmp_path / "run", *LONG) as one:
        one.wait_for("done 2")
        os.mkfifo(tmp_path / "run" / f"model_{0:07d}.pth.tmp-{one.process.pid}")
        for step in range(2000):
            path = tmp_path / "run" / f"model_{step:07d}.pth.tmp-{one.process.pid}"
            if not path.exists():
                os.mkfifo(path)
        one.signal(signal.SIGTERM)
        one.wait_for("Saving checkpoint")
        time.sleep(0.6)
        one.signal(signal.SIGTERM)
        assert one.finish(5) == 143
        assert "stopped by SIGTERM at once" in one.read() and "Traceback" not in one.read()


def test_two_signals_at_the_same_time_are_one(tmp_path):
    """As ``timeout`` sends them."""
    with training(tmp_path / "run", *LONG) as one:
        one.wait_for("done 2")
        one.signal(signal.SIGTERM)
        one.signal(signal.SIGTERM, group=True)
        check_stopped(one, signal.SIGTERM)


def test_one_of_two_machines_is_stopped(tmp_path):
    """Both end after the same step."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        how = {"machines": 2, "url": f"tcp://127.0.0.1:{probe.getsockname()[1]}"}
    with (
        training(tmp_path / "run", *LONG, **how, machine_rank=0) as first,
        training(tmp_path / "run", *LONG, **how, machine_rank=1) as second,
    ):
        second.wait_for("done 4")
        second.signal(signal.SIGUSR1)
        steps = check_stopped(first, signal.SIGUSR1)
        assert second.finish() == 0 and second.read().count("done ") == steps


SCENES = [
    ("launcher", signal.SIGTERM, ""),
    pytest.param("group", signal.SIGINT, "", marks=pytest.mark.slow),
    pytest.param("one", signal.SIGUSR1, "", marks=pytest.mark.slow),
    pytest.param("one", signal.SIGTERM, "training", marks=pytest.mark.slow),
    pytest.param("launcher", signal.SIGINT, "evaluation", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("to", "number", "stall_in"), SCENES)
def test_two_processes(to, number, stall_in, tmp_path):
    opts = (
        *LONG,
        "DATASETS.TEST",
        ("engine_test_val",),
        "TEST.EVAL_PERIOD",
        7,
        "DATALOADER.NUM_WORKERS",
        int(bool(stall_in)),
    )
    with training(tmp_path / "run", *opts, stall_in=stall_in, processes=2) as one:
        one.wait_for("done 0" if stall_in == "training" else "done 4", seconds=120)
        if stall_in:
            one.wait_for("stalled", seconds=120)
        if to == "one":
            ranks = [int(pid) for pid in re.findall(r"rank in process (\d+)", one.read())]
            os.kill(ranks[-1], number)
        else:
            one.signal(number, group=to == "group")
        assert one.finish() == STATUS[number]
        said = one.read()
        assert "Traceback" not in said and said.count("Stopped by") == 1
        steps = int(re.search(r"after (\d+) of", said)[1])
        assert said.count("done ") == 2 * steps > 0
        assert load_file(tmp_path / "run" / f"model_{steps - 1:07d}.pth")["iteration"] == steps - 1


def start_command(folder: Path, *options: str) -> subprocess.Popen:
    config = ROOT / "configs" / "Synthetic" / "shapes_1pt.yaml"
    command = [sys.executable, str(ROOT / "tools" / "train_net.py"), "--config-file", str(config), *options]
    command += ["MODEL.DEVICE=cpu", f"OUTPUT_DIR={folder}", "SOLVER.IMS_PER_BATCH=2", "INPUT.SIZE_TRAIN=[64, 64]"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


@pytest.mark.parametrize("number", [signal.SIGINT, *(pytest.param(x, marks=pytest.mark.slow) for x in (10, 15))])
def test_starting(number, tmp_path):
    """Before the first step: at once, without a checkpoint."""
    process = start_command(tmp_path / "run")
    while not (tmp_path / "run" / "log.txt").exists():
        time.sleep(0.02)
    process.send_signal(number)
    said = process.communicate(timeout=10)[0]
    assert process.returncode == STATUS[number]
    assert "Traceback" not in said and said.endswith(
        f"stopped by {signal.Signals(number).name} before the first step\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", STATUS)
@pytest.mark.parametrize("group", [False, True])
def test_starting_two(number, group, tmp_path):
    process = start_command(tmp_path / "run", "--num-gpus", "2")
    while len(list_descendants(process.pid)) < 2:
        time.sleep(0.02)
    time.sleep(2)
    started = list_descendants(process.pid)
    (os.killpg if group else os.kill)(process.pid, number)
    said = process.communicate(timeout=10)[0]
    assert process.returncode == STATUS[number] and "Traceback" not in said
    time.sleep(0.5)
    assert not any(map(is_running, started))
