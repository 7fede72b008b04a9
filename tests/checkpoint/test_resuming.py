"""Which checkpoint a training resumes from, and what it does about damaged ones."""

from __future__ import annotations

import logging
import os

import pytest
import torch
from torch import nn

from centernet_d2.checkpoint.checkpointer import SafeCheckpointer


def run_folder(tmp_path) -> nn.Module:
    """Three checkpoints with the values 1, 2, 3."""
    model = nn.Linear(200, 200)
    checkpointer = SafeCheckpointer(model, str(tmp_path))
    for i in (1, 2, 3):
        nn.init.constant_(model.weight, i)
        checkpointer.save(f"model_{i:07d}", iteration=i)
        os.utime(tmp_path / f"model_{i:07d}.pth", (i, i))
    return model


def resumed(tmp_path) -> int:
    model = nn.Linear(200, 200)
    iteration = SafeCheckpointer(model, str(tmp_path)).resume_or_load("", resume=True)["iteration"]
    assert (model.weight == iteration).all()
    return iteration


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.5, 0.99])
def test_a_cut_off_checkpoint_is_passed_over(fraction, tmp_path, caplog):
    run_folder(tmp_path)
    assert resumed(tmp_path) == 3
    last = tmp_path / "model_0000003.pth"
    last.write_bytes(last.read_bytes()[: int(fraction * last.stat().st_size)])
    os.utime(last, (3, 3))
    with caplog.at_level(logging.WARNING):
        assert resumed(tmp_path) == 2
    assert "model_0000003.pth" in caplog.text


@pytest.mark.parametrize("content", [None, b"", b"\xffgarbage", b"model_0000009.pth", b"OUTSIDE", b"../outside.pth"])
def test_a_bad_pointer_is_passed_over(content, tmp_path, caplog):
    outside = tmp_path / "outside.pth"
    torch.save({"model": nn.Linear(200, 200).state_dict(), "iteration": 99}, outside)
    folder = tmp_path / "run"
    folder.mkdir()
    run_folder(folder)
    if content is None:
        (folder / "last_checkpoint").unlink()
    else:
        (folder / "last_checkpoint").write_bytes(content.replace(b"OUTSIDE", str(outside).encode()))
    with caplog.at_level(logging.WARNING):
        assert resumed(folder) == 3
    assert "checkpoint" in caplog.text


def test_nothing_readable_is_an_error(tmp_path):
    run_folder(tmp_path)
    for path in tmp_path.glob("*.pth"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"nothing in .* can be resumed"):
        resumed(tmp_path)


def test_another_model_is_no_reason_to_go_further_back(tmp_path):
    run_folder(tmp_path)
    with pytest.raises(ValueError, match=r"does the config belong to it|not a checkpoint of this model"):
        SafeCheckpointer(nn.Linear(3, 3), str(tmp_path)).resume_or_load("", resume=True)


def test_a_new_folder_starts_from_the_weights(tmp_path):
    run_folder(tmp_path)
    checkpointer = SafeCheckpointer(nn.Linear(200, 200), str(tmp_path / "new"))
    checkpointer.resume_or_load(str(tmp_path / "model_0000001.pth"), resume=True)
    assert (checkpointer.model.weight == 1).all() and checkpointer.resumed_from is None


def test_pruning_keeps_the_newest_and_the_one_to_resume_from(tmp_path):
    model = run_folder(tmp_path)
    checkpointer = SafeCheckpointer(model, str(tmp_path))
    checkpointer.save("model_final", tag=False)
    checkpointer.save("model_best", tag=False)
    # Went on from an older one: its successors are the older files, whatever their numbers.
    checkpointer.save("model_0000002", iteration=2)
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    checkpointer.prune(keep=1)
    assert sorted(p.name for p in tmp_path.glob("*.pth")) == [
        *("model_0000001.pth", "model_0000002.pth", "model_best.pth", "model_final.pth")
    ]
