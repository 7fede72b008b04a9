"""Every configuration key of this project, with its meaning and unit."""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg

from centernet_d2.config.defaults.input import add_affine, add_data, add_input, add_mixing, add_photometric
from centernet_d2.config.defaults.model import (
    add_backbones,
    add_boxes,
    add_centernet,
    add_heatmaps,
    add_inference,
    add_networks,
)
from centernet_d2.config.defaults.solver import add_training
from centernet_d2.config.defaults.tasks import add_keypoints, add_pyramid_tasks, add_tasks, add_tracking
from centernet_d2.config.renamed import rename_node, rename_pairs

_logger = logging.getLogger(__name__)
# Keys (and nodes) of Detectron2 that have no effect here -> our key for the same purpose.
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


#: Values of Detectron2's own keys that this project's models need; ``configs/Base-CenterNet.yaml`` has the same.
RECOMMENDED: dict[str, Any] = {
    "MODEL.META_ARCHITECTURE": "CenterNet",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    # COCO statistics of the paper, BGR, 0..255.
    "MODEL.PIXEL_MEAN": [104.01362, 114.034225, 119.916595],
    "MODEL.PIXEL_STD": [73.602765, 69.890825, 70.915075],
    # The model letterboxes by itself; 0 keeps DefaultPredictor from resizing first.
    "INPUT.MIN_SIZE_TEST": 0,
    "SOLVER.BASE_LR": 5e-4,
    "SOLVER.WEIGHT_DECAY": 0.0,
    "SOLVER.WEIGHT_DECAY_NORM": 0.0,
    "SOLVER.WARMUP_ITERS": 0,
}


class Config(CfgNode):
    """Detectron2's config, with two differences: reading a YAML file never runs code from it (upstream's default allows
    that), and old names of this project's keys are translated (``config.renamed``)."""

    def merge_from_file(self, cfg_filename: str, allow_unsafe: bool = False) -> None:
        super().merge_from_file(cfg_filename, allow_unsafe=allow_unsafe)

    def merge_from_other_cfg(self, cfg_other: CfgNode) -> None:
        super().merge_from_other_cfg(rename_node(cfg_other))

    def merge_from_list(self, cfg_list: list[Any]) -> None:
        pairs = rename_pairs(zip(cfg_list[0::2], cfg_list[1::2], strict=True))
        super().merge_from_list([x for pair in pairs for x in pair])


def get_cfg() -> CfgNode:
    """Detectron2's defaults with this project's keys and :data:`RECOMMENDED`, on a GPU where there is one."""
    cfg = get_detectron2_cfg()
    add_centernet_config(cfg)
    cfg.merge_from_list([x for pair in RECOMMENDED.items() for x in pair])
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    return Config(cfg)  # converts every node, so that merging finds equal types


def warn_of_unused_keys(cfg: CfgNode) -> None:
    """Log a line for each changed key of Detectron2 that has no effect here, and name ours."""
    default = get_detectron2_cfg()
    for key in _list_leaves(default):
        ours = next((ours for prefix, ours in _UNUSED.items() if key == prefix or key.startswith(prefix + ".")), None)
        # As JSON: tuples in tuples are lists in a saved config.
        if ours is not None and json.dumps(_get_value(cfg, key)) != json.dumps(_get_value(default, key)):
            _logger.warning("%s has no effect here%s", key, f": set {ours}" if ours else "")


def warn_of_few_candidates(cfg: CfgNode, keys: Iterable[str]) -> None:
    """Log a line for each of ``keys`` (numbers of candidates) below ``TEST.DETECTIONS_PER_IMAGE``, unless both have
    their default."""
    default, limit = get_cfg(), cfg.TEST.DETECTIONS_PER_IMAGE
    for key in keys:
        count = _get_value(cfg, key)
        if count < limit and (count, limit) != (_get_value(default, key), default.TEST.DETECTIONS_PER_IMAGE):
            _logger.warning(
                "%s is %d, less than TEST.DETECTIONS_PER_IMAGE, %d: in an image with more objects some are not found; "
                "set both to the same number",
                *(key, count, limit),
            )


def _list_leaves(node: CfgNode, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield from _list_leaves(value, f"{prefix}{key}.") if isinstance(value, CfgNode) else [prefix + key]


def _get_value(cfg: CfgNode, key: str) -> Any:
    """Return the value of ``key``, None where there is no such key; lists become tuples."""
    value: Any = cfg
    for part in key.split("."):
        value = value.get(part) if isinstance(value, CfgNode) else None
    return tuple(value) if isinstance(value, list) else value


def add_centernet_config(cfg: CfgNode) -> None:
    """Add this project's keys, with their defaults, to a Detectron2 config. Keys that it has are not changed.

    Every model and dataset is registered, so that what the keys name can be built.
    """
    # By name, because both modules import this one.
    for module in ("centernet_d2.data", "centernet_d2.modeling"):
        importlib.import_module(module)
    add_networks(cfg)
    add_backbones(cfg)
    add_inference(cfg)
    add_centernet(cfg)
    add_boxes(cfg)
    add_heatmaps(cfg)
    add_keypoints(cfg)
    add_tasks(cfg)
    add_pyramid_tasks(cfg)
    add_tracking(cfg)
    add_input(cfg)
    add_affine(cfg)
    add_photometric(cfg)
    add_mixing(cfg)
    add_data(cfg)
    add_training(cfg)
