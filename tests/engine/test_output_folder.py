"""What happens around a run's folder: a second run in it, a full disk, annotations that are edited between two runs."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from detectron2.data import DatasetCatalog

from centernet_d2.cli.options import build_training_parser
from centernet_d2.engine.errors import FolderInUseError, StorageError, explain_storage
from centernet_d2.engine.output_lock import lock_output
from centernet_d2.engine.run import launch_run
from tests.cli.test_train import arguments
from tests.helpers.runs import engine_cfg, run


def hold(folder: Path, ready: Any) -> None:
    """Hold the lock, with a process that outlives this one."""
    with lock_output(folder):
        if os.fork():
            ready.set()
        time.sleep(60)


@pytest.fixture
def held(tmp_path):
    """A folder, and the process that holds it."""
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=hold, args=(tmp_path / "run", ready))
    process.start()
    assert ready.wait(60)
    yield tmp_path / "run", process
    os.system(f"pkill -9 -P {process.pid}")
    process.kill()
    process.join()


def train(folder: Path) -> None:
    launch_run(build_training_parser("").parse_args(arguments(folder)))


def read_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a training that must fail says."""
    with pytest.raises(SystemExit) as ended:
        train(folder)
    said = capsys.readouterr()
    assert ended.value.code == 1 and "Traceback" not in said.out + said.err
    return said.err


def test_a_second_training_is_refused_until_the_first_has_ended(held, capsys):
    """The first is killed, and a process that it started lives on."""
    folder, first = held
    said = read_error(folder, capsys)
    assert said.startswith(f"error: another training writes to {folder} (process {first.pid} on ")
    assert said.count("\n") == 1 and not (folder / "config.yaml").exists()
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    with lock_output(folder), lock_output(folder.with_name("another")):
        assert (folder / ".lock").read_text().startswith(f"process {os.getpid()} on ")


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", refuse)
    with caplog.at_level(logging.WARNING), lock_output(tmp_path):
        assert "cannot be locked" in caplog.text


def test_the_folder_is_free_after_an_error(tmp_path):
    with pytest.raises(KeyError), lock_output(tmp_path):
        raise KeyError
    with lock_output(tmp_path):
        pass
    assert issubclass(FolderInUseError, RuntimeError)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_no_room_for_metrics(tmp_path, capsys):
    """Writing to /dev/full fails as on a full disk."""
    (tmp_path / "metrics.json").symlink_to("/dev/full")
    said = read_error(tmp_path, capsys)
    assert said.startswith("error: [Errno 28] No space left on device") and str(tmp_path) in said and "--resume" in said
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"


@pytest.mark.parametrize(("step", "code"), [("fsync", "ESTALE"), ("replace", "ETIMEDOUT")])
def test_a_network_folder_that_goes_ends_the_run(tmp_path, capsys, monkeypatch, code, step):
    """While the second checkpoint is written; the first is as it was."""
    do, number, calls = getattr(os, step), getattr(errno, code), []

    def go_away(*arguments):
        calls.append(arguments)
        if len(list(tmp_path.glob("model_*.pth"))) > 0:
            raise OSError(number, os.strerror(number), str(tmp_path))
        return do(*arguments)

    monkeypatch.setattr(os, step, go_away)
    start = time.monotonic()
    said = read_error(tmp_path, capsys)
    assert said.startswith(f"error: [Errno {number}] ") and "--resume goes on from the last" in said
    assert said.count("\n") == 1 and time.monotonic() - start < 60 and calls
    assert [path.name for path in tmp_path.glob("model_*")] == ["model_0000001.pth"]
    assert not list(tmp_path.glob("*.tmp-*"))


@pytest.mark.parametrize("code", ["EDQUOT", "EHOSTDOWN", "EHOSTUNREACH", "EIO", "ENOTCONN", "EROFS"])
def test_errors_of_storage_are_explained(code):
    with pytest.raises(StorageError, match="--resume goes on from the last"), explain_storage("output"):
        raise OSError(getattr(errno, code), "gone")
    with pytest.raises(OSError, match="no such program"), explain_storage("output"):
        raise OSError(errno.ENOENT, "no such program")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_no_room_for_tensorboard(tmp_path, capsys, monkeypatch):
    """Its thread fails, and nothing waits for that."""
    writer = pytest.importorskip("tensorboard.summary.writer.record_writer").RecordWriter

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(writer, "write", refuse)
    monkeypatch.setattr(writer, "flush", refuse)
    start = time.monotonic()
    assert "No space left on device" in read_error(tmp_path, capsys)
    assert time.monotonic() - start < 60


def test_edited_annotations_are_warned_of(tmp_path, monkeypatch, caplog):
    opts = ("SOLVER.CHECKPOINT_PERIOD", 2, "SOLVER.MAX_ITER", 4)
    run(engine_cfg(tmp_path, *opts), stop_after=2)
    with caplog.at_level(logging.WARNING, "centernet_d2"):
        run(engine_cfg(tmp_path, *opts), resume=True, stop_after=3)
        assert "is not what the checkpoint was trained on" not in caplog.text
        dataset_dicts = DatasetCatalog.get("engine_test_train")
        dataset_dicts[3]["annotations"].pop()
        count = sum(len(one["annotations"]) for one in dataset_dicts)
        monkeypatch.setitem(DatasetCatalog.data, "engine_test_train", lambda: dataset_dicts)
        record = run(engine_cfg(tmp_path, *opts), resume=True)
    warning = (
        "Dataset engine_test_train is not what the checkpoint was trained on: "
        f"it had 24 images with {count + 1} objects, now there are 24 with {count}."
    )
    assert warning in caplog.text and len(record.losses) == 2


def test_moved_boxes_are_warned_of(tmp_path, monkeypatch, caplog):
    """Their number is the same."""
    opts = ("SOLVER.CHECKPOINT_PERIOD", 1, "SOLVER.MAX_ITER", 2)
    run(engine_cfg(tmp_path, *opts), stop_after=1)
    dataset_dicts = DatasetCatalog.get("engine_test_train")
    box = dataset_dicts[0]["annotations"][0]["bbox"]
    dataset_dicts[0]["annotations"][0]["bbox"] = [box[0] + 0.5, *box[1:]]
    monkeypatch.setitem(DatasetCatalog.data, "engine_test_train", lambda: dataset_dicts)
    with caplog.at_level(logging.WARNING, "centernet_d2"):
        run(engine_cfg(tmp_path, *opts), resume=True)
    assert "engine_test_train is not what the checkpoint was trained on" in caplog.text
