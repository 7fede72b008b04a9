"""Boxes without area, outside the image and over its edge: what the dataset dicts have, given as the prediction, is
perfect for every evaluator. What is left out is not missed."""

from __future__ import annotations

import json
import math
import uuid
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import Boxes, BoxMode, Instances

from centernet_d2.data.annotations import convert_to_corner_boxes
from centernet_d2.data.catalog import load_dataset_dicts
from centernet_d2.data.datasets.coco import register_coco
from centernet_d2.data.datasets.custom import register_custom_datasets
from centernet_d2.data.datasets.kitti import CLASS_NAMES, register_kitti
from centernet_d2.data.preparation.wider_face import DIFFICULTIES
from centernet_d2.data.schemas import SCHEMAS
from centernet_d2.data.validation.object_boxes import SCORED_WHOLE
from centernet_d2.evaluation import build_evaluator
from tests.helpers.tiny import tiny_cfg

HEIGHT, WIDTH = 100, 140
GOOD = [[10, 10, 30, 40], [60.5, 20, 30, 40]]
OVER = [[-20, 30, 50, 45], [110, 70, 60, 60]]  # the second is cut to [110, 70, 30, 30]
LEFT_OUT = [[30, 30, 0, 10], [20, 30, 6, 0], [40, 40, -8, 9], [145, 10, 12, 9], [10, -30, 9, 30]]


def coco_file(folder, schema=None, num_classes=1, **extra: Any) -> Path:
    """Two images, each with all boxes above; landmarks are inside of GOOD and OVER, and of the others anywhere."""
    cv2.imwrite(str(folder / "a.png"), np.full((HEIGHT, WIDTH, 3), 90, dtype=np.uint8))
    size = {"file_name": "a.png", "height": HEIGHT, "width": WIDTH}
    images = [{"id": k, **size, "video_id": 1, "frame": k} for k in (1, 2)]
    annotations = []
    for image in images:
        for place, box in enumerate((*GOOD, *OVER, *LEFT_OUT), start=1):
            entry = {"id": len(annotations) + 1, "image_id": image["id"], "category_id": 1 + place % num_classes}
            entry |= {"bbox": box, "area": max(box[2], 1) * max(box[3], 1), "iscrowd": 0, "track_id": place}
            if schema:
                entry |= landmarks(SCHEMAS[schema], box)
            annotations.append({**entry, **extra})
    categories = [{"id": k + 1, "name": f"c{k}"} for k in range(num_classes)]
    categories = SCHEMAS[schema].to_coco_categories() if schema else categories
    path = folder / f"{uuid.uuid4().hex}.json"
    data = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps({**data, "videos": [{"id": 1, "name": "v"}]}))
    return path


def landmarks(schema, box) -> dict[str, Any]:
    left, top = max(box[0], 1), max(box[1], 1)
    across, down = min(WIDTH - 1 - left, abs(box[2]) + 1), min(HEIGHT - 1 - top, abs(box[3]) + 1)
    fractions = np.random.default_rng(0).uniform(0.05, 0.95, (len(schema), 2))
    points = np.hstack([np.array([left, top]) + fractions * (across, down), np.full((len(schema), 1), 2.0)])
    return {"keypoints": points.ravel().tolist(), "num_keypoints": len(schema)}


def predictions(dataset_dict: dict[str, Any]) -> Instances:
    """The objects of a dataset dict, inside the image."""
    objects = [one for one in dataset_dict["annotations"] if not one.get("iscrowd")]
    predictions = Instances((HEIGHT, WIDTH))
    predictions.pred_boxes = Boxes(torch.tensor(convert_to_corner_boxes(objects), dtype=torch.float32))
    predictions.pred_boxes.clip((HEIGHT, WIDTH))
    predictions.scores = torch.linspace(0.9, 0.8, len(objects))
    predictions.pred_classes = torch.tensor([one["category_id"] for one in objects], dtype=torch.int64)
    if objects and "keypoints" in objects[0]:
        predictions.pred_keypoints = torch.tensor([one["keypoints"] for one in objects]).reshape(len(objects), -1, 3)
    if objects and "track_id" in objects[0]:
        predictions.pred_track_ids = torch.tensor([one["track_id"] for one in objects])
    if objects and "dim" in objects[0]:
        predictions.pred_dimensions = torch.tensor([one["dim"] for one in objects])
        predictions.pred_locations = torch.tensor([one["location"] for one in objects])
        predictions.pred_rotation_y = torch.tensor([one["rotation_y"] for one in objects])
        predictions.pred_alpha = torch.tensor([one["alpha"] for one in objects])
    return predictions


def score(cfg, name, nothing=False) -> dict[str, dict[str, float]]:
    evaluator = build_evaluator(cfg, name)
    evaluator.reset()
    for dataset_dict in load_dataset_dicts(name):
        found = predictions(dataset_dict)
        evaluator.process([dataset_dict], [{"instances": found[:0] if nothing else found}])
    return evaluator.evaluate()


def custom(cfg, kind, first, second) -> str:
    name = f"settled_{uuid.uuid4().hex}"
    cfg.DATASETS.CUSTOM = [[name, kind, str(first), str(second)]]
    register_custom_datasets(cfg)
    return name


@pytest.fixture
def cfg(tmp_path):
    cfg = tiny_cfg("OUTPUT_DIR", str(tmp_path / "out"), "DATALOADER.NUM_WORKERS", 0)
    cfg.defrost()
    return cfg


@pytest.mark.parametrize("kind", ["coco", "voc_json"])
@pytest.mark.parametrize("complete", [True, False])
def test_boxes(cfg, tmp_path, kind, complete):
    path = coco_file(tmp_path)
    if not complete:
        data = json.loads(path.read_text())
        for entry in data["annotations"]:
            del entry["area"], entry["iscrowd"]
        (tmp_path / "incomplete.json").write_text(json.dumps(data))
        path = tmp_path / "incomplete.json"
    name = custom(cfg, kind, path, tmp_path)
    assert [len(dataset_dict["annotations"]) for dataset_dict in load_dataset_dicts(name)] == [4, 4]
    assert [dataset_dict["left_out"] for dataset_dict in load_dataset_dicts(name)] == [5, 5]
    assert load_dataset_dicts(name)[0]["annotations"][3]["bbox"] == [110, 70, 30, 30]
    assert load_dataset_dicts(name)[0]["annotations"][3]["uncut_bbox"] == [110, 70, 60, 60]
    assert score(cfg, name)["bbox"]["AP"] == pytest.approx(100)
    assert score(cfg, name, nothing=True)["bbox"]["AP"] == 0


def test_a_missed_object_still_counts(cfg, tmp_path):
    """Of four objects one is not found: the recalls 0, 0.01, ..., 0.75 are reached, 76 of 101."""
    name = custom(cfg, "coco", coco_file(tmp_path), tmp_path)
    evaluator = build_evaluator(cfg, name)
    evaluator.reset()
    for dataset_dict in load_dataset_dicts(name):
        evaluator.process([dataset_dict], [{"instances": predictions(dataset_dict)[:3]}])
    assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(100 * 76 / 101)


def test_the_reference_file_is_used_as_it_is_where_nothing_matters(cfg, tmp_path):
    """Less than a pixel and 5 percent over the edge, as in COCO's own files: area and box stay."""
    path = coco_file(tmp_path)
    data = json.loads(path.read_text())
    data["annotations"] = [{**data["annotations"][0], "bbox": [-0.4, 60, 80, 40.3], "area": 17.5}]
    (tmp_path / "sound.json").write_text(json.dumps(data))
    name = custom(cfg, "coco", tmp_path / "sound.json", tmp_path)
    (entry,) = build_evaluator(cfg, name)._coco_api.dataset["annotations"]
    assert (entry["bbox"], entry["area"]) == ([-0.4, 60, 80, 40.3], 17.5)
    assert score(cfg, name)["bbox"]["AP"] == pytest.approx(100)


def test_sets_that_other_code_registers(cfg):
    """Dataset dicts without a file, which Detectron2 converts without asking for what is left out."""
    boxes = [*GOOD, *OVER, *LEFT_OUT]
    name = f"settled_{uuid.uuid4().hex}"
    dataset_dicts = [
        {"file_name": "a.png", "image_id": 1, "height": HEIGHT, "width": WIDTH,
         "annotations": [{"bbox": box, "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0} for box in boxes]}
    ]  # fmt: skip
    DatasetCatalog.register(name, lambda: json.loads(json.dumps(dataset_dicts)))
    MetadataCatalog.get(name).set(thing_classes=["a"], evaluator_type="coco")
    assert score(cfg, name)["bbox"]["AP"] == pytest.approx(100)


def test_sets_that_are_registered_with_detectron2(cfg, tmp_path):
    """Its reader and its evaluation on the file."""
    name = f"settled_{uuid.uuid4().hex}"
    register_coco_instances(name, {}, str(coco_file(tmp_path)), str(tmp_path))
    assert [len(dataset_dict["annotations"]) for dataset_dict in load_dataset_dicts(name)] == [4, 4]
    assert score(cfg, name)["bbox"]["AP"] == pytest.approx(100)


def test_voc_folder(cfg, tmp_path):
    """The second box reaches over two edges, and the third has no area."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "JPEGImages" / "a.jpg"), np.full((HEIGHT, WIDTH, 3), 90, dtype=np.uint8))
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("a\n")
    objects = "".join(
        f"<object><name>x</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>"
        "</object>"
        for x1, y1, x2, y2 in ((11, 11, 40, 50), (111, 71, 170, 130), (30, 30, 20, 40))
    )
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
    (tmp_path / "Annotations" / "a.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    name = custom(cfg, "voc", tmp_path, "val")
    (dataset_dict,) = load_dataset_dicts(name)
    assert [one["bbox"] for one in dataset_dict["annotations"]] == [[10, 10, 40, 50], [110, 70, WIDTH, HEIGHT]]
    assert score(cfg, name)["bbox"]["AP"] == pytest.approx(100)


def test_wider_face(cfg, tmp_path):
    path = coco_file(tmp_path, difficulties=list(DIFFICULTIES))
    name = f"settled_{uuid.uuid4().hex}"
    register_coco(name, {"evaluator_type": "wider_face", "thing_classes": ["c0"]}, str(path), str(tmp_path))
    assert score(cfg, name)["wider_face"] == pytest.approx({f"AP-{level}": 100 for level in DIFFICULTIES})
    assert score(cfg, name, nothing=True)["wider_face"] == {f"AP-{level}": 0 for level in DIFFICULTIES}


def test_kitti(cfg, tmp_path):
    """KITTI reads precision at 41 recalls, so 8 objects reach 7 / 40: the same as without those that are left out."""
    fields = {"truncated": 0, "occluded": 0, "alpha": 0.1, "rotation_y": 0.1, "depth": 20, "dim": [1.5, 1.6, 4]}
    path = coco_file(tmp_path, **fields, location=[2, 1, 20], line=1)
    data = json.loads(path.read_text())
    data["categories"] = [{"id": k, "name": name} for k, name in enumerate(CLASS_NAMES, start=1)]
    for number, entry in enumerate(data["annotations"]):
        entry |= {"line": number, "location": [10 * number, 1, 20], "category_id": 1 + CLASS_NAMES.index("car")}
    for image in data["images"]:
        image["calib"] = [[700, 0, 70, 0], [0, 700, 50, 0], [0, 0, 1, 0]]
    results = []
    for kept in (data["annotations"], [one for one in data["annotations"] if one["bbox"] in GOOD + OVER]):
        (tmp_path / f"kitti{len(kept)}.json").write_text(json.dumps({**data, "annotations": kept}))
        name = f"settled_{uuid.uuid4().hex}"
        register_kitti(name, str(tmp_path / f"kitti{len(kept)}.json"), str(tmp_path))
        results.append(score(cfg, name))
        nothing = score(cfg, name, nothing=True)
    assert results[0]["kitti_2d"]["AP40-car-hard"] == results[1]["kitti_2d"]["AP40-car-hard"] == pytest.approx(17.5)
    assert results[0]["kitti_3d"]["AP40-car-hard"] == results[1]["kitti_3d"]["AP40-car-hard"] == pytest.approx(17.5)
    assert nothing["kitti_2d"]["AP40"] == nothing["kitti_3d"]["AP11-car-hard"] == nothing["kitti_aos"]["AOS40"] == 0


def test_tracks(cfg, tmp_path):
    name = custom(cfg, "video", coco_file(tmp_path), tmp_path)
    results = score(cfg, name)["tracking"]
    assert (results["MOTA"], results["IDF1"], results["HOTA"]) == pytest.approx((100, 100, 100))
    results = score(cfg, name, nothing=True)["tracking"]
    assert (results["MOTA"], results["IDF1"], results["HOTA"]) == (0, 0, 0)


@pytest.mark.parametrize("kind", ["coco", "video"])
def test_reference_benchmarks_score_whole_boxes(cfg, tmp_path, kind, monkeypatch):
    """Of four objects that are found inside the image two overlap the whole boxes by 0.6 and a quarter."""
    name = custom(cfg, kind, coco_file(tmp_path), tmp_path)
    if kind == "coco":
        data = json.loads((tmp_path / cfg.DATASETS.CUSTOM[0][2]).read_text())
        data["annotations"] = [one for one in data["annotations"] if one["bbox"] in GOOD + OVER]
        (tmp_path / cfg.DATASETS.CUSTOM[0][2]).write_text(json.dumps(data))
    monkeypatch.setattr("centernet_d2.data.validation.object_boxes.SCORED_WHOLE", SCORED_WHOLE | {name})
    monkeypatch.setattr("centernet_d2.evaluation.coco.SCORED_WHOLE", SCORED_WHOLE | {name})
    results = score(cfg, name)
    if kind == "coco":
        assert results["bbox"]["AP50"] == pytest.approx(100 * 76 / 101)
    else:
        assert (results["tracking"]["FN"], results["tracking"]["FP"]) == (2, 2)


def test_which_sets_are_scored_whole():
    names = {"coco_2017_val", "keypoints_coco_2017_val", "crowdhuman_val", "mot17_val_half", "wider_face_val"}
    assert names <= SCORED_WHOLE <= set(DatasetCatalog.list())


def test_face_keypoints(cfg, tmp_path):
    name = custom(cfg, "face68", coco_file(tmp_path, "face68"), tmp_path)
    results = score(cfg, name)["landmarks"]
    assert (results["faces"], results["missed"]) == (8, 0)
    assert results["NME_box_size"] == pytest.approx(0, abs=1e-4)
    results = score(cfg, name, nothing=True)["landmarks"]
    assert (results["missed"], results["AUC8_box_size"], results["FR8_box_size"]) == (100, 0, 100)
    assert math.isinf(results["NME_box_size"])


def test_a_faces_size_is_that_of_its_whole_box(cfg, tmp_path):
    """The box [110, 70, 60, 60], of which a quarter is seen: a shift of 6 pixels is 10 percent of its size."""
    path = coco_file(tmp_path, "face68")
    data = json.loads(path.read_text())
    data["annotations"] = [one for one in data["annotations"] if one["bbox"] == [110, 70, 60, 60]]
    (tmp_path / "face.json").write_text(json.dumps(data))
    name = custom(cfg, "face68", tmp_path / "face.json", tmp_path)
    evaluator = build_evaluator(cfg, name)
    for dataset_dict in load_dataset_dicts(name):
        found = predictions(dataset_dict)
        found.pred_keypoints[..., 0] += 6
        evaluator.process([dataset_dict], [{"instances": found}])
    assert evaluator.evaluate()["landmarks"]["NME_box_size"] == pytest.approx(10, rel=1e-4)


def test_what_is_found_at_a_left_out_face_is_not_taken_for_the_other(cfg, tmp_path):
    """One face is left out, one is good: the better score at the former is no prediction of the latter."""
    path = coco_file(tmp_path, "face68")
    data = json.loads(path.read_text())
    data["annotations"] = [one for one in data["annotations"] if one["bbox"] in (GOOD[0], LEFT_OUT[3])]
    (tmp_path / "face.json").write_text(json.dumps(data))
    name = custom(cfg, "face68", tmp_path / "face.json", tmp_path)
    evaluator = build_evaluator(cfg, name)
    for dataset_dict in load_dataset_dicts(name):
        found = predictions(dataset_dict)
        far = predictions(dataset_dict)
        far.pred_keypoints[..., 0] += 100
        far.scores = far.scores + 0.05
        evaluator.process([dataset_dict], [{"instances": Instances.cat([far, found])}])
    assert evaluator.evaluate()["landmarks"]["NME_box_size"] == pytest.approx(0, abs=1e-4)


def test_poses(cfg, tmp_path):
    cfg.MODEL.CENTERNET.TASK = "KeypointRegressionTask"
    name = custom(cfg, "pose17", coco_file(tmp_path, "pose17"), tmp_path)
    results = score(cfg, name)
    assert results["bbox"]["AP"] == results["keypoints"]["AP"] == pytest.approx(100)
    results = score(cfg, name, nothing=True)
    assert results["bbox"]["AP"] == results["keypoints"]["AP"] == 0


def test_clothes(cfg, tmp_path):
    cfg.MODEL.CENTERNET.TASK = "KeypointRegressionTask"
    name = custom(cfg, "clothes294", coco_file(tmp_path, "clothes294", num_classes=2), tmp_path)
    results = score(cfg, name)
    assert {task: one["AP"] for task, one in results.items()} == pytest.approx(dict.fromkeys(results, 100))
    assert results.keys() == {"bbox", "keypoints_visible", "keypoints_visible_and_occluded"}
    results = score(cfg, name, nothing=True)
    assert {task: one["AP"] for task, one in results.items()} == dict.fromkeys(results, 0)


def test_crops_keep_whole_boxes(cfg, tmp_path):
    """A window may reach outside of the image, so the box of a face at the edge is not cut there."""
    source = custom(cfg, "face68", coco_file(tmp_path, "face68"), tmp_path)
    name = f"crops_{uuid.uuid4().hex}"
    cfg.DATASETS.CUSTOM = [*cfg.DATASETS.CUSTOM, [name, "crops", source, "1"]]
    register_custom_datasets(cfg)
    dataset_dicts = load_dataset_dicts(name)
    assert len(dataset_dicts) == 8
    assert dataset_dicts[3]["crop"] == [110, 70, 170, 130] and dataset_dicts[3]["annotations"][0]["bbox"] == [
        0,
        0,
        60,
        60,
    ]
