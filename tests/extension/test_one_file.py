"""A task, a dataset and a backbone of a user's own: one file each, outside the package, and nothing else changes."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import DefaultPredictor

from centernet_d2.engine.trainer import Trainer
from centernet_d2.export import check_file, export_onnx
from centernet_d2.modeling.heads import HEAD_REGISTRY
from centernet_d2.modeling.tasks import TASK_REGISTRY
from centernet_d2.runtime.onnx_model import OnnxPredictor
from centernet_d2.structures import Targets
from centernet_d2.visualization.visualizer import Visualizer
from tests.helpers.tiny import tiny_cfg

TASK = Path(__file__).with_name("weight_task.py")
DATASET = """
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode


def load():
    annotations = [
        {"bbox": [8, 8, 22, 20], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, "weight": 3.0},
        {"bbox": [44, 30, 58, 44], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1, "weight": 0.5},
    ]
    return [
        {"file_name": FOLDER + f"/{i}.png", "image_id": i, "height": 64, "width": 64, "annotations": annotations}
        for i in range(4)
    ]


DatasetCatalog.register("weighed_things", load)
MetadataCatalog.get("weighed_things").set(thing_classes=["stone", "feather"], evaluator_type="coco")
"""
BACKBONE = """
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import nn


@BACKBONE_REGISTRY.register()
class TwoConvolutions(Backbone):
    def __init__(self, cfg, input_shape):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 16, 7, 4, 3), nn.ReLU(), nn.Conv2d(16, 24, 3, 1, 1), nn.ReLU())

    def forward(self, x):
        return {"out": self.layers(x)}

    def output_shape(self):
        return {"out": ShapeSpec(channels=24, stride=4)}
"""


def import_file(path: Path) -> None:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    sys.modules[path.stem] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The config of a run of all three, trained for a few steps."""
    folder = tmp_path_factory.mktemp("extension")
    (folder / "weighed_things.py").write_text(f"FOLDER = {str(folder)!r}\n{DATASET}")
    (folder / "two_convolutions.py").write_text(BACKBONE)
    for path in (TASK, folder / "weighed_things.py", folder / "two_convolutions.py"):
        import_file(path)
    image = np.full((64, 64, 3), 90, np.uint8)
    cv2.rectangle(image, (8, 8), (21, 19), (20, 200, 60), -1)
    cv2.rectangle(image, (44, 30), (57, 43), (200, 40, 20), -1)
    for i in range(4):
        cv2.imwrite(str(folder / f"{i}.png"), image)
    (folder / "weight.yaml").write_text(
        "MODEL: {BACKBONE: {NAME: TwoConvolutions}, CENTERNET: {TASK: WeightTask, NUM_CLASSES: 0}}\n"
        "DATASETS: {TRAIN: (weighed_things), TEST: (weighed_things)}\n".replace(
            "(weighed_things)", '["weighed_things"]'
        )
    )
    cfg = tiny_cfg("OUTPUT_DIR", str(folder / "output"))
    cfg.merge_from_file(str(folder / "weight.yaml"))
    options = ["SOLVER.IMS_PER_BATCH", 4, "SOLVER.MAX_ITER", 150, "SOLVER.STEPS", (), "SOLVER.BASE_LR", 0.005]
    options += [
        "INPUT.AFFINE.MODE",
        "none",
        "INPUT.AFFINE.FLIP_PROB",
        0.0,
        "INPUT.COLOR.JITTER",
        0.0,
        "INPUT.COLOR.LIGHTING",
        0.0,
    ]
    cfg.merge_from_list([*options, "DATALOADER.NUM_WORKERS", 0, "SEED", 1])
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    results = trainer.train()
    cfg.MODEL.WEIGHTS = str(folder / "output" / "model_final.pth")
    yield cfg, results, image
    DatasetCatalog.remove("weighed_things")
    MetadataCatalog.remove("weighed_things")
    TASK_REGISTRY._obj_map.pop("WeightTask")
    HEAD_REGISTRY._obj_map.pop("WeightHead")


def test_it_trains_and_evaluates(trained):
    _, results, _ = trained
    assert results["bbox"]["AP50"] > 90


def test_it_predicts_draws_and_describes(trained):
    cfg, _, image = trained
    predictor = DefaultPredictor(cfg)
    predictions = predictor(image)["instances"]
    best = {int(c): float(w) for c, w in zip(predictions.pred_classes[:2], predictions.pred_weight[:2, 0], strict=True)}
    assert best == pytest.approx({0: 3.0, 1: 0.5}, rel=0.3)
    visualizer = Visualizer.from_config(cfg, 0.3, predictor.model.metadata)
    described = visualizer.describe(predictions)
    assert [entry["weight"] for entry in described[:2]] == pytest.approx(
        predictions.pred_weight[:2, 0].tolist(), abs=1e-3
    )
    assert {entry["category_name"] for entry in described[:2]} == {"stone", "feather"}
    json.dumps(described)
    drawn = visualizer.draw(image, predictions)
    plain = visualizer.draw(image, predictions[predictions.scores > 1])
    assert drawn.shape == plain.shape and (drawn != plain).any()


def test_what_it_encodes_it_decodes(trained):
    cfg, _, _ = trained
    task = DefaultPredictor(cfg).model.task
    boxes = torch.tensor([[2.0, 2, 10, 9], [11, 5, 15, 13]])
    fields = {"weight": torch.tensor([3.0, 0.5])}
    objects = Targets(boxes, torch.tensor([0, 1]), torch.tensor([0, 0]), 1, (16, 16), torch.tensor(2.0), fields)
    found = task.decode(task.encode_dense(objects))
    assert found.values["weight"][0, :2, 0].sort().values.tolist() == pytest.approx([0.5, 3.0])


def test_it_exports(trained, tmp_path):
    cfg, _, image = trained
    predictor = DefaultPredictor(cfg)
    graph = export_onnx(cfg, predictor.model, tmp_path / "weight.onnx")
    assert max(check_file(graph, tmp_path / "weight.onnx").values()) < 1e-3
    there = OnnxPredictor(tmp_path / "weight.onnx")(image)
    here = predictor(image)["instances"]
    np.testing.assert_allclose(there["weight"][:2], here.pred_weight[:2].numpy(), rtol=1e-2)


def test_a_missing_annotation_field_is_named(trained):
    cfg, _, _ = trained
    mapper = Trainer.build_train_loader(cfg).dataset.stages[0][1]
    dataset_dict = DatasetCatalog.get("weighed_things")[0]
    dataset_dict["annotations"] = [{**dataset_dict["annotations"][0], "id": 7}]
    del dataset_dict["annotations"][0]["weight"]
    with pytest.raises(ValueError, match=r"0\.png, annotation 7, weight: is missing"):
        mapper(dataset_dict)
