"""Checkpoints with the old names of parameters load."""

from __future__ import annotations

import logging

import pytest
import torch
from detectron2.modeling import build_model

from centernet_d2.checkpoint.checkpointer import SafeCheckpointer
from centernet_d2.checkpoint.renamed import RENAMED_HEADS, rename_parameter
from tests.helpers.keypoints import keypoint_cfg
from tests.helpers.tiny import tiny_cfg
from tests.modeling.meta_arch.test_centertrack import tracking_cfg

OLD_HEADS = {new: old for old, new in RENAMED_HEADS.items()}
CONFIGS = {
    "detection": lambda: tiny_cfg(),
    "regression": lambda: keypoint_cfg("face68", "KeypointRegressionTask"),
    "grouping": lambda: keypoint_cfg("face68", "KeypointHeatmapTask"),
    "tracking": lambda: tracking_cfg(),
}


def old_name(name: str) -> str:
    """As this project named it before heads were called heads."""
    parts = name.split(".")
    if parts[:2] != ["task", "heads"]:
        return name
    return ".".join(["task", "branches", OLD_HEADS.get(parts[2], parts[2]), "heads", *parts[4:]])


@pytest.mark.parametrize("kind", CONFIGS)
def test_an_old_checkpoint_fills_the_whole_model(kind, tmp_path, caplog):
    torch.manual_seed(0)
    source = build_model(CONFIGS[kind]()).state_dict()
    old = {old_name(name): value for name, value in source.items()}
    assert old.keys() != source.keys() and {rename_parameter(name) for name in old} == set(source)
    torch.save({"model": old}, tmp_path / "old.pth")
    model = build_model(CONFIGS[kind]())
    checkpointer = SafeCheckpointer(model)
    with caplog.at_level(logging.INFO):
        checkpointer.load(str(tmp_path / "old.pth"))
    checkpointer.require_complete("old.pth")
    assert all(torch.equal(value, source[name]) for name, value in model.state_dict().items())
    assert sum("old names" in record.getMessage() for record in caplog.records) == 1
