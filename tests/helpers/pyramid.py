"""Small models over a feature pyramid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import nn

import centernet_d2.data.schemas  # noqa: F401  # registers pose17
from centernet_d2.config import get_cfg

CONFIGS = Path(__file__).parents[2] / "configs" / "Synthetic-LSNet"


def pyramid_cfg(name: str, *opts: Any) -> CfgNode:
    """``configs/Synthetic-LSNet/<name>.yaml`` with a small backbone, three levels and images of 64 x 64, without
    datasets."""
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / f"{name}.yaml"))
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ()
    cfg.MODEL.DEVICE, cfg.MODEL.CENTERNET.NUM_CLASSES, cfg.MODEL.KEYPOINT.SCHEMA = "cpu", 2, "pose17"
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.FREEZE_AT = "build_torchvision_backbone", 0
    cfg.MODEL.TORCHVISION.NAME = "shufflenet_v2_x0_5"
    cfg.MODEL.NECK.CHANNELS, cfg.MODEL.NECK.NUM_LEVELS, cfg.MODEL.LSNET.TOWER = [32], 3, ["deformable"]
    cfg.MODEL.ALLOW_INCOMPLETE_WEIGHTS = True
    cfg.INPUT.SIZE_TRAIN, cfg.INPUT.SIZE_TEST = [64, 64], [64, 64]
    cfg.merge_from_list(list(opts))
    return cfg


def disturb(model: nn.Module) -> nn.Module:
    """Add noise to the task's parameters, so that all of them matter and the model finds a lot."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.task.named_parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
            if name.endswith("logits.bias"):
                parameter.fill_(-0.5)
    return model
