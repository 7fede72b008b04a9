"""A model small enough to train in a test: a backbone of three convolutions, added the way anyone would add one."""

from __future__ import annotations

from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone, build_model
from detectron2.structures import Boxes, Instances
from torch import nn

import centernet_d2


@BACKBONE_REGISTRY.register()
class TinyBackbone(Backbone):
    def __init__(self, cfg: CfgNode, input_shape: ShapeSpec):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 4, 4), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.GroupNorm(4, 32), nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x):
        return {"tiny": self.layers(x)}

    def output_shape(self):
        return {"tiny": ShapeSpec(channels=32, stride=4)}


BASE = Path(__file__).parents[2] / "configs" / "Base-CenterNet.yaml"


def base_cfg() -> CfgNode:
    """What all configs start from, without datasets, for few images on a CPU."""
    cfg = centernet_d2.get_cfg()
    cfg.merge_from_file(str(BASE))
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ()
    cfg.MODEL.DEVICE, cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.REFERENCE_WORLD_SIZE = "cpu", 16, 0
    cfg.SOLVER.STEPS, cfg.SOLVER.MAX_ITER, cfg.TEST.EVAL_PERIOD = (30000,), 40000, 0
    return cfg


def tiny_cfg(*opts) -> CfgNode:
    cfg = base_cfg()
    cfg.MODEL.BACKBONE.NAME = "TinyBackbone"
    cfg.MODEL.NECK.NAME = ""
    cfg.MODEL.CENTERNET.NUM_CLASSES = 3
    cfg.MODEL.CENTERNET.HEAD_CHANNELS = 16
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.ALLOW_INCOMPLETE_WEIGHTS = True  # most tests predict with random parameters
    cfg.INPUT.SIZE_TRAIN = [64, 64]
    cfg.INPUT.SIZE_TEST = [64, 64]
    cfg.merge_from_list(list(opts))
    return cfg


def tiny_model(*opts) -> nn.Module:
    torch.manual_seed(0)
    return build_model(tiny_cfg(*opts))


def training_input(boxes, classes, size=(64, 64), seed=0) -> dict:
    """One dict as the mapper gives it; ``boxes`` in input pixels."""
    instances = Instances(size)
    instances.gt_boxes = Boxes(torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.gt_classes = torch.as_tensor(classes, dtype=torch.int64).reshape(-1)
    image = torch.randint(0, 256, (3, *size), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return {"image": image, "instances": instances, "height": size[0], "width": size[1], "image_id": seed}
