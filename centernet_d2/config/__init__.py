"""Every configuration key of this project, with its meaning and unit."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg

from centernet_d2.config.defaults.input import _add_augmentation, _add_data, _add_input
from centernet_d2.config.defaults.model import _add_grid_points, _add_inference, _add_networks
from centernet_d2.config.defaults.solver import _add_training
from centernet_d2.config.defaults.tasks import _add_landmarks, _add_tasks, _add_tracking
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
    """Detectron2's defaults with this project's keys added."""
    cfg = get_detectron2_cfg()
    add_centernet_config(cfg)
    return Config(cfg)  # converts every node, so that merging finds equal types


def add_centernet_config(cfg: CfgNode) -> None:
    """Add this project's keys, with their defaults, to a Detectron2 config."""
    _add_networks(cfg)
    _add_inference(cfg)
    _add_grid_points(cfg)
    _add_landmarks(cfg)
    _add_tasks(cfg)
    _add_tracking(cfg)
    _add_input(cfg)
    _add_augmentation(cfg)
    _add_data(cfg)
    _add_training(cfg)
