"""tools/compare_detectors.py: torchvision's detectors within our trainer, and the table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import compare_detectors
import cv2
import numpy as np
import pytest
import torch
import yaml
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from centernet_d2.engine.setup import setup_cfg

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs/Custom/small.yaml")
OPTIONS = [
    "MODEL.WEIGHTS",
    "",
    "MODEL.DEVICE",
    "cpu",
    "INPUT.SIZE_TEST",
    "(64, 96)",
    "MODEL.CENTERNET.NUM_CLASSES",
    "3",
]
OPTIONS += ["DATASETS.TRAIN", "()", "DATASETS.TEST", "()", "SOLVER.EPOCHS", "0.0"]


def build(detector: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model(setup_cfg(CONFIG, [*OPTIONS, *compare_detectors.DETECTORS[detector]]))


def make_batch() -> list[dict]:
    boxes = Boxes(torch.tensor([[8.0, 8.0, 40.0, 40.0], [50.0, 20.0, 90.0, 60.0]]))
    instances = Instances((64, 96), gt_boxes=boxes, gt_classes=torch.tensor([0, 2]))
    return [{"image": torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8), "instances": instances}] * 2


@pytest.mark.parametrize("detector", ["fcos", "retinanet"])
def test_losses_reach_every_parameter(detector):
    model = build(detector).train()
    losses = model(make_batch())
    assert all(torch.isfinite(x) for x in losses.values())
    sum(losses.values()).backward()
    missing = [name for name, x in model.named_parameters() if x.grad is None]
    assert not missing


def write_perfect_fcos(model: torch.nn.Module, box: torch.Tensor, label: int):
    """Replace the head by one that says ``box`` (network pixels) at the cell of its middle, at stride 8."""

    def head(features: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        cells = [x.shape[-2] * x.shape[-1] for x in features]
        logits = torch.full((1, sum(cells), 3), -20.0)
        distances = torch.zeros(1, sum(cells), 4)
        width = features[0].shape[-1]
        column, row = ((box[:2] + box[2:]) / 2 / 8).long().tolist()
        cell = row * width + column
        # torchvision's anchors of stride 8 are centered at multiples of 8, and distances are in units of 8.
        middle = torch.tensor([column, row]) * 8.0
        logits[0, cell, label] = 20.0
        distances[0, cell] = torch.cat([middle - box[:2], box[2:] - middle]) / 8
        return {
            "cls_logits": logits,
            "bbox_regression": distances,
            "bbox_ctrness": torch.full_like(logits[..., :1], 20),
        }

    model.detector.head = head


def test_boxes_come_back_in_pixels_of_the_image():
    """An image of twice the input's size: the letterbox is undone."""
    model = build("fcos").eval()
    del model.detector.head
    write_perfect_fcos(model, torch.tensor([10.0, 12.0, 50.0, 44.0]), 2)
    sample = {"image": torch.zeros(3, 128, 192, dtype=torch.uint8), "height": 128, "width": 192}
    instances = model([sample])[0]["instances"]
    assert instances.pred_classes.tolist() == [2]
    expected = 2 * torch.tensor([10.0, 12.0, 50.0, 44.0])
    torch.testing.assert_close(instances.pred_boxes.tensor[0], expected, atol=1.0, rtol=0)


def test_table_has_mean_and_spread():
    def make(ap: float) -> dict:
        return {"boxes": {"AP": ap}, "parameters": 3.0, "milliseconds": 20.0, "minutes": 4.0}

    row = compare_detectors.format_table({"ours": [make(50.0), make(53.0), make(56.0)]}).splitlines()[-1]
    assert row.startswith("| ours | 53.0 ± 3.0 | nan ± nan |")
    assert row.endswith("| 3.0 | 20.0 | 4.0 |")


@pytest.mark.slow
def test_a_comparison_from_start_to_end(tmp_path):
    command = [sys.executable, str(ROOT / "tools/compare_detectors.py"), "--config-file", CONFIG, "--seeds", "0"]
    command += ["--detectors", "ours", "fcos", "--output", str(tmp_path)]
    small = ["MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu", "INPUT.SIZE_TRAIN", "(64, 64)", "INPUT.SIZE_TEST", "(64, 64)"]
    data = ["DATASETS.TRAIN", "('synthetic_shapes_train',)", "DATASETS.TEST", "('synthetic_shapes_val',)"]
    schedule = [
        "SOLVER.EPOCHS",
        "0.0",
        "SOLVER.MAX_ITER",
        "3",
        "SOLVER.IMS_PER_BATCH",
        "2",
        "DATALOADER.NUM_WORKERS",
        "0",
    ]
    environment = {"DETECTRON2_DATASETS": str(tmp_path / "data")}
    done = subprocess.run(
        [*command, *small, *data, *schedule], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results) == {"ours", "fcos"} and all(
        run["milliseconds"] > 0 for runs in results.values() for run in runs
    )


def test_the_set_for_yolo_has_the_boxes_of_the_config(tmp_path):
    from benchmarks.ultralytics_yolo import write_yolo_set

    for name in ("first", "second"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((60, 100, 3), np.uint8))
    images = [{"id": k, "file_name": f"{n}.png", "width": 100, "height": 60} for k, n in ((1, "first"), (2, "second"))]
    boxes = [(1, 7, [10, 6, 20, 12], 0), (1, 3, [50, 30, 50, 30], 0), (2, 3, [0, 0, 100, 60], 1)]
    annotations = [
        {"id": k, "image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3], "iscrowd": crowd}
        for k, (image, category, box, crowd) in enumerate(boxes, 1)
    ]
    categories = [{"id": 3, "name": "cell"}, {"id": 7, "name": "edge"}]
    data = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "set.json").write_text(json.dumps(data))
    custom = [["yolo_set_images", "coco", str(tmp_path / "set.json"), str(tmp_path)]]
    names = ["DATASETS.TRAIN", ("yolo_set_images",), "DATASETS.TEST", ("yolo_set_images",)]
    cfg = setup_cfg(CONFIG, [*OPTIONS[:-6], "DATASETS.CUSTOM", custom, *names, "MODEL.CENTERNET.NUM_CLASSES", 0])
    settings = yaml.safe_load(write_yolo_set(cfg, tmp_path / "yolo").read_text())
    assert settings == {"train": "images/train", "val": "images/val", "names": {0: "cell", 1: "edge"}}
    labels = tmp_path / "yolo" / "labels"
    for split, empty in (("train", []), ("val", [""])):  # the object of the second image is a crowd
        first, *others = [file.read_text() for file in sorted((labels / split).iterdir())]
        assert sorted(tuple(map(float, line.split())) for line in first.splitlines()) == [
            (0, 0.75, 0.75, 0.5, 0.5),
            (1, 0.2, 0.2, 0.2, 0.2),
        ]
        assert others == empty
        assert len(list((tmp_path / "yolo" / "images" / split).iterdir())) == 1 + len(empty)
