"""Prediction from a script: the README's example as printed, and a config and checkpoint that survive a round trip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg as get_detectron2_cfg
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model

import centernet_d2
from centernet_d2.checkpoint.checkpointer import SafeCheckpointer
from centernet_d2.engine.setup import setup_cfg

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def run(tmp_path):
    """A folder as training leaves it, of an untrained network whose boxes have some size."""
    config = ROOT / "configs" / "Synthetic" / "shapes_9pt.yaml"
    cfg = setup_cfg(str(config), ["OUTPUT_DIR", str(tmp_path / "output" / "demo"), "MODEL.DEVICE", "cpu"])
    model = build_model(cfg)
    with torch.no_grad():
        for parameter in model.task.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
        model.task.heads["box_size"].layers[-1][2].bias.fill_(6)
    Path(cfg.OUTPUT_DIR).mkdir(parents=True)
    SafeCheckpointer(model, cfg.OUTPUT_DIR).save("model_final")
    (tmp_path / "output" / "demo" / "config.yaml").write_text(cfg.dump())
    cfg.defrost()
    cfg.MODEL.WEIGHTS = str(tmp_path / "output" / "demo" / "model_final.pth")
    return cfg


def photo(height=120, width=170):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_saved_config_and_checkpoint_give_the_same_answer(run, tmp_path):
    again = centernet_d2.get_cfg()
    again.merge_from_file(str(tmp_path / "output" / "demo" / "config.yaml"))
    again.MODEL.WEIGHTS = run.MODEL.WEIGHTS
    first, second = (DefaultPredictor(cfg)(photo())["instances"] for cfg in (run, again))
    assert len(first) > 0
    assert torch.equal(first.pred_boxes.tensor, second.pred_boxes.tensor)
    assert torch.equal(first.scores, second.scores)


def test_augmented_prediction(run):
    """Flipping and scales reach DefaultPredictor, and all of it stays in the image."""
    run.TEST.AUG.ENABLED, run.TEST.AUG.SCALES = True, [0.75, 1.0]
    predictions = DefaultPredictor(run)(photo())["instances"]
    boxes = predictions.pred_boxes.tensor
    assert len(predictions) > 0
    assert (boxes >= 0).all()
    assert (boxes[:, 2:] <= torch.tensor([170.0, 120.0])).all()


def test_detectron2s_own_config_will_do(run):
    """``add_centernet_config`` and a config file are all that a script needs."""
    cfg = get_detectron2_cfg()
    centernet_d2.add_centernet_config(cfg)
    cfg.merge_from_file(str(ROOT / "configs" / "Base-CenterNet.yaml"))
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ()
    cfg.MODEL.DEVICE, cfg.MODEL.CENTERNET.NUM_CLASSES = "cpu", 3
    cfg.MODEL.ALLOW_INCOMPLETE_WEIGHTS = True
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.NECK.NAME = "build_hourglass_backbone", ""
    cfg.MODEL.HOURGLASS.CHANNELS, cfg.MODEL.HOURGLASS.BLOCKS, cfg.MODEL.WEIGHTS = [8, 8], [1, 1], ""
    cfg.INPUT.SIZE_TEST = [64, 64]
    assert DefaultPredictor(cfg)(photo())["instances"].image_size == (120, 170)
