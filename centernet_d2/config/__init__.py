"""Every configuration key of this project, with its meaning and unit."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg

from centernet_d2.config.defaults.input import _add_augmentation, _add_data, _add_input
from centernet_d2.config.defaults.model import _add_grid_points, _add_inference, _add_networks
from centernet_d2.config.defaults.solver import _add_training
from centernet_d2.config.defaults.tasks import _add_landmarks, _add_tasks, _add_tracking

_logger = logging.getLogger(__name__)
# Keys (and nodes) of Detectron2 that nothing here reads, and which of ours does what they promise.
_UNUSED = {
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": "MODEL.CENTERNET.SCORE_THRESH_TEST",
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": "TEST.NMS",
    "MODEL.ROI_HEADS.NUM_CLASSES": "MODEL.CENTERNET.NUM_CLASSES",
    "MODEL.RETINANET.SCORE_THRESH_TEST": "MODEL.CENTERNET.SCORE_THRESH_TEST",
    "MODEL.RETINANET.NMS_THRESH_TEST": "TEST.NMS",
    "MODEL.RETINANET.NUM_CLASSES": "MODEL.CENTERNET.NUM_CLASSES",
    "MODEL.RETINANET.TOPK_CANDIDATES_TEST": "MODEL.CENTERNET.TOPK_CANDIDATES",
    "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS": "MODEL.KEYPOINT.SCHEMA",
    **{
        f"MODEL.{node}": ""
        for node in (
            *("ROI_HEADS", "ROI_BOX_HEAD", "ROI_BOX_CASCADE_HEAD", "ROI_MASK_HEAD", "ROI_KEYPOINT_HEAD", "RETINANET"),
            *("RPN", "PROPOSAL_GENERATOR", "ANCHOR_GENERATOR", "SEM_SEG_HEAD", "PANOPTIC_FPN"),
        )
    },
    "INPUT.MIN_SIZE_TRAIN": "INPUT.SIZE_TRAIN",
    "INPUT.MAX_SIZE_TRAIN": "INPUT.SIZE_TRAIN",
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": "INPUT.AFFINE.SCALES",
    "INPUT.RANDOM_FLIP": "INPUT.AFFINE.FLIP_PROB",
    "INPUT.CROP": "INPUT.AFFINE",
    "INPUT.MASK_FORMAT": "",
    "MODEL.LOAD_PROPOSALS": "",
    "VIS_PERIOD": "",
    "TEST.AUG.MIN_SIZES": "TEST.AUG.SCALES",
    "TEST.AUG.MAX_SIZE": "TEST.AUG.SCALES",
}


class Config(CfgNode):
    """Detectron2's config, except that reading a YAML file never runs code from it (upstream's default allows that)."""

    def merge_from_file(self, cfg_filename: str, allow_unsafe: bool = False) -> None:
        super().merge_from_file(cfg_filename, allow_unsafe=allow_unsafe)


def get_cfg() -> CfgNode:
    """Detectron2's defaults with this project's keys added."""
    cfg = get_detectron2_cfg()
    add_centernet_config(cfg)
    return Config(cfg)  # converts every node, so that merging finds equal types


def warn_of_unused_keys(cfg: CfgNode) -> None:
    """A line in the log for each key of Detectron2 that was changed but has no effect here, naming ours."""
    default = get_detectron2_cfg()
    for key in _leaves(default):
        ours = next((ours for prefix, ours in _UNUSED.items() if key == prefix or key.startswith(prefix + ".")), None)
        if ours is not None and _value(cfg, key) != _value(default, key):
            _logger.warning("%s has no effect here%s", key, f": set {ours}" if ours else "")


def _leaves(node: CfgNode, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield from _leaves(value, f"{prefix}{key}.") if isinstance(value, CfgNode) else [prefix + key]


def _value(cfg: CfgNode, key: str) -> Any:
    """None where there is no such key; lists are tuples."""
    value: Any = cfg
    for part in key.split("."):
        value = value.get(part) if isinstance(value, CfgNode) else None
    return tuple(value) if isinstance(value, list) else value


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
