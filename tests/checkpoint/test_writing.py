"""A kill, a full disk or an error at any moment leaves a checkpoint to go on from."""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from centernet_d2.checkpoint.checkpointer import SafeCheckpointer
from centernet_d2.checkpoint.reading import UnsafeCheckpointError, load_file
from centernet_d2.checkpoint.writing import (
    read_pointer,
    remove_leftovers,
    save_checkpoint,
    save_pointer,
    write_atomically,
)

KILLS = 10


class Counter(nn.Module):
    """4 MB that all hold the number of the save."""

    def __init__(self, size: int = 1_000_000) -> None:
        super().__init__()
        self.register_buffer("value", torch.zeros(size))


def save_forever(folder: str, finished: int) -> None:
    model = Counter()
    checkpointer = SafeCheckpointer(model, folder)
    first = checkpointer.resume_or_load("", resume=True).get("iteration", -1) + 1
    for i in range(first, first + 10_000):
        model.value.fill_(i)
        checkpointer.save("model_final", iteration=i)
        os.write(finished, i.to_bytes(4, "little"))


def test_killed_while_saving(tmp_path):
    """10 of 10 runs go on from a complete checkpoint, and at most the save that was under way is lost."""
    rng = random.Random(0)
    for _ in range(KILLS):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                save_forever(str(tmp_path), writer)
            finally:
                os._exit(1)
        os.close(writer)
        assert os.read(reader, 4), "the child has saved"
        time.sleep(rng.uniform(0, 0.08))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(reader, "rb") as rest:
            reported = rest.read()
        model = Counter()
        iteration = SafeCheckpointer(model, str(tmp_path)).resume_or_load("", resume=True)["iteration"]
        assert (model.value == iteration).all()
        if reported:
            assert iteration >= int.from_bytes(reported[-4:], "little")
    SafeCheckpointer(Counter(), str(tmp_path)).save("model_final")
    assert list(tmp_path.glob("*.tmp-*")) == [], "what the killed ones left is gone after the next save"


def filled(folder: Path) -> tuple[SafeCheckpointer, bytes]:
    checkpointer = SafeCheckpointer(Counter(1000), str(folder))
    checkpointer.save("model_0000001", iteration=1)
    return checkpointer, (folder / "model_0000001.pth").read_bytes()


def test_disk_full(tmp_path):
    """The kernel refuses to write on after 2 KB."""
    checkpointer, before = filled(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises((OSError, RuntimeError)):
            checkpointer.save("model_0000001", iteration=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, previous)
    assert (tmp_path / "model_0000001.pth").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["last_checkpoint", "model_0000001.pth"]


@pytest.mark.parametrize("corrupt", ["state_dict", "write", "not plain", "not finite"])
def test_error_while_saving(corrupt, tmp_path, monkeypatch):
    checkpointer, before = filled(tmp_path)
    extra = {}
    if corrupt == "state_dict":
        monkeypatch.setattr(checkpointer.model, "state_dict", lambda: 1 / 0)
        expected = ZeroDivisionError
    elif corrupt == "write":
        monkeypatch.setattr(torch, "save", lambda data, file: (file.write(b"half"), 1 / 0))
        expected = ZeroDivisionError
    elif corrupt == "not plain":
        extra, expected = {"trainer": Path("x")}, UnsafeCheckpointError
    else:
        checkpointer.model.value[3] = float("nan")
        expected = FloatingPointError
    for name in ("model_0000001", "model_0000002"):
        with pytest.raises(expected):
            checkpointer.save(name, iteration=2, **extra)
    assert (tmp_path / "model_0000001.pth").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["last_checkpoint", "model_0000001.pth"]


def test_read_only_folder(tmp_path, monkeypatch):
    """The error of a read-only folder is raised. (Simulated: permissions do not hold for root.)"""
    checkpointer, before = filled(tmp_path)

    def refuse(*args, **kwargs):
        raise PermissionError("read-only")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        with pytest.raises(PermissionError):
            checkpointer.save("model_0000001", iteration=2)
    assert (tmp_path / "model_0000001.pth").read_bytes() == before


def test_what_is_written_badly_is_not_renamed(tmp_path):
    """The file is read back before it takes the old one's place."""
    path = tmp_path / "x.pth"
    save_checkpoint({"a": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match=r"damaged|no checkpoint"):
        write_atomically(path, lambda file: file.write(b"garbage"), load_file)
    assert load_file(path)["a"].tolist() == [0, 0] and os.listdir(tmp_path) == ["x.pth"]


def test_leftovers_of_the_dead_only(tmp_path):
    dead = os.fork()
    if dead == 0:
        os._exit(0)
    os.waitpid(dead, 0)
    ours, theirs, other = (tmp_path / f"x.pth.tmp-{name}" for name in (os.getpid(), dead, "notes"))
    for path in (ours, theirs, other):
        path.touch()
    remove_leftovers(tmp_path)
    assert ours.exists() and other.exists() and not theirs.exists()


def test_pointer(tmp_path):
    assert read_pointer(tmp_path) is None
    save_pointer(tmp_path, "model_0000001.pth")
    assert read_pointer(tmp_path) == "model_0000001.pth"
    assert os.listdir(tmp_path) == ["last_checkpoint"]


POINTERS = [b"", b"\n", b"\xff\x00x", b"../other/model_0000001.pth", b"/etc/passwd", b"model.txt", b"..", b"a/b.pth"]


@pytest.mark.parametrize("content", POINTERS)
def test_strange_pointers_are_refused(content, tmp_path):
    (tmp_path / "last_checkpoint").write_bytes(content)
    with pytest.raises(ValueError, match="last_checkpoint"):
        read_pointer(tmp_path)
