"""What a model means stays with it: class names, category ids and keypoints, without the training dataset."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model

from centernet_d2.checkpoint.checkpointer import SafeCheckpointer
from centernet_d2.checkpoint.conversion import convert_file
from centernet_d2.checkpoint.reading import load_file
from centernet_d2.data.schemas import FACE68, POSE17
from centernet_d2.engine import Predictor, Trainer, setup_cfg
from centernet_d2.export import describe, export_onnx, export_torchscript
from centernet_d2.export.torchscript import DESCRIPTION
from centernet_d2.runtime.onnx_model import OnnxPredictor
from centernet_d2.structures.model_metadata import ModelMetadata, check_same_classes
from centernet_d2.visualization.visualizer import Visualizer
from tests.helpers import tiny  # noqa: F401  (registers the backbone)

TINY = (
    *("MODEL.DEVICE", "cpu", "MODEL.BACKBONE.NAME", "TinyBackbone", "MODEL.NECK.NAME", ""),
    *("MODEL.CENTERNET.HEAD_CHANNELS", "8", "INPUT.SIZE_TRAIN", "[64,64]", "INPUT.SIZE_TEST", "[64,64]"),
    *("SOLVER.MAX_ITER", "2", "SOLVER.STEPS", "()", "SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0"),
    *("SOLVER.CHECKPOINT_PERIOD", "1", "TEST.BEST_METRIC", "bbox/AP50"),
)
IDS = {"valve": 91, "stent": 3, "clip": 7}
NAMES = ["stent", "clip", "valve"]


def write_dataset(folder: Path, ids: dict[str, int] = IDS, file_name: str = "a.json") -> list[str]:
    """An image with an object of each class; returns the options that name the dataset."""
    folder.mkdir(exist_ok=True)
    cv2.imwrite(str(folder / "a.png"), np.full((64, 96, 3), 90, np.uint8))
    annotations = [
        {"id": k + 1, "image_id": 1, "category_id": number, "bbox": [9 * k, 9, 9, 9], "area": 81, "iscrowd": 0}
        for k, number in enumerate(ids.values())
    ]
    images = [{"id": 1, "file_name": "a.png", "height": 64, "width": 96}]
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / file_name).write_text(json.dumps(content))
    name = f"metadata_{folder.name}_{Path(file_name).stem}"
    custom = json.dumps([[name, "coco", str(folder / file_name), str(folder)]])
    return ["DATASETS.CUSTOM", custom, "DATASETS.TRAIN", f"('{name}',)", "DATASETS.TEST", f"('{name}',)"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The output folder of a training whose dataset is gone afterwards."""
    folder = tmp_path_factory.mktemp("trained")
    options = write_dataset(folder / "data")
    cfg = setup_cfg("", [*options, *TINY, "OUTPUT_DIR", str(folder)])
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    (folder / "config.yaml").write_text(cfg.dump())
    DatasetCatalog.remove(cfg.DATASETS.TRAIN[0])
    MetadataCatalog.remove(cfg.DATASETS.TRAIN[0])
    for file in (folder / "data").iterdir():
        file.unlink()
    return folder


def test_the_written_config_needs_no_dataset(trained):
    cfg = setup_cfg(str(trained / "config.yaml"), ["DATASETS.CUSTOM", "[]"])
    assert cfg.MODEL.METADATA.CLASS_NAMES == NAMES and cfg.MODEL.METADATA.CATEGORY_IDS == [3, 7, 91]
    assert cfg.MODEL.CENTERNET.NUM_CLASSES == 3
    assert setup_cfg(str(trained / "config.yaml"), ["MODEL.CENTERNET.NUM_CLASSES", "0"]) is not None


def test_every_checkpoint_has_it(trained):
    files = sorted(trained.glob("*.pth"))
    assert {"model_final.pth", "model_best.pth", "model_0000000.pth"} <= {file.name for file in files}
    for file in files:
        saved = ModelMetadata.from_dict(load_file(file)["metadata"])
        assert saved == ModelMetadata(tuple(NAMES), (3, 7, 91)), file.name


def test_a_converted_checkpoint_keeps_it(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("centernet_d2.checkpoint.conversion.to_reference", lambda weights: weights)
    convert_file(trained / "model_final.pth", tmp_path / "published.pth", "published")
    assert load_file(tmp_path / "published.pth")["metadata"]["class_names"] == NAMES


def test_a_config_without_names_takes_them_from_the_checkpoint(trained):
    """As with the config that training started from."""
    lost = ["DATASETS.CUSTOM", json.dumps([["lost", "coco", "absent.json", "."]]), "DATASETS.TRAIN", "('lost',)"]
    opts = [*lost, *TINY, "DATASETS.TEST", "('lost',)", "MODEL.WEIGHTS", str(trained / "model_final.pth")]
    assert setup_cfg("", opts).MODEL.METADATA.CLASS_NAMES == NAMES
    with pytest.raises(FileNotFoundError, match="absent"):
        setup_cfg("", [*opts, "MODEL.WEIGHTS", ""])


def test_both_predictors_know_it(trained):
    cfg = setup_cfg(str(trained / "config.yaml"), ["MODEL.WEIGHTS", str(trained / "model_final.pth")])
    ours = Predictor(cfg)
    assert ours.metadata.thing_classes == NAMES
    assert ours.metadata.thing_dataset_id_to_contiguous_id == {3: 0, 7: 1, 91: 2}
    for predictor in (ours, DefaultPredictor(cfg)):
        assert predictor.model.metadata.class_names == tuple(NAMES)
        found = predictor(np.full((64, 96, 3), 90, np.uint8))["instances"]
        given = Visualizer.from_config(cfg, 0.0, predictor.model.metadata).describe(found)
        assert given and {one["category_name"] for one in given} <= set(NAMES)
        assert all(IDS[one["category_name"]] == one["category_id"] for one in given)


def test_exports_have_it(trained, tmp_path):
    cfg = setup_cfg(str(trained / "config.yaml"), ["MODEL.WEIGHTS", str(trained / "model_final.pth")])
    model = build_model(cfg).eval()
    SafeCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    export_torchscript(cfg, model, tmp_path / "a.pt")
    extra = {DESCRIPTION: ""}
    torch.jit.load(str(tmp_path / "a.pt"), _extra_files=extra)
    description = json.loads(extra[DESCRIPTION])
    assert description["class_names"] == NAMES and description["category_ids"] == [3, 7, 91]
    pytest.importorskip("onnxruntime")
    export_onnx(cfg, model, tmp_path / "a.onnx")
    predictor = OnnxPredictor(tmp_path / "a.onnx", threads=1)
    given = predictor.describe(predictor(np.full((64, 96, 3), 90, np.uint8)))
    assert given and all(IDS[one["category_name"]] == one["category_id"] for one in given)
    predictor.metadata["category_ids"] = None  # as in files of earlier versions
    assert {one["category_id"] for one in predictor.describe(predictor(np.zeros((9, 9, 3), np.uint8)))} <= {0, 1, 2}


def test_keypoints_come_with_their_names_and_flip_pairs(tmp_path):
    schema = ("MODEL.CENTERNET.TASK", "KeypointRegressionTask")
    sets = ("DATASETS.TRAIN", "('synthetic_persons_train',)", "DATASETS.TEST", "()")
    cfg = setup_cfg("", [*TINY, *schema, *sets])
    assert cfg.MODEL.KEYPOINT.SCHEMA == "pose17"
    model = build_model(cfg).eval()
    SafeCheckpointer(model, str(tmp_path)).save("a")
    saved = ModelMetadata.from_dict(load_file(tmp_path / "a.pth")["metadata"])
    assert saved.keypoint_names == POSE17.names and saved.keypoint_flip_pairs == POSE17.flip_pairs
    with torch.no_grad():
        found = model.task.decode(model.predict_maps(torch.zeros(1, 3, 64, 64)))
    described = describe(cfg, model, found, (64, 64))
    assert described["keypoint_names"] == described["landmark_names"] == list(POSE17.names)
    assert described["keypoint_flip_pairs"] == [list(pair) for pair in POSE17.flip_pairs]
    assert saved.convert_to_detectron2().keypoint_names == list(POSE17.names)


def test_reference_sets_and_those_of_schemas_have_their_ids(tmp_path):
    for name, ids in {
        "coco_2017_val": 80, "keypoints_coco_2017_val": [1], "300w_full": [1], "deepfashion2_validation": range(1, 14),
        "kitti_3dop_val": [1, 2, 3], "mot17_val_half": [1], "wider_face_val": [1], "crowdhuman_val": [1],
    }.items():  # fmt: skip
        cfg = setup_cfg("", [*TINY, "DATASETS.TRAIN", f"('{name}',)", "DATASETS.TEST", "()"])
        found = cfg.MODEL.METADATA.CATEGORY_IDS
        assert (len(found) == ids and found[-1] == 90) if ids == 80 else found == list(ids), name
    write_dataset(tmp_path, {"any": 7})
    content = json.loads((tmp_path / "a.json").read_text())
    content["annotations"] = []
    (tmp_path / "a.json").write_text(json.dumps(content))
    own = json.dumps([["metadata_faces", FACE68.name, str(tmp_path / "a.json"), str(tmp_path)]])
    opts = ["DATASETS.CUSTOM", own, "DATASETS.TRAIN", "('metadata_faces',)", "DATASETS.TEST", "()"]
    assert setup_cfg("", [*TINY, *opts]).MODEL.METADATA.CATEGORY_IDS == [7]


def test_reordered_classes_are_an_error(trained, tmp_path, caplog):
    reordered = write_dataset(tmp_path / "other", {"valve": 1, "stent": 2, "clip": 3})
    with pytest.raises(ValueError, match=r"CLASS_NAMES has .*\(stent, clip, valve\), but .*\(valve, stent, clip\)"):
        setup_cfg(str(trained / "config.yaml"), reordered)
    cfg = setup_cfg("", [*reordered, *TINY])
    model = build_model(cfg)
    logger = logging.getLogger("centernet_d2.checkpoint.checkpointer")
    logger.addHandler(caplog.handler)
    SafeCheckpointer(model).load(str(trained / "model_final.pth"))
    logger.removeHandler(caplog.handler)
    assert "(stent, clip, valve), but the config or its dataset has 3 classes (valve, stent, clip)" in caplog.text
    with pytest.raises(ValueError, match=r"\(stent, clip, valve\), but .*\(valve, stent, clip\): the same classes"):
        Trainer.test(cfg, model)


def test_other_words_are_a_warning(caplog):
    logger = logging.getLogger("centernet_d2.metadata")
    logger.addHandler(caplog.handler)
    check_same_classes(ModelMetadata(("person",), (1,)), ["pedestrian"], "the model", "dataset x")
    check_same_classes(ModelMetadata(("person",), (1,)), ["person"], "the model", "dataset x")
    check_same_classes(ModelMetadata(), ["person"], "the model", "dataset x")
    logger.removeHandler(caplog.handler)
    (message,) = {record.getMessage() for record in caplog.records}
    assert "(person)" in message and "(pedestrian)" in message


def test_fine_tuned_weights_mean_what_the_new_dataset_says(trained, tmp_path):
    other = write_dataset(tmp_path / "other", {"cat": 1, "dog": 2, "cow": 3})
    cfg = setup_cfg("", [*other, *TINY, "MODEL.WEIGHTS", str(trained / "model_final.pth"), "OUTPUT_DIR", str(tmp_path)])
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    assert trainer.checkpointer.model.metadata.class_names == ("cat", "dog", "cow")


def test_old_and_foreign_checkpoints(trained, tmp_path):
    cfg = setup_cfg(str(trained / "config.yaml"))
    data = load_file(trained / "model_final.pth")
    for metadata in (None, {"format": "pt"}, "text"):
        torch.save({"model": data["model"], **({"metadata": metadata} if metadata else {})}, tmp_path / "old.pth")
        model = build_model(cfg).eval()
        SafeCheckpointer(model).load(str(tmp_path / "old.pth"))
        assert model.metadata.class_names == tuple(NAMES), "the config's"


def test_ids_that_do_not_fit_the_names():
    opts = [*TINY, "DATASETS.TRAIN", "()", "DATASETS.TEST", "()", "MODEL.METADATA.CLASS_NAMES", "['a', 'b']"]
    assert setup_cfg("", opts).MODEL.CENTERNET.NUM_CLASSES == 2
    for ids in ("[1]", "[1, 1]"):
        with pytest.raises(ValueError, match="CATEGORY_IDS"):
            setup_cfg("", [*opts, "MODEL.METADATA.CATEGORY_IDS", ids])
    with pytest.raises(ValueError, match=r"NUM_CLASSES is 5.*\(a, b\)"):
        setup_cfg("", [*opts, "MODEL.CENTERNET.NUM_CLASSES", "5"])
