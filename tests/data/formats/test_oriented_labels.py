"""Oriented boxes in label files: samples as the tools write them become outlines of four corners, and train."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from centernet_d2.data.catalog import load_dataset_dicts
from centernet_d2.data.datasets.custom import register_custom_datasets
from centernet_d2.data.formats.labels import FORMATS, read_labels, recognize_format
from centernet_d2.evaluation.rotated_boxes import read_rotated_boxes
from centernet_d2.ops.rotated_boxes import compute_rotated_iou
from tests.helpers.labels import HEIGHT, WIDTH, draw, make_set, put
from tests.helpers.tiny import tiny_cfg

# x, y of the center, width, height; degrees counterclockwise on the screen.
BOX = [100.0, 50.0, 80.0, 20.0, 30.0]
# By hand: the half sides (40, 10) rotated by 30 degrees, y downward; top left, top right, bottom right, bottom left.
C, S = math.sqrt(3) / 2, 0.5
CORNERS = [
    (100 + a * 40 * C + b * 10 * S, 50 - a * 40 * S + b * 10 * C) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))
]


def write_dota(folder: Path) -> None:
    draw(folder / "train/images/P0001.png")
    draw(folder / "val/images/P0002.png")
    line = " ".join(f"{value:.6f}" for corner in CORNERS for value in corner)
    text = f"imagesource:GoogleEarth\ngsd:0.146343590398\n{line} small-vehicle 0\n{line} ship 1\n"
    put(folder / "train/labelTxt/P0001.txt", text)
    put(folder / "val/labelTxt/P0002.txt", "")


def write_yolo(folder: Path) -> None:
    draw(folder / "images/train/a.png")
    fractions = " ".join(f"{x / WIDTH:.7f} {y / HEIGHT:.7f}" for x, y in CORNERS)
    put(folder / "labels/train/a.txt", f"1 {fractions}\n")
    put(folder / "data.yaml", "path: .\ntrain: images/train\nnames: {0: plane, 1: ship}\n")


def write_cvat(folder: Path) -> None:
    """CVAT rotates clockwise, about the center."""
    draw(folder / "images/a.png")
    box = '<box label="ship" source="manual" xtl="60" ytl="40" xbr="140" ybr="60" rotation="330" z_order="0"/>'
    image = f'<image id="0" name="a.png" width="{WIDTH}" height="{HEIGHT}">{box}</image>'
    put(folder / "annotations.xml", f"<annotations><version>1.1</version>{image}</annotations>")


def write_label_studio(folder: Path) -> None:
    """Label Studio rotates clockwise, about the first corner, and counts in percent."""
    draw(folder / "a.png")
    x, y = CORNERS[0]
    value = {"x": 100 * x / WIDTH, "y": 100 * y / HEIGHT, "width": 40, "height": 20, "rotation": 330}
    size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    result = {**size, "id": "b", "type": "rectanglelabels", "value": {**value, "rectanglelabels": ["ship"]}}
    put(folder / "export.json", [{"id": 1, "data": {"image": "a.png"}, "annotations": [{"result": [result]}]}])


WRITERS = {"dota": write_dota, "yolo": write_yolo, "cvat": write_cvat, "label_studio": write_label_studio}


@pytest.mark.parametrize("name", WRITERS)
def test_rotated_boxes_are_read(tmp_path, name):
    WRITERS[name](tmp_path)
    assert recognize_format(tmp_path) == name
    cfg = tiny_cfg()
    cfg.DATASETS.CUSTOM = [[f"oriented_{name}", "auto", str(tmp_path), "train" if name in ("dota", "yolo") else "all"]]
    register_custom_datasets(cfg)
    (image,) = load_dataset_dicts(f"oriented_{name}")
    first, *others = read_rotated_boxes(image)
    assert float(compute_rotated_iou(torch.tensor(first["bbox"]).double(), torch.tensor(BOX).double())) > 0.999
    assert first["bbox"][4] == pytest.approx(30, abs=0.05)
    assert [one["iscrowd"] for one in others] == [1] * (name == "dota")  # difficult


def test_dota_of_classes_splits_and_versions(tmp_path):
    write_dota(tmp_path)
    labels = read_labels(tmp_path)
    assert [one["name"] for one in labels.data["categories"]] == ["ship", "small-vehicle"]
    assert [(image["split"], len(found)) for image, found in labels.list_objects()] == [("train", 2), ("val", 0)]
    (tmp_path / "train/labelTxt").rename(tmp_path / "train/labelTxt-v1.0")
    put(tmp_path / "train/labelTxt-v1.5/P0001.txt", "1 1 9 1 9 9 1 9 plane\n")
    labels = read_labels(tmp_path)
    assert [one["segmentation"] for one in labels.data["annotations"]] == [[[1, 1, 9, 1, 9, 9, 1, 9]]]
    assert labels.notes == {"images have several label files, of which the last is read": 1}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 1 9 1 9 9 1 plane 0", "annotation 2, line: is 'plane', not a number"),
        ("1 1 9 1 9 9 1 9 small vehicle 0", "annotation 2, line: has 11 fields, not 8 numbers, a class"),
        ("1 1 9 1 9 nan 1 9 plane 0", "annotation 2, line: is 'nan', not a number"),
        ("1 1 9 1 9 9 1 9 plane maybe", "annotation 2, difficult: is 'maybe', not a number"),
    ],
)
def test_dota_lines_that_cannot_be_used_are_named(tmp_path, line, message):
    draw(tmp_path / "images/a.png")
    put(tmp_path / "labelTxt/a.txt", f"1 1 9 1 9 9 1 9 plane 0\n{line}\n")
    labels = read_labels(tmp_path)
    assert len(labels.data["annotations"]) == 1 and f"a.txt, {message}" in str(labels.issues[0])


def test_corners_outside_the_image_are_yolos_too(tmp_path):
    write_yolo(tmp_path)
    put(tmp_path / "labels/train/a.txt", "1 -0.1 0.2 0.2 0.1 0.25 0.3 -0.05 0.4\n0 -0.1 0.2 0.2 0.1 0.25 0.3\n")
    labels = read_labels(tmp_path)
    assert len(labels.data["annotations"]) == 1 and "annotation 2, line: has -0.1" in str(labels.issues[0])


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "voc_folder"])
def test_rotated_boxes_are_written_for_moving_on(tmp_path, name):
    write_dota(tmp_path / "a")
    labels = read_labels(tmp_path / "a")
    labels.data["annotations"] = labels.data["annotations"][:1]  # others have no place for "difficult"
    FORMATS[name].write(labels, tmp_path / "b")
    (one,) = read_labels(tmp_path / "b").data["annotations"]
    assert one["segmentation"] == [pytest.approx([value for corner in CORNERS for value in corner], abs=1e-3)]


def test_what_dota_has_no_place_for_becomes_rectangles(tmp_path):
    """Boxes stay what they are; outlines become the smallest rectangles around them."""
    for number, (keypoints, outlines) in enumerate(((False, False), (True, False), (False, True))):
        ours = make_set(tmp_path / f"{number}", keypoints, outlines)
        FORMATS["dota"].write(ours, tmp_path / f"{number}_dota")
        theirs = read_labels(tmp_path / f"{number}_dota")
        found, expected = (labels.data["annotations"] for labels in (theirs, ours))
        if outlines:  # the rectangle on any side of a triangle has twice its area
            assert [one["area"] for one in found] == [pytest.approx(2 * one["area"], rel=1e-4) for one in expected]
        else:
            assert [one["bbox"] for one in found] == [pytest.approx(one["bbox"], abs=1e-3) for one in expected]
        assert {one["name"] for one in theirs.data["categories"]} == {"cat", "Hündin"}
        splits = sorted(image["split"] for image in theirs.data["images"])
        assert splits == sorted(image["split"] for image in ours.data["images"])
