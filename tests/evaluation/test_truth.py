"""The ground truth given as the prediction scores 100, for every kind of dataset; a little less than the ground truth
scores less."""

from __future__ import annotations

import math
import shutil
import xml.etree.ElementTree as ElementTree

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances

from centernet_d2.data.build import build_test_loader
from centernet_d2.data.catalog import load_dataset_dicts
from centernet_d2.data.datasets.custom import register_custom_datasets
from centernet_d2.evaluation.build import build_evaluator
from tests.helpers.tiny import tiny_cfg


def score(cfg, name, shift=0.0):
    """Metrics of the annotations themselves, moved by ``shift`` of their width."""
    gt = {dataset_dict["file_name"]: dataset_dict["annotations"] for dataset_dict in load_dataset_dicts(name)}
    evaluator = build_evaluator(cfg, name)
    evaluator.reset()
    for batch in build_test_loader(cfg, name):
        outputs = []
        for sample in batch:
            objects = [x for x in gt[sample["file_name"]] if not x.get("iscrowd")]
            boxes = torch.tensor([BoxMode.convert(x["bbox"], x["bbox_mode"], BoxMode.XYXY_ABS) for x in objects])
            boxes = boxes.view(-1, 4) + torch.tensor([shift, 0, shift, 0]) * (boxes[:, 2:3] - boxes[:, :1])
            predictions = Instances((sample["height"], sample["width"]))
            predictions.pred_boxes, predictions.scores = Boxes(boxes), torch.ones(len(boxes))
            predictions.pred_classes = torch.tensor([x["category_id"] for x in objects], dtype=torch.int64)
            outputs.append({"instances": predictions})
        evaluator.process(batch, outputs)
    return evaluator.evaluate()["bbox"]


@pytest.fixture
def cfg(tmp_path):
    return tiny_cfg("OUTPUT_DIR", str(tmp_path), "DATALOADER.NUM_WORKERS", 0)


def test_built_in_set(cfg):
    result = score(cfg, "synthetic_shapes_val")
    assert result["AP"] == pytest.approx(100)
    assert score(cfg, "synthetic_shapes_val", shift=0.2)["AP"] < 60


@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        ("coco", "voc/instances.json", "voc/images"),
        ("coco", "coco_person/test_coco.json", "coco_person"),
        ("voc", "bccd", "val"),
    ],
)
def test_sets_of_ones_own(cfg, shared_data, kind, first, second):
    second = str(shared_data / second) if kind == "coco" else second
    cfg.DATASETS.CUSTOM = [["truth_" + first.split("/")[0], kind, str(shared_data / first), second]]
    register_custom_datasets(cfg)
    assert score(cfg, cfg.DATASETS.CUSTOM[0][0])["AP"] == pytest.approx(100)


def test_pascal_voc(cfg, shared_data, tmp_path):
    """The published layout and its evaluator: images of another set under three of VOC's class names."""
    root, source = tmp_path / "VOC2007", shared_data / "bccd"
    names = {"RBC": "person", "WBC": "car", "Platelets": "dog"}
    stems = (source / "ImageSets" / "Main" / "val.txt").read_text().split()[:10]
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets" / "Main" / "test.txt").write_text("\n".join(stems))
    for stem in stems:
        shutil.copy(source / "JPEGImages" / f"{stem}.jpg", root / "JPEGImages")
        tree = ElementTree.parse(source / "Annotations" / f"{stem}.xml")
        for tag in tree.iter("name"):
            tag.text = names[tag.text]
        tree.write(root / "Annotations" / f"{stem}.xml")
    metadata = MetadataCatalog.get("voc_2007_test")
    dataset_dicts = DatasetCatalog.data["voc_2007_test"]
    before = metadata.dirname
    try:
        del metadata.dirname
        metadata.dirname = str(root)
        DatasetCatalog.data["voc_2007_test"] = lambda: dataset_dicts.func("voc_2007_test", str(root), "test")
        result = score(cfg, "voc_2007_test")
    finally:
        DatasetCatalog.data["voc_2007_test"] = dataset_dicts
        del metadata.dirname
        metadata.dirname = before
    assert result["AP"] == result["AP50"] == pytest.approx(100)
    assert result["AP50-car"] == pytest.approx(100) and math.isnan(result["AP50-cat"])
