"""Every configuration key of this project, with its meaning and unit."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg

from centernet_d2.config.defaults.input import add_augmentation, add_data, add_input
from centernet_d2.config.defaults.model import add_centernet, add_inference, add_networks
from centernet_d2.config.defaults.solver import add_training
from centernet_d2.config.defaults.tasks import add_keypoints, add_tasks, add_tracking
from centernet_d2.config.renamed import rename_key, rename_node, rename_value


class Config(CfgNode):
    """Detectron2's config, with two differences: reading a YAML file never runs code from it (upstream's default allows
    that), and old names of this project's keys are translated (``config.renamed``)."""

    def merge_from_file(self, cfg_filename: str, allow_unsafe: bool = False) -> None:
        super().merge_from_file(cfg_filename, allow_unsafe=allow_unsafe)

    def merge_from_other_cfg(self, cfg_other: CfgNode) -> None:
        super().merge_from_other_cfg(rename_node(cfg_other))

    def merge_from_list(self, cfg_list: list[Any]) -> None:
        pairs = zip(cfg_list[0::2], cfg_list[1::2], strict=True)
        renamed = [(rename_key(key), value) for key, value in pairs]
        super().merge_from_list([x for key, value in renamed if key for x in (key, rename_value(key, value))])


def get_cfg() -> CfgNode:
    """Detectron2's defaults with this project's keys added, on a GPU where there is one.

    A file of ``configs/`` has to be merged next: ``Base-CenterNet.yaml``, which all others start from, has the values
    of Detectron2's own keys that this project's models need.
    """
    cfg = get_detectron2_cfg()
    add_centernet_config(cfg)
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    return Config(cfg)  # converts every node, so that merging finds equal types


def add_centernet_config(cfg: CfgNode) -> None:
    """Add this project's keys, with their defaults, to a Detectron2 config. Keys that it has are not changed."""
    add_networks(cfg)
    add_inference(cfg)
    add_centernet(cfg)
    add_keypoints(cfg)
    add_tasks(cfg)
    add_tracking(cfg)
    add_input(cfg)
    add_augmentation(cfg)
    add_data(cfg)
    add_training(cfg)
