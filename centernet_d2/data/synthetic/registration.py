"""Registration of the built-in synthetic datasets:
``synthetic_{shapes,occluded,extreme,crowds,faces,faces5,clothing,persons,boxes3d,rotated,tracks,pose_videos}_{train,val}``.

The generators are imported when a dataset is first used.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from centernet_d2.data.datasets.keypoint_sets import make_keypoint_metadata
from centernet_d2.data.datasets.kitti import KITTI_METADATA
from centernet_d2.data.image_io import register_image_source
from centernet_d2.data.schemas import CLOTHES294, EXTREME4, FACE5, FACE68, POSE17

#: ``file_name`` of a synthetic image starts with this and "://".
SCHEME = "synthetic"
SHAPE_NAMES = ("ellipse", "rectangle", "triangle", "cross", "star", "crescent")
_SHAPES = {"thing_classes": list(SHAPE_NAMES), "evaluator_type": "coco"}
#: Mode -> metadata.
METADATA: dict[str, dict[str, Any]] = {
    "shapes": _SHAPES,
    "occluded": _SHAPES,
    "extreme": {**_SHAPES, **make_keypoint_metadata(EXTREME4)},
    "crowds": {**_SHAPES, **make_keypoint_metadata(EXTREME4)},
    "faces": make_keypoint_metadata(FACE68),
    "faces5": make_keypoint_metadata(FACE5),
    "clothing": make_keypoint_metadata(CLOTHES294),
    "persons": make_keypoint_metadata(POSE17),
    "boxes3d": KITTI_METADATA,
    "rotated": {"thing_classes": ["plank", "leaf", "bow"], "evaluator_type": "coco"},
    "tracks": {"thing_classes": ["shape"], "evaluator_type": "tracking"},
    "pose_videos": {**make_keypoint_metadata(POSE17), "evaluator_type": "tracking"},
}


def _load(mode: str, split: str) -> list[dict[str, Any]]:
    from centernet_d2.data.synthetic.generation import load_builtin

    return load_builtin(mode, split)


def _draw(dataset_dict: dict[str, Any]) -> np.ndarray:
    from centernet_d2.data.synthetic.generation import draw_dataset_dict

    return draw_dataset_dict(dataset_dict)


register_image_source(SCHEME, _draw)
for _mode, _metadata in METADATA.items():
    for _split in ("train", "val"):
        DatasetCatalog.register(f"synthetic_{_mode}_{_split}", functools.partial(_load, _mode, _split))
        MetadataCatalog.get(f"synthetic_{_mode}_{_split}").set(**_metadata)
