"""Extreme points from COCO's polygons and run lengths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as mask_util

from centernet_d2.data.catalog import load_dataset_dicts
from centernet_d2.data.datasets.custom import register_custom_datasets
from centernet_d2.data.preparation.extreme_points import convert_extreme_points, find_segmentation_points
from centernet_d2.data.schemas import EXTREME4
from tests.helpers.files import run_script
from tests.helpers.tiny import tiny_cfg

SIZE = (60, 80)
SQUARE = [[10.0, 20.0, 50.0, 20.0, 50.0, 40.0, 10.0, 40.0]]


def l_shape() -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[10:50, 20:30] = 1
    mask[40:50, 20:70] = 1
    return mask


def run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's: column by column, zeros first."""
    flat = np.concatenate([[0], mask.flatten(order="F"), [2]])
    ends = np.flatnonzero(np.diff(flat))
    lengths = np.diff(np.concatenate([[0], ends]))
    return [int(n) for n in (lengths if mask.flat[0] == 0 else [0, *lengths])]


def compressed(mask: np.ndarray) -> dict[str, Any]:
    encoded = mask_util.encode(np.asfortranarray(mask))
    return {"size": list(SIZE), "counts": encoded["counts"].decode()}


@pytest.mark.parametrize("form", ["numbers", "string"])
def test_masks_reach_to_the_edges_of_their_pixels(form):
    mask = l_shape()
    encoded = {"size": list(SIZE), "counts": run_lengths(mask)} if form == "numbers" else compressed(mask)
    assert find_segmentation_points(encoded, SIZE).tolist() == [[25, 10], [20, 30], [45, 50], [70, 45]]


def test_a_mask_has_the_points_of_its_polygon():
    """The edges are those of pycocotools' box; rasterizing cuts less than two pixels off a tip."""
    generator = np.random.default_rng(0)
    for _ in range(20):
        angles = np.sort(generator.uniform(0, 2 * np.pi, 9))
        outline = np.stack([40 + 30 * np.cos(angles), 30 + 25 * np.sin(angles)], axis=1)
        polygon = [outline.ravel().tolist()]
        encoded = mask_util.merge(mask_util.frPyObjects(polygon, *SIZE))
        encoded["counts"] = encoded["counts"].decode()
        box = mask_util.toBbox(encoded)
        points, exact = find_segmentation_points(encoded, SIZE), find_segmentation_points(polygon, SIZE)
        edges = [points[1, 0], points[0, 1], points[3, 0] - points[1, 0], points[2, 1] - points[0, 1]]
        assert edges == pytest.approx(box.tolist())
        for side, axis in enumerate((1, 0, 1, 0)):
            assert abs(points[side, axis] - exact[side, axis]) < 2


@pytest.mark.parametrize(
    ("segmentation", "problem"),
    [
        (None, "is neither polygons nor run lengths"),
        ([1.0, 2.0, 3.0], "is neither polygons nor run lengths"),
        ([], "no polygon of three vertices"),
        ([[1.0, 2.0, 3.0, 4.0]], "no polygon of three vertices"),
        ([[1.0, 2.0, 3.0, 4.0, 5.0]], "not pairs of finite numbers"),
        ([[1.0, 2.0, 3.0, 4.0, float("nan"), 6.0]], "not pairs of finite numbers"),
        ({"size": [60, 81], "counts": [4860]}, r"has the size \[60, 81\], the image \[60, 80\]"),
        ({"size": [60, 80], "counts": [4800]}, "shows nothing"),
        ({"size": [60, 80], "counts": [10, 20, 9000]}, "cannot be decoded"),
        ({"size": [60, 80], "counts": [10, -20, 4810]}, "cannot be decoded"),
        ({"size": [60, 80], "counts": ["a"]}, "cannot be decoded"),
        ({"size": [60, 80], "counts": "nonsense"}, "cannot be decoded"),
        ({"size": [60, 80]}, "cannot be decoded"),
    ],
)
def test_what_cannot_be_used_is_said(segmentation, problem):
    with pytest.raises(ValueError, match=problem):
        find_segmentation_points(segmentation, SIZE)


def written(folder: Path) -> Path:
    def entry(number: int, image: int, segmentation: Any, **extra: Any) -> dict[str, Any]:
        box = {"bbox": [10, 20, 40, 20], "area": 800, "iscrowd": 0}
        return {"id": number, "image_id": image, "category_id": 18, "segmentation": segmentation, **box, **extra}

    crowd = entry(12, 7, compressed(l_shape()), iscrowd=1)
    annotations = [
        entry(11, 7, SQUARE, keypoints=[1, 2, 2] * 17, note="kept"),
        crowd,
        entry(13, 7, [[5, 5]]),
        entry(14, 99, SQUARE),
    ]
    images = [{"id": n, "file_name": f"{n}.jpg", "height": 60, "width": 80} for n in (9, 7)]
    categories = [{"id": n, "name": name} for n, name in ((1, "person"), (18, "dog"))]
    path = folder / "instances.json"
    path.write_text(
        json.dumps({"images": [*images, {"id": "x"}], "annotations": annotations, "categories": categories})
    )
    return path


def test_the_file_is_the_same_but_for_the_points(tmp_path):
    source = written(tmp_path)
    summary = convert_extreme_points(source, tmp_path / "out.json")
    before, after = (json.loads(path.read_text()) for path in (source, tmp_path / "out.json"))
    assert after["images"] == before["images"][:2]
    assert [a["name"] for a in after["categories"]] == ["person", "dog"]
    assert all(entry["keypoints"] == list(EXTREME4.names) for entry in after["categories"])
    first, crowd, without = after["annotations"]
    # Counted from the centers of pixels, as COCO's keypoints are.
    assert first.pop("keypoints") == [29.5, 19.5, 2, 9.5, 29.5, 2, 29.5, 39.5, 2, 49.5, 29.5, 2]
    assert first.pop("num_keypoints") == 4
    del before["annotations"][0]["keypoints"]
    assert [first, crowd, without] == before["annotations"][:3]
    assert {(f.file, f.annotation_id, f.field) for f in summary.issues} == {
        ("7.jpg", 13, "segmentation"),
        (str(source), None, "annotations"),
        (str(source), None, "images"),
    }


def test_any_classes_may_be_trained_on(tmp_path):
    convert_extreme_points(written(tmp_path), tmp_path / "out.json")
    name = "extreme_points_of_a_test"
    cfg = tiny_cfg("DATASETS.CUSTOM", [(name, "extreme4", str(tmp_path / "out.json"), str(tmp_path))])
    register_custom_datasets(cfg)
    _, dataset_dict = load_dataset_dicts(name)
    points = np.reshape(dataset_dict["annotations"][0]["keypoints"], (4, 3))
    assert points[:, :2].tolist() == [[30, 20], [10, 30], [30, 40], [50, 30]]
    assert dataset_dict["annotations"][0]["category_id"] == 1 and "keypoints" not in dataset_dict["annotations"][2]


def test_script(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    assert run_script("prepare_extreme_points") == 1
    assert "instances_train2017.json does not exist" in capsys.readouterr().err
    assert run_script("prepare_extreme_points", str(written(tmp_path))) == 0
    assert "2 images, 3 objects" in capsys.readouterr().out
    assert (tmp_path / "instances_extreme.json").exists()


def test_real_objects(shared_data, tmp_path):
    """Of COCO's photos: the points span the annotated boxes (which have two decimals)."""
    source = shared_data / "coco_person" / "test_coco.json"
    convert_extreme_points(source, tmp_path / "out.json")
    objects = [a for a in json.loads((tmp_path / "out.json").read_text())["annotations"] if "keypoints" in a]
    assert objects
    for entry in objects:
        points = np.reshape(entry["keypoints"], (4, 3))[:, :2] + 0.5
        x, y, width, height = entry["bbox"]
        found = [points[1, 0], points[0, 1], points[3, 0], points[2, 1]]
        assert found == pytest.approx([x, y, x + width, y + height], abs=0.02)
