"""Extreme points, contours and crowds of training objects, against objects that are themselves drawn flipped or cut;
and what is said of segmentations that cannot be used."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data.transforms import TransformList
from detectron2.structures import Boxes, BoxMode, Instances
from PIL import Image
from pycocotools import mask as mask_util

from centernet_d2.data.catalog import load_dataset_dicts
from centernet_d2.data.datasets.custom import register_custom_datasets
from centernet_d2.data.fields import FIELDS
from centernet_d2.data.transforms.affine import AffineTransform
from centernet_d2.data.validation.checks import check_quick
from centernet_d2.data.validation.issues import AnnotationError
from centernet_d2.evaluation import build_evaluator
from tests.helpers.tiny import tiny_cfg

HEIGHT, WIDTH = 40, 60
POINTS = 12
# Counterclockwise on the screen, from the top; no side is level.
SHAPE = np.array([[25.0, 4], [10, 9], [6, 22], [14, 33], [30, 36], [44, 27], [47, 15], [38, 7]])
FLIP = np.array([[-1.0, 0, WIDTH], [0, 1, 0]])
# Twice as large, 20 pixels of the image are left of the input and 5 above it.
CROP = np.array([[2.0, 0, -40], [0, 2, -10]])
TRANSFORMS = {
    "none": TransformList([]),
    "flipped": TransformList([AffineTransform(FLIP, (HEIGHT, WIDTH))]),
    "enlarged": TransformList([AffineTransform(CROP, (HEIGHT, WIDTH))]),
}


def field_cfg(*opts: Any) -> CfgNode:
    return tiny_cfg("MODEL.LSNET.CONTOUR_POINTS", POINTS, *opts)


def annotate(**extra: Any) -> dict[str, Any]:
    low, high = SHAPE.min(axis=0), SHAPE.max(axis=0)
    box = [*low.tolist(), *high.tolist()]
    return {"id": 7, "bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, **extra}


def flip_annotation(annotation: dict[str, Any]) -> dict[str, Any]:
    """The object of the flipped image: its polygons, mask and given points."""
    x1, y1, x2, y2 = annotation["bbox"]
    result = {**annotation, "bbox": [WIDTH - x2, y1, WIDTH - x1, y2]}
    if isinstance(annotation.get("segmentation"), list):
        result["segmentation"] = [
            (np.reshape(one, (-1, 2)) * [-1, 1] + [WIDTH, 0]).ravel().tolist() for one in annotation["segmentation"]
        ]
    elif "segmentation" in annotation:
        mask = mask_util.decode(annotation["segmentation"])
        result["segmentation"] = mask_util.encode(np.asfortranarray(mask[:, ::-1]))
    if "extreme_points" in annotation:
        points = np.reshape(annotation["extreme_points"][:8], (4, 2))[[0, 3, 2, 1]] * [-1, 1] + [WIDTH, 0]
        result["extreme_points"] = points.ravel().tolist()
    return result


def read(name: str, annotations: list[dict[str, Any]], transforms: TransformList, cfg: CfgNode | None = None):
    """``gt_<name>`` of the annotations, (P, K, 3)."""
    dataset_dict = {"file_name": "a.png", "height": HEIGHT, "width": WIDTH, "annotations": annotations}
    field = FIELDS[name](cfg or field_cfg())
    return field.read(dataset_dict, annotations, transforms, (HEIGHT, WIDTH))[f"gt_{name}"].tensor.double().numpy()


def draw_mask(polygon: np.ndarray) -> dict[str, Any]:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.fillPoly(mask, [polygon.astype(np.int32)], 1)
    return mask_util.encode(np.asfortranarray(mask))


GIVEN = [25.0, 4, 6, 22, 30, 36, 47, 15, 26.5, 20]
SOURCES = {
    "given": {"extreme_points": GIVEN},
    "polygon": {"segmentation": [SHAPE.ravel().tolist()]},
    "two polygons": {"segmentation": [SHAPE.ravel().tolist(), [1.0, 1, 1, 8, 9, 8.5]]},
    "mask": {"segmentation": draw_mask(SHAPE)},
    "box": {},
}


@pytest.mark.parametrize("source", SOURCES)
def test_flipped_extreme_points_are_those_of_an_object_that_is_drawn_flipped(source):
    annotation = annotate(**SOURCES[source])
    found = read("extreme_points", [annotation], TRANSFORMS["flipped"])
    expected = read("extreme_points", [flip_annotation(annotation)], TRANSFORMS["none"])
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert not np.allclose(found, read("extreme_points", [annotation], TRANSFORMS["none"]))


def test_a_flipped_contour_is_that_of_an_object_that_is_drawn_flipped():
    """Edges are about equally long, so that the contour is the vertices, whichever way it is sampled."""
    angles = -np.arange(POINTS) * 2 * np.pi / POINTS
    radius = 14 + np.random.default_rng(0).uniform(-0.1, 0.1, POINTS)
    vertices = np.stack([25 + radius * np.cos(angles + 0.1), 20 + radius * np.sin(angles + 0.1)], axis=1)
    annotation = annotate(segmentation=[vertices.ravel().tolist()])
    found = read("contour", [annotation], TRANSFORMS["flipped"])[0, :, :2]
    expected = read("contour", [flip_annotation(annotation)], TRANSFORMS["none"])[0, :, :2]
    flipped = vertices * [-1, 1] + [WIDTH, 0]
    for points in (found, expected):
        places = np.abs(points[:, None] - flipped).sum(axis=2)
        assert places.min(axis=1).max() < 1e-3 and sorted(places.argmin(axis=1)) == list(range(POINTS))
        assert turn(points) < 0
    # Both start at one of the two vertices beside the middle of the top.
    start = int(np.abs(expected - found[0]).sum(axis=1).argmin())
    assert start in (0, 1, POINTS - 1)
    np.testing.assert_allclose(np.roll(expected, -start, axis=0), found, atol=1e-3)


@pytest.mark.parametrize("source", SOURCES)
def test_any_flipped_contour_is_on_the_flipped_outline(source):
    """Samples of an edge start at its first vertex, which is the other one after the flip."""
    annotation = annotate(**SOURCES[source])
    found, expected = (
        read("contour", [one], TRANSFORMS[name])[0, :, :2]
        for one, name in ((annotation, "flipped"), (flip_annotation(annotation), "none"))
    )
    step = np.hypot(*(np.roll(expected, -1, axis=0) - expected).T).max()
    assert np.hypot(*(found - expected).T).max() < 2 * step and turn(found) < 0
    dense = read(
        "contour", [flip_annotation(annotation)], TRANSFORMS["none"], field_cfg("MODEL.LSNET.CONTOUR_POINTS", 360)
    )
    outline = dense[0, :, :2].astype(np.float32)
    assert max(abs(cv2.pointPolygonTest(outline, tuple(map(float, point)), True)) for point in found) < 0.5


def turn(points: np.ndarray) -> float:
    """Twice the signed area; below 0: counterclockwise on the screen."""
    x, y = points[:, 0], points[:, 1]
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())


def test_extreme_points_by_hand():
    """x, y of the vertices at the top, left, bottom and right of the shape."""
    found = read("extreme_points", [annotate(**SOURCES[name]) for name in SOURCES], TRANSFORMS["none"])
    vertices = [[25, 4], [6, 22], [30, 36], [47, 15]]
    np.testing.assert_allclose(found[0, :, :2], vertices)
    np.testing.assert_allclose(found[1, :, :2], vertices)
    # Pixels are whole, and the points are those of the mask, on the sides of the annotated box.
    np.testing.assert_allclose(found[3, :, :2], vertices, atol=1.0)
    np.testing.assert_allclose(found[4, :, :2], [[26.5, 4], [6, 20], [26.5, 36], [47, 20]])
    assert (found[..., 2] == 2).all()


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("source", SOURCES)
def test_extreme_points_are_on_the_sides_of_the_box(source, transform):
    transforms = TRANSFORMS[transform]
    annotation = annotate(**SOURCES[source])
    (points,) = read("extreme_points", [annotation], transforms)
    (box,) = transforms.apply_box(np.array([annotation["bbox"]])).clip(0, [WIDTH, HEIGHT, WIDTH, HEIGHT])
    np.testing.assert_allclose([points[0, 1], points[1, 0], points[2, 1], points[3, 0]], box[[1, 0, 3, 2]], atol=1e-5)
    assert (points[:, :2] >= box[:2] - 1e-4).all() and (points[:, :2] <= box[2:] + 1e-4).all()


def test_an_enlarged_object_that_is_cut():
    """Of vertices outside the input, the nearest point of the cut box counts."""
    (points,) = read("extreme_points", [annotate(extreme_points=GIVEN)], TRANSFORMS["enlarged"])
    # Top (10, -2), left (-28, 34), bottom (20, 62), right (54, 20) of an input of 60 x 40.
    np.testing.assert_allclose(points[:, :2], [[10, 0], [0, 34], [20, 40], [54, 20]])
    (contour,) = read("contour", [annotate(**SOURCES["polygon"])], TRANSFORMS["enlarged"])
    (whole,) = read("contour", [annotate(**SOURCES["polygon"])], TRANSFORMS["none"])
    expected = (whole[:, :2] * 2 - [40, 10]).clip(0, [54, HEIGHT])
    np.testing.assert_allclose(contour[:, :2], expected, atol=1e-4)


def test_a_contour_is_on_the_outline_from_the_top_counterclockwise():
    for source in ("polygon", "two polygons", "mask"):
        (points,) = read("contour", [annotate(**SOURCES[source])], TRANSFORMS["none"])
        assert points.shape == (POINTS, 3) and turn(points) < 0
        distances = [abs(cv2.pointPolygonTest(SHAPE.astype(np.float32), tuple(map(float, p)), True)) for p in
                     points[:, :2]]  # fmt: skip
        assert max(distances) < (1.5 if source == "mask" else 1e-3)
        top_middle = np.array([(SHAPE[:, 0].min() + SHAPE[:, 0].max()) / 2, SHAPE[:, 1].min()])
        assert np.hypot(*(points[:, :2] - top_middle).T).argmin() == 0
    (box,) = read("contour", [annotate()], TRANSFORMS["none"])
    x1, y1, x2, y2 = annotate()["bbox"]
    on_side = np.minimum(np.abs(box[:, :1] - [x1, x2]).min(1), np.abs(box[:, 1:2] - [y1, y2]).min(1))
    assert on_side.max() < 1e-6


def test_images_without_objects():
    assert read("extreme_points", [], TRANSFORMS["none"]).shape == (0, 4, 3)
    assert read("contour", [], TRANSFORMS["none"]).shape == (0, POINTS, 3)


def test_crowds_are_regions_of_their_own():
    field = FIELDS["crowd"](field_cfg())
    crowd = annotate(iscrowd=1, segmentation=draw_mask(SHAPE), keypoints=[0.0] * 51)
    dataset_dict = {"annotations": [annotate(iscrowd=0), crowd]}
    (extra,) = field.list_extra_objects(dataset_dict)
    # Its mask and its keypoints say nothing about one object.
    assert extra == {"bbox": crowd["bbox"], "bbox_mode": crowd["bbox_mode"], "category_id": 0, "ignored": True}
    ignored = field.read({}, [dataset_dict["annotations"][0], extra], TRANSFORMS["none"], (HEIGHT, WIDTH))["gt_ignored"]
    assert ignored.tolist() == [False, True]


SQUARE = [5.0, 5, 5, 25, 25, 25, 25, 5]
BAD = {
    "two points": ([[5.0, 5, 20, 20]], "has no polygon of three vertices or more"),
    "not a number": ([[5.0, 5, 5, float("nan"), 20, 20]], "has a polygon that is not pairs of finite numbers"),
    "infinite": ([[5.0, 5, 5, float("inf"), 20, 20]], "has a polygon that is not pairs of finite numbers"),
    "outside": ([[105.0, 5, 105, 25, 125, 25]], "lies outside the image of 60 x 40 pixels"),
    "odd": ([[5.0, 5, 5, 25, 25, 25, 25]], "has a polygon that is not pairs of finite numbers"),
    "one polygon of two is odd": ([SQUARE, [5.0, 5, 5, 25, 25, 25, 25]], "is not pairs of finite numbers"),
    "no polygon": ([5.0, 5, 5, 25, 25, 25], "is neither polygons nor run lengths"),
    "text": ("circle", "is neither polygons nor run lengths"),
    "mask of another size": ({"size": [8, 8], "counts": [60, 4]}, r"has the size [8, 8], the image [40, 60]"),
    "empty mask": ({"size": [40, 60], "counts": [2400]}, "shows nothing"),
    "mask without a size": ({"counts": [2400]}, r"has the size None, the image [40, 60]"),
}


def write_set(folder: Path, segmentation: Any, task: str, crowd: int = 0) -> tuple[CfgNode, str]:
    """The config that trains on two objects, of which the second has that segmentation."""
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "a.png")
    entry = {"image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0}
    annotations = [
        {**entry, "id": 31, "segmentation": [SQUARE]},
        {**entry, "id": 32, "segmentation": segmentation, "bbox": [30, 5, 20, 20], "iscrowd": crowd},
    ]
    images = [{"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}]
    categories = [{"id": 1, "name": "thing"}]
    path = folder / "a.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    name = f"masks_{uuid.uuid4().hex}"
    cfg = field_cfg("OUTPUT_DIR", str(folder / "out"), "MODEL.CENTERNET.TASK", task, "MODEL.CENTERNET.NUM_CLASSES", 1)
    cfg.DATASETS.CUSTOM = [[name, "coco", str(path), str(folder)]]
    cfg.DATASETS.TRAIN = (name,)
    register_custom_datasets(cfg)
    return cfg, name


@pytest.mark.parametrize("task", ["LSNetBoxTask", "LSNetContourTask"])
@pytest.mark.parametrize("name", BAD)
def test_bad_segmentations_are_named_before_training(name, task, tmp_path):
    segmentation, message = BAD[name]
    cfg, _ = write_set(tmp_path, segmentation, task)
    with pytest.raises(AnnotationError) as caught:
        check_quick(cfg)
    (line,) = str(caught.value).splitlines()[1:]
    assert "a.png, annotation 32, segmentation" in line and message in line


@pytest.mark.parametrize("name", BAD)
def test_bad_segmentations_do_not_disturb_boxes(name, tmp_path):
    """Neither training nor evaluation, whose file Detectron2 writes from the dataset dicts."""
    cfg, dataset = write_set(tmp_path, BAD[name][0], "DetectionTask")
    check_quick(cfg)
    evaluator = build_evaluator(cfg, dataset)
    evaluator.reset()
    for dataset_dict in load_dataset_dicts(dataset):
        boxes = torch.tensor([[5.0, 5, 25, 25], [30, 5, 50, 25]])
        instances = Instances((HEIGHT, WIDTH), pred_boxes=Boxes(boxes), scores=torch.tensor([0.9, 0.8]))
        instances.pred_classes = torch.zeros(2, dtype=torch.int64)
        evaluator.process([dataset_dict], [{"instances": instances}])
    assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(100)


def test_bad_segmentations_of_crowds_do_not_matter(tmp_path):
    cfg, _ = write_set(tmp_path, BAD["mask of another size"][0], "LSNetContourTask", crowd=1)
    check_quick(cfg)


@pytest.mark.parametrize("given", [[1.0, 2, 3], [1.0] * 7 + [float("nan")], "here", [1.0] * 7 + ["x"]])
def test_bad_extreme_points_are_named(given):
    field = FIELDS["extreme_points"](field_cfg())
    name, problem = field.find_problem({"extreme_points": given}, (HEIGHT, WIDTH))
    assert name == "extreme_points" and "not x, y of four points" in problem
    assert field.find_problem({"extreme_points": GIVEN}, (HEIGHT, WIDTH)) is None
    assert field.find_problem({}, (HEIGHT, WIDTH)) is None
