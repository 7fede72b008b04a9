"""What can be done with a result, against values written down here."""

from __future__ import annotations

import dataclasses
import json
import pickle

import cv2
import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from centernet_d2.api import Result
from centernet_d2.data.formats.labels import label_studio
from centernet_d2.runtime.objects import Objects
from centernet_d2.visualization.canvas import VisMetadata
from centernet_d2.visualization.plain import PlainVisualizer
from centernet_d2.visualization.visualizer import Visualizer

NAMES, IDS = ("cat", "dog"), (3, 7)
BOXES = [[10.0, 20.0, 60.5, 70.0], [-4.0, 0.0, 8.0, 500.0]]
POINTS = [[[11.5, 22.5, 0.9], [1.0, 2.0, 0.0]], [[0.5, 0.5, 1.0], [2.0, 3.0, 1.0]]]


def make(torch_made: bool, count: int = 2, **extra) -> Result:
    fields = {"scores": np.array([0.75, 0.5]), "pred_classes": np.array([1, 0]), "pred_keypoints": np.array(POINTS)}
    fields = {name: values[:count] for name, values in (fields | extra).items()}
    boxes = np.array(BOXES)[:count]
    image = np.arange(480 * 640 * 3, dtype=np.uint32).astype(np.uint8).reshape(480, 640, 3)
    if torch_made:
        instances = Instances((480, 640), **{name: torch.from_numpy(values) for name, values in fields.items()})
        instances.pred_boxes = Boxes(torch.from_numpy(boxes))
        return Result(
            image, instances, NAMES, IDS, "a/b.jpg", _visualizer=Visualizer(VisMetadata(NAMES, None, None, IDS))
        )
    objects = Objects((480, 640), {"pred_boxes": boxes, **fields})
    return Result(image, objects, NAMES, IDS, "a/b.jpg", _visualizer=PlainVisualizer(NAMES, IDS))


both = pytest.mark.parametrize("torch_made", [True, False], ids=["detectron2", "numpy"])


@both
def test_values(torch_made):
    result = make(torch_made)
    assert len(result) == 2 and result.names == ["dog", "cat"]
    assert result.boxes.tolist() == BOXES and result.scores.tolist() == [0.75, 0.5]
    assert result.keypoints.tolist() == POINTS
    assert repr(result) == "Result(a/b.jpg, 640x480: 1 dog, 1 cat)"


@both
def test_coco_entries(torch_made):
    first, second = make(torch_made).to_coco(image_id=12)
    assert (first["image_id"], first["category_id"], first["score"]) == (12, 7, 0.75)
    assert first["bbox"] == [10, 20, 50.5, 50] and second["bbox"] == [-4, 0, 12, 500]
    assert first["keypoints"] == [11, 22, 0.9, 0.5, 1.5, 0.0]
    json.dumps(first)


@both
def test_label_studio_reads_it_again(torch_made, tmp_path):
    """Through the reader of its exports, once somebody has accepted the prediction; boxes are cut at the image."""
    task = json.loads(json.dumps(make(torch_made).to_label_studio()))
    (prediction,) = task["predictions"]
    assert task["data"] == {"image": "a/b.jpg"} and prediction["score"] == 0.625
    first = prediction["result"][0]
    assert first["value"]["rectanglelabels"] == ["dog"] and first["score"] == 0.75
    assert (first["value"]["x"], first["value"]["y"]) == pytest.approx((100 * 10 / 640, 100 * 20 / 480))
    cv2.imwrite(str(tmp_path / "b.jpg"), make(torch_made).image)
    accepted = {"data": task["data"], "annotations": [{"result": prediction["result"]}]}
    (tmp_path / "labels.json").write_text(json.dumps([accepted]))
    labels = label_studio.read(tmp_path)
    ((_, objects),), names = labels.list_objects(), labels.get_class_names()
    assert [names[one["category_id"]] for one in objects] == ["dog", "cat"]
    assert np.allclose([one["bbox"] for one in objects], [[10, 20, 50.5, 50], [0, 0, 8, 480]])
    points = [list(labels.get_keypoints(one).values()) for one in objects]
    assert np.allclose(np.array(points)[:, :, :2], np.array(POINTS)[:, :, :2])


def test_label_studio_converts_it(tmp_path):
    """Through Label Studio's own converter to COCO, once somebody has accepted the prediction."""
    converter = pytest.importorskip("label_studio_sdk.converter", reason="label-studio-sdk is not installed")
    labels = "".join(f'<Label value="{name}"/>' for name in NAMES)
    rectangles = f'<RectangleLabels name="label" toName="image">{labels}</RectangleLabels>'
    points = "".join(f'<Label value="{k}" model_index="{k}"/>' for k in range(2))
    keypoints = f'<KeyPointLabels name="points" toName="image">{points}</KeyPointLabels>'
    config = f'<View><Image name="image" value="$image"/>{rectangles}{keypoints}</View>'
    image = tmp_path / "b.jpg"
    cv2.imwrite(str(image), make(True).image)
    task = make(True).to_label_studio(str(image))
    (prediction,) = task["predictions"]
    accepted = {"id": 1, "data": task["data"], "annotations": [{"id": 1, "result": prediction["result"]}]}
    (tmp_path / "tasks.json").write_text(json.dumps([accepted]))
    converter.Converter(config, project_dir=None).convert_to_coco(
        str(tmp_path / "tasks.json"), str(tmp_path / "coco"), is_dir=False
    )
    coco = json.loads((tmp_path / "coco/result.json").read_text())
    names = {one["id"]: one["name"] for one in coco["categories"]}
    boxes = [one for one in coco["annotations"] if any(one["bbox"][2:]) and names[one["category_id"]] in NAMES]
    assert [names[one["category_id"]] for one in boxes] == ["dog", "cat"]
    assert np.allclose([one["bbox"] for one in boxes], [[10, 20, 50.5, 50], [0, 0, 8, 480]])


@both
def test_dict(torch_made):
    described = json.loads(json.dumps(make(torch_made).to_dict()))
    assert (described["file_name"], described["height"], described["width"]) == ("a/b.jpg", 480, 640)
    entry = described["objects"][0]
    assert (entry["category_id"], entry["category_name"], entry["score"], entry["box"]) == (7, "dog", 0.75, BOXES[0])
    assert entry["keypoints"] == POINTS[0]


@both
def test_crops_are_cut_to_the_image(torch_made):
    result = make(torch_made)
    first, second = result.crop()
    assert np.array_equal(first, result.image[20:70, 10:61]) and np.array_equal(second, result.image[:480, :8])


@both
def test_drawn_and_saved(torch_made, tmp_path):
    result = make(torch_made)
    drawn = result.plot()
    assert drawn.shape == result.image.shape and not np.array_equal(drawn, result.image)
    changed = (drawn != result.image).any(axis=2)
    assert changed[30:60, 9:12].any() and not changed[100:400, 200:600].any()
    assert result.save(tmp_path) == tmp_path / "b.jpg" and cv2.imread(str(tmp_path / "b.jpg")).shape == drawn.shape
    assert np.array_equal(cv2.imread(str(result.save(tmp_path / "new" / "c.png"))), drawn)
    with pytest.raises((OSError, cv2.error)):
        result.save(tmp_path / "c.unknown")


@both
def test_an_image_without_objects_is_an_empty_result(torch_made, tmp_path):
    result = make(torch_made, count=0)
    assert len(result) == 0 and result.boxes.shape == (0, 4) and result.names == [] and result.crop() == []
    assert result.to_coco() == [] and result.to_dict()["objects"] == []
    assert np.array_equal(result.plot(), result.image) and result.save(tmp_path / "a.png").is_file()


@both
def test_results_can_be_pickled(torch_made):
    assert pickle.loads(pickle.dumps(make(torch_made))).to_coco() == make(torch_made).to_coco()


def test_masks_are_rle():
    from pycocotools import mask

    masks = np.zeros((2, 480, 640), bool)
    masks[0, 20:70, 10:60] = True
    entry = make(True, pred_masks=masks).to_coco()[0]
    assert np.array_equal(mask.decode(entry["segmentation"]), masks[0])


@both
def test_supervision(torch_made):
    supervision = pytest.importorskip("supervision", reason="pip install supervision")
    result = make(torch_made, pred_track_ids=np.array([4, 5]))
    detections = result.to_supervision()
    assert len(detections) == 2 and detections.xyxy.tolist() == BOXES and detections.tracker_id.tolist() == [4, 5]
    assert detections.confidence.tolist() == [0.75, 0.5] and detections["class_name"].tolist() == ["dog", "cat"]
    assert detections[detections.class_id == 0].xyxy.tolist() == BOXES[1:]
    drawn = supervision.BoxAnnotator().annotate(result.image.copy(), detections)
    drawn = supervision.LabelAnnotator().annotate(drawn, detections)
    assert not np.array_equal(drawn, result.image)
    empty = dataclasses.replace(result, instances=result.instances[[]]).to_supervision()
    assert len(empty) == 0 and len(supervision.Detections.merge([empty, detections])) == 2


@both
def test_objects_are_selected_as_instances_are(torch_made):
    instances = make(torch_made).instances
    assert len(instances[instances.scores > 0.6]) == 1 and len(instances[0]) == 1 and len(instances[1:]) == 1
    assert instances.has("scores") and not instances.has("pred_masks")
    with pytest.raises(AttributeError):
        instances.pred_masks  # noqa: B018
