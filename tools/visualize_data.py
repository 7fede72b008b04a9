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

from centernet_d2.data.build import build_train_loader
from centernet_d2.data.dataset_mapper import corner_boxes
from centernet_d2.data.datasets.custom import load_records
from centernet_d2.data.reading import read_image
from centernet_d2.engine.setup import setup_cfg
from centernet_d2.landmark_pictures import known_scheme
from centernet_d2.modeling.task import build_task
from centernet_d2.structures import Targets
from centernet_d2.visualization import blend_heatmap, draw_objects, side_by_side

STRIDE = 4


def draw_annotations(cfg: CfgNode) -> Iterator[np.ndarray]:
    """The pictures of the first training set as they are, with their boxes and landmarks or grid points."""
    for record in load_records(cfg.DATASETS.TRAIN[0]):
        objects = record["annotations"]
        keypoints = [a["keypoints"] for a in objects] if objects and all("keypoints" in a for a in objects) else None
        yield draw(
            cfg,
            read_image(record),
            torch.from_numpy(corner_boxes(objects)),
            torch.tensor([a["category_id"] for a in objects], dtype=torch.int64),
            torch.tensor(keypoints, dtype=torch.float64).reshape(len(objects), -1, 3) if keypoints else None,
        )


def draw_loader(cfg: CfgNode) -> Iterator[np.ndarray]:
    """The loader's pictures with boxes and points, and beside them each heatmap (the strongest point in each cell)."""
    task = build_task(cfg, [1])
    for batch in build_train_loader(cfg):
        for sample in batch:
            instances = sample["instances"]
            height, width = sample["image"].shape[-2:]
            targets = Targets.from_instances([instances], STRIDE, (height // STRIDE, width // STRIDE))
            image = convert_image_to_rgb(sample["image"].permute(1, 2, 0).numpy(), cfg.INPUT.FORMAT)[:, :, ::-1]
            keypoints = instances.gt_keypoints.tensor if instances.has("gt_keypoints") else None
            drawn = draw(cfg, image, instances.gt_boxes.tensor, instances.gt_classes, keypoints)
            heatmaps = class_heatmaps(cfg, task.target_maps(targets))
            yield side_by_side([drawn, *(blend_heatmap(image, heatmap) for heatmap in heatmaps)])


def class_heatmaps(cfg: CfgNode, maps: dict[str, torch.Tensor]) -> list[np.ndarray]:
    """Of one picture's target maps the heatmaps, (c, H, W) in 0..1: a channel per class, a channel per landmark."""
    found = []
    if "heatmap" in maps:
        found.append(maps["heatmap"][0].unflatten(0, (cfg.MODEL.CENTERNET.NUM_CLASSES, -1)).amax(dim=1))
    if "landmark_heatmap" in maps:
        found.append(maps["landmark_heatmap"][0])
    return [heatmap.sigmoid().numpy() for heatmap in found]


def draw(
    cfg: CfgNode, image: np.ndarray, boxes: torch.Tensor, classes: torch.Tensor, keypoints: torch.Tensor | None
) -> np.ndarray:
    """Objects with their landmarks, or, without any, with the configuration's grid points."""
    flags = cfg.MODEL.CENTERNET.POINT_FLAGS if keypoints is None else ()
    names, scheme = class_names(cfg), known_scheme(cfg)
    return draw_objects(image, boxes, classes, names, keypoints=keypoints, point_flags=flags, scheme=scheme)


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
