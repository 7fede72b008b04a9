"""Labels that are not in pixels are refused where a set leaves no doubt, and named where it leaves some."""

from __future__ import annotations

import json
import uuid

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from centernet_d2.config import get_cfg
from centernet_d2.data.catalog import load_dataset_dicts
from centernet_d2.data.datasets.custom import register_custom_datasets
from centernet_d2.data.validation.box_units import check_fractions, check_units
from centernet_d2.data.validation.checks import check_quick
from centernet_d2.data.validation.issues import AnnotationError
from centernet_d2.data.validation.report import report_coco, report_voc

HEIGHT, WIDTH = 480, 640


def boxes_in_pixels(count=40, seed=0):
    """(count, 4) corners, all over the image."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, [WIDTH * 0.7, HEIGHT * 0.7], (count, 2)).round(1)
    return np.hstack([low, low + rng.uniform(20, 100, (count, 2)).round(1)])


def records_of(boxes, mode=BoxMode.XYXY_ABS, size=(HEIGHT, WIDTH), **extra):
    annotations = [{"bbox": list(box), "bbox_mode": mode, "category_id": 0, **extra} for box in boxes.tolist()]
    place = {"height": size[0], "width": size[1]}
    return [{"file_name": f"{k}.png", "image_id": k, **place, "annotations": [a]} for k, a in enumerate(annotations)]


def sized(corners):
    return np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])


SHARES = boxes_in_pixels() / [WIDTH, HEIGHT, WIDTH, HEIGHT]
CENTERS = np.hstack([(SHARES[:, :2] + SHARES[:, 2:]) / 2, SHARES[:, 2:] - SHARES[:, :2]])


@pytest.mark.parametrize(
    ("boxes", "mode"),
    [
        (SHARES, BoxMode.XYXY_ABS),
        (sized(SHARES), BoxMode.XYWH_ABS),
        (SHARES, BoxMode.XYWH_ABS),  # corners, and shares
        (CENTERS, BoxMode.XYWH_ABS),
        (np.array([[0.0, 0, 1, 1]]), BoxMode.XYWH_ABS),  # the whole image
    ],
)
def test_fractions_are_refused(boxes, mode):
    (issue,) = check_units(records_of(boxes, mode))
    assert issue.fatal and issue.field == "bbox" and issue.file == "0.png"
    assert f"all {len(boxes)} boxes lie within 1 pixel" in issue.problem
    assert check_fractions(records_of(boxes, mode)) == [issue]


@pytest.mark.parametrize("mode", [BoxMode.XYXY_ABS, BoxMode.XYWH_ABS])
def test_pixels_are_not(mode):
    corners = boxes_in_pixels()
    boxes = corners if mode == BoxMode.XYXY_ABS else sized(corners)
    assert check_units(records_of(boxes, mode)) == []
    # A tiny object, at the corner, beside others; and boxes of an image of one pixel.
    assert check_units(records_of(np.vstack([[[0, 0, 1, 1]], boxes]), mode)) == []
    assert check_units(records_of(np.array([[0, 0, 1, 1]]), mode, size=(1, 1))) == []
    assert check_units([]) == check_units(records_of(boxes[:0], mode)) == []


def test_keypoints_in_fractions_are_refused():
    points = [0.2, 0.3, 2, 0.9, 0.1, 1, 500, 400, 0]  # the last is not labeled
    (issue,) = check_units(records_of(boxes_in_pixels(), keypoints=points))
    assert issue.fatal and issue.field == "keypoints" and "within 1 pixel" in issue.problem
    assert check_units(records_of(boxes_in_pixels(), keypoints=[200.5, 300, 2, 0.9, 0.1, 1, 0, 0, 0])) == []
    assert check_units(records_of(boxes_in_pixels(), keypoints=[0, 0, 0] * 3)) == []


@pytest.mark.parametrize(("unit", "name", "size"), [(100, "percent", (480, 640)), (1000, "thousandths", (2160, 3840))])
@pytest.mark.parametrize("mode", [BoxMode.XYXY_ABS, BoxMode.XYWH_ABS])
def test_percent_and_thousandths_are_issues(unit, name, size, mode):
    boxes = unit * (SHARES if mode == BoxMode.XYXY_ABS else sized(SHARES))
    (issue,) = check_units(records_of(boxes, mode, size))
    assert not issue.fatal and name in issue.problem and "wrong positions" in issue.problem
    assert check_units(records_of(boxes[:5], mode, size)) == [], "a few boxes may be anywhere"


def test_some_fractions_among_pixels_are_an_issue():
    (issue,) = check_units(records_of(np.vstack([boxes_in_pixels(), SHARES])))
    assert not issue.fatal and "40 of 80 boxes lie within 1 pixel" in issue.problem


def test_corners_named_as_sizes_are_an_issue():
    (issue,) = check_units(records_of(boxes_in_pixels(), BoxMode.XYWH_ABS))
    assert not issue.fatal and "as corners x1, y1, x2, y2" in issue.problem


def coco_file(folder, boxes):
    cv2.imwrite(str(folder / "a.png"), np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8))
    annotations = [
        {"id": k, "image_id": 1, "category_id": 1, "bbox": box, "area": 1.0, "iscrowd": 0}
        for k, box in enumerate(boxes.tolist(), start=1)
    ]
    images = [{"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}]
    data = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}]}
    (folder / "a.json").write_text(json.dumps(data))


@pytest.mark.parametrize("kind", ["coco", "voc_json"])
def test_a_file_in_fractions_is_refused_at_loading_and_named_by_the_check(tmp_path, kind):
    coco_file(tmp_path, sized(SHARES))
    cfg, name = get_cfg(), f"units_{uuid.uuid4().hex}"
    cfg.DATASETS.CUSTOM = [[name, kind, str(tmp_path / "a.json"), str(tmp_path)]]
    cfg.DATASETS.TRAIN = (name,)
    register_custom_datasets(cfg)
    for load in (lambda: load_dataset_dicts(name), lambda: check_quick(cfg)):
        with pytest.raises(AnnotationError, match=rf"{name}(.|\n)*a.png, bbox: all 40 boxes lie within 1 pixel"):
            load()
    issues = report_coco(str(tmp_path / "a.json"), str(tmp_path)).issues
    assert [(issue.fatal, issue.field) for issue in issues] == [(True, "bbox")]


def test_corners_are_an_issue_of_a_file(tmp_path):
    """Although the dataset dicts have the boxes cut."""
    coco_file(tmp_path, boxes_in_pixels())
    last = report_coco(str(tmp_path / "a.json"), str(tmp_path)).issues[-1]
    assert "as corners" in last.problem and not last.fatal


def test_sets_that_other_code_registers(tmp_path):
    name = f"units_{uuid.uuid4().hex}"
    DatasetCatalog.register(name, lambda: records_of(SHARES))
    MetadataCatalog.get(name).set(thing_classes=["a"])
    with pytest.raises(AnnotationError, match="within 1 pixel"):
        load_dataset_dicts(name)


def voc(folder, boxes):
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    cv2.imwrite(str(folder / "JPEGImages" / "a.jpg"), np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8))
    (folder / "ImageSets" / "Main" / "val.txt").write_text("a\n")
    tags = ("xmin", "ymin", "xmax", "ymax")
    edges = ["".join(f"<{tag}>{v}</{tag}>" for tag, v in zip(tags, box, strict=True)) for box in boxes]
    objects = "".join(f"<object><name>x</name><bndbox>{one}</bndbox></object>" for one in edges)
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
    (folder / "Annotations" / "a.xml").write_text(f"<annotation>{size}{objects}</annotation>")


@pytest.mark.parametrize("box", [(0, 5, 40, 50), (5, 0, 40, 50), ("0.0", 5, 40, 50)])
def test_voc_labels_that_count_from_0_are_an_issue(tmp_path, box):
    voc(tmp_path, [(11, 11, 40, 50), box])
    (issue,) = report_voc(str(tmp_path), "val").issues
    assert not issue.fatal and issue.field == "bndbox"
    assert "1 of 2 objects have an xmin or ymin of 0, but Pascal VOC counts from 1" in issue.problem
    assert "one pixel too far left" in issue.problem


def test_voc_labels_that_count_from_1_are_none(tmp_path):
    voc(tmp_path, [(1, 1, WIDTH, HEIGHT), (2, 1, 40, 50)])
    assert report_voc(str(tmp_path), "val").issues == []


def test_voc_labels_in_fractions_are_refused(tmp_path):
    voc(tmp_path, SHARES.round(4).tolist())
    issues = report_voc(str(tmp_path), "val").issues
    assert any(issue.fatal and "within 1 pixel" in issue.problem for issue in issues)
