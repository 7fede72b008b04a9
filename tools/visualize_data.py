#!/usr/bin/env python
"""Draw a data set: its annotations, or what the network sees (``loader``) and what it should answer (heatmaps)."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.detection_utils import convert_image_to_rgb
from detectron2.structures import BoxMode

from centernet_d2.data.build import build_train_loader
from centernet_d2.data.datasets.custom import load_records
from centernet_d2.data.reading import read_image
from centernet_d2.engine.setup import setup_cfg
from centernet_d2.modeling.task import build_task
from centernet_d2.structures import Targets
from centernet_d2.visualization import blend_heatmap, draw_objects, side_by_side

STRIDE = 4


def draw_annotations(cfg: CfgNode) -> Iterator[np.ndarray]:
    """The pictures of the first training set as they are, with their boxes and grid points."""
    for record in load_records(cfg.DATASETS.TRAIN[0]):
        boxes = [
            BoxMode.convert(list(a["bbox"]), BoxMode(a["bbox_mode"]), BoxMode.XYXY_ABS) for a in record["annotations"]
        ]
        classes = torch.tensor([a["category_id"] for a in record["annotations"]], dtype=torch.int64)
        boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        yield draw_objects(
            read_image(record), boxes, classes, class_names(cfg), point_flags=cfg.MODEL.CENTERNET.POINT_FLAGS
        )


def draw_loader(cfg: CfgNode) -> Iterator[np.ndarray]:
    """The loader's pictures with boxes and points, and beside them the heatmaps (the strongest point in each cell)."""
    task = build_task(cfg, [1])
    for batch in build_train_loader(cfg):
        for sample in batch:
            instances = sample["instances"]
            height, width = sample["image"].shape[-2:]
            targets = Targets.from_instances([instances], STRIDE, (height // STRIDE, width // STRIDE))
            heatmap = task.target_maps(targets)["heatmap"][0].sigmoid()
            heatmap = heatmap.unflatten(0, (-1, len(cfg.MODEL.CENTERNET.POINT_FLAGS))).amax(dim=1).numpy()
            image = convert_image_to_rgb(sample["image"].permute(1, 2, 0).numpy(), cfg.INPUT.FORMAT)[:, :, ::-1]
            drawn = draw_objects(
                image,
                instances.gt_boxes.tensor,
                instances.gt_classes,
                class_names(cfg),
                point_flags=cfg.MODEL.CENTERNET.POINT_FLAGS,
            )
            yield side_by_side([drawn, blend_heatmap(image, heatmap)])


def class_names(cfg: CfgNode) -> list[str] | None:
    return MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).get("thing_classes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--source", choices=["annotation", "loader"], default="loader")
    parser.add_argument("--num-images", type=int, default=16)
    parser.add_argument("--output", type=Path, default=Path("output/data"))
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY=value", help="config keys to change")
    args = parser.parse_args()
    cfg = setup_cfg(args.config_file, args.opts)
    args.output.mkdir(parents=True, exist_ok=True)
    pictures = draw_loader(cfg) if args.source == "loader" else draw_annotations(cfg)
    for number, picture in enumerate(islice(pictures, args.num_images)):
        cv2.imwrite(str(args.output / f"{args.source}_{number:04d}.jpg"), picture)
    print(f"pictures: {args.output}")


if __name__ == "__main__":
    main()
