"""The evaluator that a dataset's metadata names."""

from __future__ import annotations

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.modeling import detector_postprocess
from detectron2.structures import Boxes, Instances

from centernet_d2.data.synthetic.generation import register_synthetic
from centernet_d2.data.synthetic.shapes import ExtremesConfig
from centernet_d2.data.validation.issues import AnnotationError
from centernet_d2.engine import Trainer
from centernet_d2.evaluation import build_evaluator
from centernet_d2.evaluation.build import check_evaluators
from centernet_d2.evaluation.voc import VocEvaluator
from centernet_d2.ops.extreme_points import make_octagon_masks
from tests.helpers.runs import engine_cfg


@pytest.mark.parametrize("number", range(2))
def test_ground_truth_as_prediction_gives_100(number, tmp_path):
    """A set without a JSON file, evaluated into several folders one after the other."""
    name = "engine_test_val"
    evaluator = build_evaluator(engine_cfg(tmp_path), name)
    assert isinstance(evaluator, COCOEvaluator)
    evaluator.reset()
    for dataset_dict in DatasetCatalog.get(name):
        predictions = Instances((dataset_dict["height"], dataset_dict["width"]))
        predictions.pred_boxes = Boxes(torch.tensor([a["bbox"] for a in dataset_dict["annotations"]]))
        predictions.pred_classes = torch.tensor([a["category_id"] for a in dataset_dict["annotations"]])
        predictions.scores = torch.ones(len(predictions.pred_classes))
        evaluator.process([dataset_dict], [{"instances": predictions}])
    results = evaluator.evaluate()["bbox"]
    assert results["AP"] == pytest.approx(100) and results["AP75"] == pytest.approx(100)
    assert (tmp_path / "inference" / f"{name}_coco_format.json").exists()


def test_extreme_points_are_not_scored_but_boxes_and_octagons_are(tmp_path):
    """True boxes, and the octagons of the true extreme points: an ellipse's have an IoU of nearly 0.9 with it."""
    name = "extreme_points_of_an_evaluation"
    register_synthetic(name, ExtremesConfig(), num_images=6, seed=3)
    cfg = engine_cfg(tmp_path)
    cfg.defrost()
    cfg.MODEL.MASK_ON = True
    evaluator = build_evaluator(cfg, name)
    evaluator.reset()
    for dataset_dict in DatasetCatalog.get(name):
        size = (dataset_dict["height"], dataset_dict["width"])
        predictions = Instances(size)
        predictions.pred_boxes = Boxes(torch.tensor([a["bbox"] for a in dataset_dict["annotations"]]).reshape(-1, 4))
        predictions.pred_classes = torch.tensor(
            [a["category_id"] for a in dataset_dict["annotations"]], dtype=torch.int64
        )
        predictions.scores = torch.ones(len(predictions.pred_classes))
        predictions.pred_keypoints = torch.tensor([a["keypoints"] for a in dataset_dict["annotations"]]).reshape(
            -1, 4, 3
        )
        predictions.pred_masks = make_octagon_masks(predictions.pred_keypoints[..., :2], predictions.pred_boxes.tensor)
        evaluator.process([dataset_dict], [{"instances": detector_postprocess(predictions, *size)}])
    results = evaluator.evaluate()
    assert set(results) == {"bbox", "segm"}
    assert results["bbox"]["AP"] == pytest.approx(100)
    assert results["segm"]["AP-ellipse"] > 70 > results["segm"]["AP-crescent"]
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def test_pascal_voc(tmp_path):
    metadata = MetadataCatalog.get("engine_test_voc").set(evaluator_type="pascal_voc", year=2007, thing_classes=["a"])
    DatasetCatalog.register(metadata.name, list)
    assert isinstance(build_evaluator(engine_cfg(tmp_path), metadata.name), VocEvaluator)
    DatasetCatalog.remove(metadata.name)
    MetadataCatalog.remove(metadata.name)


def test_unknown_kinds_are_named(tmp_path):
    MetadataCatalog.get("engine_test_odd").set(evaluator_type="odd")
    with pytest.raises(ValueError, match=r"engine_test_odd.*'odd'.*coco, pascal_voc"):
        build_evaluator(engine_cfg(tmp_path), "engine_test_odd")


@pytest.mark.parametrize(
    ("dataset", "said"),
    [  # of a model that predicts boxes
        ("synthetic_faces_val", "needs keypoints of the model, which predicts none (MODEL.CENTERNET.TASK)"),
        ("synthetic_tracks_val", "needs track_ids of the model, which predicts none (MODEL.CENTERNET.TASK)"),
        ("engine_test_odd", "its metadata's evaluator_type is 'odd', not one of coco, "),
    ],
)
def test_what_cannot_be_evaluated_is_known_before_training(dataset, said, tmp_path):
    MetadataCatalog.get("engine_test_odd").set(evaluator_type="odd")
    with pytest.raises(AnnotationError) as caught:
        check_evaluators(engine_cfg(tmp_path, "DATASETS.TEST", (dataset,)))
    assert str(caught.value).startswith(f"dataset {dataset} ") and said in str(caught.value)


def test_what_can_be_evaluated_passes(tmp_path):
    """Of a model that predicts boxes a set that needs nothing else."""
    check_evaluators(engine_cfg(tmp_path, "DATASETS.TEST", ("engine_test_val",)))


@pytest.mark.parametrize("error", [ImportError("pip install motmetrics"), ValueError("no faces"), KeyError("area")])
def test_training_builds_the_evaluators_before_its_first_step(error, tmp_path, monkeypatch):
    def fail(cls, cfg, dataset_name):
        raise error

    monkeypatch.setattr(Trainer, "build_evaluator", classmethod(fail))
    monkeypatch.setattr(Trainer, "run_step", lambda self: pytest.fail("a step"))
    trainer = Trainer(engine_cfg(tmp_path, "DATASETS.TEST", ("engine_test_val",)))
    with pytest.raises(AnnotationError, match=f"dataset engine_test_val cannot be evaluated: .*{error.args[0]}"):
        trainer.train()
