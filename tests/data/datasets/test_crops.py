"""One image for each object: what is cut out, and what its annotation says."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image

from centernet_d2.config import get_cfg
from centernet_d2.data.catalog import get_class_names, load_dataset_dicts
from centernet_d2.data.datasets.crops import crop_objects
from centernet_d2.data.datasets.custom import register_custom_datasets
from centernet_d2.data.image_io import CorruptImageError, crop_image, read_image
from centernet_d2.data.schemas import FACE68
from centernet_d2.data.validation.checks import check_annotations


@pytest.fixture
def name() -> str:
    return f"test_crops_{uuid.uuid4().hex}"


def _register(*entries: list[str]) -> None:
    cfg = get_cfg()
    cfg.DATASETS.CUSTOM = list(entries)
    register_custom_datasets(cfg)


def _record(*annotations: dict[str, Any]) -> dict[str, Any]:
    filled = [{"category_id": 0, "iscrowd": 0, "bbox_mode": BoxMode.XYXY_ABS, **a} for a in annotations]
    return {"file_name": "a.png", "image_id": 9, "height": 50, "width": 80, "subset": "x", "annotations": filled}


def test_windows_are_square_whole_and_around_the_box() -> None:
    points = [12.5, 21, 2, 0, 0, 0, 50, 8, 1]
    dataset_dict = _record(
        {"bbox": [10, 20, 30, 32], "id": 4, "keypoints": points, "segmentation": [[1, 2, 3, 4, 5, 6]]},
        {"bbox": [0, 0, 9.5, 40], "bbox_mode": BoxMode.XYWH_ABS, "id": 5},
        {"bbox": [0, 0, 9, 9], "iscrowd": 1},
        {"bbox": [5, 5, 5, 9]},
    )
    first, second = crop_objects([dataset_dict], 1.5)
    # 1.5 * 20 = 30 around (20, 26).
    assert first["crop"] == [5, 11, 35, 41] and (first["height"], first["width"]) == (30, 30)
    (annotation,) = first["annotations"]
    assert annotation["bbox"] == [5, 9, 25, 21] and annotation["bbox_mode"] == BoxMode.XYXY_ABS
    assert annotation["keypoints"] == [7.5, 10, 2, 0, 0, 0, 45, -3, 1] and annotation["id"] == 4
    assert "segmentation" not in annotation
    assert second["crop"] == [-25, -10, 35, 50] and second["annotations"][0]["bbox"] == [25, 10, 34.5, 50]
    assert [(crop["image_id"], crop["source_image_id"]) for crop in (first, second)] == [(1, 9), (2, 9)]
    assert first["source_size"] == [50, 80] and first["subset"] == "x"
    assert dataset_dict["annotations"][0]["keypoints"] == points


def test_crops_of_crops_are_cut_from_the_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 80, 3), dtype=np.uint8)
    (crop,) = crop_objects([_record({"bbox": [10, 20, 30, 32]})], 2.0)
    (inner,) = crop_objects([crop], 1.2)
    assert inner["crop"] == [8, 14, 32, 38] and inner["source_size"] == [50, 80] and inner["source_image_id"] == 9
    assert inner["annotations"][0]["bbox"] == [2, 6, 22, 18]
    np.testing.assert_array_equal(crop_image(image, inner["crop"])[6:18, 2:22], image[20:32, 10:30])


@pytest.mark.parametrize(
    "window", [(3, 4, 10, 9), (-5, -7, 12, 8), (70, 40, 95, 60), (-3, -3, 90, 90), (-9, 2, -1, 8), (90, 60, 99, 70)]
)
def test_cutting_out_equals_a_padded_slice(window: tuple[int, int, int, int]) -> None:
    image = np.random.default_rng(1).integers(1, 256, (50, 80, 3), dtype=np.uint8)
    padded = np.pad(image, ((100, 100), (100, 100), (0, 0)))
    x1, y1, x2, y2 = window
    found = crop_image(image, window)
    np.testing.assert_array_equal(found, padded[y1 + 100 : y2 + 100, x1 + 100 : x2 + 100])
    assert found.flags.c_contiguous


def test_files_are_cut_and_their_size_is_still_checked(tmp_path: Path) -> None:
    image = np.random.default_rng(2).integers(0, 256, (50, 80, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    dataset_dict = {**_record({"bbox": [70, 40, 90, 60]}), "file_name": str(tmp_path / "a.png")}
    (crop,) = crop_objects([dataset_dict], 1.0)
    found = read_image(crop, "RGB")
    np.testing.assert_array_equal(found[:10, :10], image[40:, 70:])
    assert found.shape == (20, 20, 3) and not found[10:].any() and not found[:, 10:].any()
    with pytest.raises(CorruptImageError, match="80 wide and 50 high"):
        read_image({**crop, "source_size": [50, 81]})


def test_an_entry_crops_a_built_in_set_and_its_crops(name: str) -> None:
    _register([f"{name}_a", "crops", "synthetic_faces_val", "1.5"], [f"{name}_b", "crops", f"{name}_a", "1.2"])
    source = load_dataset_dicts("synthetic_faces_val")
    for crops in (load_dataset_dicts(f"{name}_a"), load_dataset_dicts(f"{name}_b")):
        assert len(crops) == sum(len(dataset_dict["annotations"]) for dataset_dict in source)
        assert check_annotations(crops[:20], ["face"], check_images=True, num_keypoints=68) == []
        whole, crop = read_image(source[0]), crops[0]
        landmarks = [np.reshape(r["annotations"][0]["keypoints"], (-1, 3)) for r in (source[0], crop)]
        corner = np.array(crop["crop"][:2])
        np.testing.assert_allclose(landmarks[0][:, :2] - corner, landmarks[1][:, :2])
        np.testing.assert_array_equal(crop_image(whole, crop["crop"]), read_image(crop))
    metadata = MetadataCatalog.get(f"{name}_b")
    assert metadata.keypoint_schema == "face68" and metadata.evaluator_type == "face_landmarks"
    assert metadata.keypoint_flip_map == FACE68.to_metadata()["keypoint_flip_map"]


def test_a_file_of_the_source_does_not_describe_the_crops(name: str, tmp_path: Path) -> None:
    box = {"image_id": 1, "area": 12.0, "iscrowd": 0, "bbox": [1, 2, 3, 4]}
    data = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 100, "width": 200}],
        "categories": [{"id": 90, "name": "dog"}],
        "annotations": [{"id": 5, "category_id": 90, **box}],
    }
    (tmp_path / "a.json").write_text(json.dumps(data))
    _register([name, "coco", str(tmp_path / "a.json"), str(tmp_path)], [f"{name}_crops", "crops", name, "2"])
    assert get_class_names(f"{name}_crops") == ["dog"]
    assert MetadataCatalog.get(name).get("json_file") and not MetadataCatalog.get(f"{name}_crops").get("json_file")
    # Twice is once, and another margin replaces.
    _register([f"{name}_crops", "crops", name, "2"])
    assert load_dataset_dicts(f"{name}_crops")[0]["height"] == 8
    _register([f"{name}_crops", "crops", name, "3"])
    assert load_dataset_dicts(f"{name}_crops")[0]["height"] == 12


@pytest.mark.parametrize("margin", ["wide", "0.5", "nan", "inf", "-2"])
def test_bad_margins_are_named(name: str, margin: str) -> None:
    with pytest.raises(ValueError, match=rf"DATASETS\.CUSTOM: the margin of '{name}' is '{margin}'"):
        _register([name, "crops", "synthetic_faces_val", margin])
    assert name not in DatasetCatalog


def test_an_unknown_source_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=r"from 'nowhere', but there is no such dataset"):
        _register([name, "crops", "nowhere", "1.5"])
