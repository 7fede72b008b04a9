"""CrowdHuman, from the files of ``datasets/prepare_crowdhuman.py``."""

from __future__ import annotations

import os

from centernet_d2.data.datasets.coco import register_coco
from centernet_d2.data.object_boxes import SCORED_WHOLE
from centernet_d2.data.preparation.crowdhuman import BOXES, SPLITS


def register_published_crowdhuman(root: str) -> None:
    """``crowdhuman_{train,val}``, and with ``_visible`` and ``_head`` at the end, in ``crowdhuman`` of ``root``.

    A file is read when it is first used. All are scored in COCO's way.
    """
    folder = os.path.join(root, "crowdhuman")
    for split in SPLITS:
        for kind, (_, class_name) in BOXES.items():
            stem = split if kind == "full" else f"{split}_{kind}"
            json_file = os.path.join(folder, "annotations", f"{stem}.json")
            SCORED_WHOLE.add(f"crowdhuman_{stem}")
            register_coco(f"crowdhuman_{stem}", json_file, folder, class_names=[class_name])
