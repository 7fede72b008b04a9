"""Ultralytics' YOLO11n from random weights on the same images, scored by the same evaluator.

Its own trainer, augmentation and schedule with their defaults; epochs, batch, input size and seed are the config's.
``pip install ultralytics`` (its license is the AGPL) is the user's choice: only :func:`train_yolo` imports it.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, BoxMode, Instances

from centernet_d2.data.build import load_training_dicts
from centernet_d2.data.catalog import get_class_names, load_dataset_dicts
from centernet_d2.data.formats.labels import yolo
from centernet_d2.data.formats.labels.label_set import LabelSetBuilder
from centernet_d2.evaluation.build import build_evaluator


def write_yolo_set(cfg: CfgNode, folder: Path) -> Path:
    """Write the boxes of DATASETS.TRAIN and TEST in YOLO's layout, with copies of the images; return its ``data.yaml``.

    Crowds are left out.
    """
    classes = list(get_class_names(cfg.DATASETS.TRAIN[0]))
    builder = LabelSetBuilder(folder, classes)
    tested = [record for name in cfg.DATASETS.TEST for record in load_dataset_dicts(name)]
    for split, records in (("train", load_training_dicts(cfg)), ("val", tested)):
        for one in records:
            image_id = builder.add_image(one["file_name"], (one["height"], one["width"]), split)
            for entry in one["annotations"]:
                box = BoxMode.convert(entry["bbox"], entry["bbox_mode"], BoxMode.XYXY_ABS)
                if not entry.get("iscrowd"):
                    builder.add_object(image_id, classes[entry["category_id"]], box=box)
    yolo.write(builder.finish(), folder)
    return folder / "data.yaml"


def train_yolo(cfg: CfgNode, folder: Path) -> dict[str, Any]:
    """Train as the resolved ``cfg`` says and return the figures of ``compare_detectors``.

    Raises:
        ModuleNotFoundError: Ultralytics is not installed.
    """
    from ultralytics import YOLO  # type: ignore[import-not-found, unused-ignore]

    folder = folder.resolve()
    data, size = write_yolo_set(cfg, folder / "data"), list(cfg.INPUT.SIZE_TEST)
    seen = cfg.SOLVER.MAX_ITER * cfg.SOLVER.IMS_PER_BATCH
    epochs = cfg.SOLVER.EPOCHS or seen / len(load_training_dicts(cfg))
    start = time.monotonic()
    YOLO("yolo11n.yaml").train(
        data=str(data), epochs=math.ceil(epochs), batch=cfg.SOLVER.IMS_PER_BATCH, imgsz=max(size), seed=cfg.SEED,
        device=cfg.MODEL.DEVICE, project=str(folder), name="run", exist_ok=True, pretrained=False, workers=0,
        amp=False, plots=False, val=False,
    )  # fmt: skip
    minutes = (time.monotonic() - start) / 60
    model = YOLO(str(folder / "run/weights/last.pt"))
    evaluator = build_evaluator(cfg, cfg.DATASETS.TEST[0])
    evaluator.reset()
    times = []
    for one in load_dataset_dicts(cfg.DATASETS.TEST[0]):
        start = time.perf_counter()
        with torch.no_grad():
            (result,) = model.predict(
                one["file_name"], imgsz=size, conf=0.001, max_det=cfg.TEST.DETECTIONS_PER_IMAGE, verbose=False
            )
        times.append(time.perf_counter() - start)
        objects = Instances(result.orig_shape, pred_boxes=Boxes(result.boxes.xyxy.cpu()))
        objects.scores, objects.pred_classes = result.boxes.conf.cpu(), result.boxes.cls.cpu().long()
        evaluator.process([one], [{"instances": objects}])
    boxes = {name: float(value) for name, value in evaluator.evaluate()["bbox"].items()}
    parameters = sum(x.numel() for x in model.model.parameters()) / 1e6
    milliseconds = 1e3 * float(np.median(times[1:21]))
    return {"boxes": boxes, "minutes": minutes, "parameters": parameters, "milliseconds": milliseconds}
