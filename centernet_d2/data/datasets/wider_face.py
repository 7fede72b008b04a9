"""WIDER FACE, from the files of ``datasets/prepare_wider_face.py``."""

from __future__ import annotations

import os

from centernet_d2.data.datasets.coco import register_coco
from centernet_d2.data.object_boxes import SCORED_WHOLE


def register_published_wider_face(root: str) -> None:
    """``wider_face_{train,val}`` in the folder ``wider_face`` of ``root``; a file is read when it is first used.

    Only "val" has difficulties, and is scored with them; "train" is scored in COCO's way.
    """
    folder = os.path.join(root, "wider_face")
    for split, evaluator_type in {"train": "coco", "val": "wider_face"}.items():
        json_file = os.path.join(folder, "annotations", f"{split}.json")
        SCORED_WHOLE.add(f"wider_face_{split}")
        register_coco(f"wider_face_{split}", json_file, folder, evaluator_type, ["face"])
