"""DeepFashion2 from archives built here, with everything wrong in them that can be, and from real clothing items."""

from __future__ import annotations

import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from centernet_d2.data.datasets.keypoint_sets import load_keypoint_dataset
from centernet_d2.data.formats.image_files import NamedFiles
from centernet_d2.data.preparation.deepfashion2 import convert_deepfashion2, read_deepfashion2
from centernet_d2.data.schemas import CLOTHES294

SCRIPT = Path(__file__).resolve().parents[3] / "datasets" / "prepare_deepfashion2.py"
SKIRT, SHIRT = 9, 1
COUNTS = {category: end - first for category, (first, end) in enumerate(CLOTHES294.ranges, start=1)}


def landmarks(category: int, visibility: int = 2) -> list[int]:
    return [value for k in range(COUNTS[category]) for value in (10 + k, 20 + 2 * k, visibility)]


def clothing_item(category: int = SKIRT, **changes: Any) -> dict[str, Any]:
    """As published; a value of None removes the field."""
    fields = {
        "segmentation": [[10, 20, 30, 20, 30, 60.5]],
        "scale": 2,
        "viewpoint": 1,
        "zoom_in": 3,
        "landmarks": landmarks(category) if category in COUNTS else [],
        "style": 4,
        "bounding_box": [5, 10, 45, 90],
        "occlusion": 1,
        "category_id": category,
        "category_name": "skirt",
    }
    return {key: value for key, value in (fields | changes).items() if value is not None}


def image(**clothing: Any) -> dict[str, Any]:
    return {"source": "user", "pair_id": 17, **clothing}


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (100, 120)).save(file, "JPEG")
    return file.getvalue()


def write(root: Path, contents: dict[str, Any], split: str = "train") -> None:
    """Annotation files and their images; text is written as it is."""
    for folder in ("annos", "image"):
        (root / split / folder).mkdir(parents=True, exist_ok=True)
    for stem, content in contents.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (root / split / "annos" / f"{stem}.json").write_text(text)
        (root / split / "image" / f"{stem}.jpg").write_bytes(jpeg())


def converted(root: Path, split: str = "train") -> dict[str, Any]:
    return json.loads((root / "annotations" / f"{split}.json").read_text())


def test_clothing_of_a_image_stay_apart_each_at_its_own_keypoints(tmp_path: Path) -> None:
    skirt = clothing_item(landmarks=[1, 2, 0, *landmarks(SKIRT, 1)[3:12], *landmarks(SKIRT)[12:]])
    write(
        tmp_path,
        {"000002": image(item1=clothing_item(SHIRT, style=0), item2=skirt), "000001": image(item1=clothing_item())},
    )
    (summary,) = convert_deepfashion2(tmp_path)
    assert summary.issues == [] and summary.list_warnings() == ["2 images, but 191961 are known"]
    data = converted(tmp_path)
    assert data["categories"] == CLOTHES294.to_coco_categories()
    assert data["images"] == [
        {"id": 1, "file_name": "train/image/000001.jpg", "height": 120, "width": 100},
        {"id": 2, "file_name": "train/image/000002.jpg", "height": 120, "width": 100},
    ]
    first, shirt, skirt = data["annotations"]
    assert [a["image_id"] for a in data["annotations"]] == [1, 2, 2]
    assert [a["id"] for a in data["annotations"]] == [1, 2, 3]
    assert shirt["keypoints"] == landmarks(SHIRT) + [0] * 3 * (294 - 25)
    assert first["keypoints"] == [0] * 3 * 182 + landmarks(SKIRT) + [0] * 3 * (294 - 190)
    # An unlabeled landmark is 0, 0, 0 whatever its coordinates were.
    assert skirt["keypoints"][3 * 182 : 3 * 190] == [0, 0, 0, *landmarks(SKIRT, 1)[3:12], *landmarks(SKIRT)[12:]]
    assert [a["num_keypoints"] for a in data["annotations"]] == [8, 25, 7]
    assert [a["style"] for a in data["annotations"]] == [4, 0, 4]
    del skirt["keypoints"]
    assert skirt == {
        "id": 3,
        "image_id": 2,
        "category_id": SKIRT,
        "bbox": [5, 10, 40, 80],
        "area": 3200,
        "iscrowd": 0,
        "num_keypoints": 7,
        "segmentation": [[10, 20, 30, 20, 30, 60.5]],
        "style": 4,
        "scale": 2,
        "viewpoint": 1,
        "zoom_in": 3,
        "occlusion": 1,
        "pair_id": 17,
    }


NAN = landmarks(SKIRT)
NAN[4] = float("nan")
ERRORS = {
    "no-area": (clothing_item(bounding_box=[5, 10, 5, 90]), "bounding_box: .* has no area"),
    "outside": (clothing_item(bounding_box=[200, 10, 300, 90]), "bounding_box: .* outside the 100x120 image"),
    "three-numbers": (clothing_item(bounding_box=[1, 2, 3]), r"bounding_box: is \[1, 2, 3\], not four numbers"),
    "no-box": (clothing_item(bounding_box=None), "bounding_box: is missing"),
    "category-14": (clothing_item(14), "category_id: is 14, but there is no such category"),
    "category-0": (clothing_item(0), "category_id: is 0, but there is no such category"),
    "category-text": (clothing_item(category_id="9"), "category_id: is '9', not an integer"),
    "no-category": (clothing_item(category_id=None), "category_id: is missing"),
    "too-few": (clothing_item(landmarks=landmarks(SKIRT)[3:]), "landmarks: are 7 points, but the category has 8"),
    "other-category": (clothing_item(category_id=SHIRT), "landmarks: are 8 points, but the category has 25"),
    "not-triples": (clothing_item(landmarks=landmarks(SKIRT)[1:]), "landmarks: .* not triples"),
    "no-landmarks": (clothing_item(landmarks=None), "landmarks: are missing"),
    "nan": (clothing_item(landmarks=NAN), "landmarks: have a value that is not a finite number"),
    "visibility-3": (clothing_item(landmarks=landmarks(SKIRT, 3)), "landmarks: have a visibility other than 0, 1 or 2"),
    "empty": ({}, "item: is empty"),
    "list": ([1], "item: is not an object"),
}


@pytest.mark.parametrize("error", ERRORS)
def test_a_clothing_item_with_an_error_is_named_and_the_others_converted(tmp_path: Path, error: str) -> None:
    bad, sentence = ERRORS[error]
    write(tmp_path, {"000001": image(item1=bad, item2=clothing_item())})
    result = read_deepfashion2(NamedFiles(tmp_path), "train", "000001")
    (issue,) = result.issues
    assert str(issue).startswith("train/annos/000001.json, annotation item1, ")
    assert re.search(sentence, str(issue))
    assert [entry["category_id"] for entry in result.objects] == [SKIRT]


def test_a_box_is_cut_to_the_image_and_a_polygon_that_is_none_left_out(tmp_path: Path) -> None:
    write(tmp_path, {"1": image(item1=clothing_item(bounding_box=[-30, 10, 50, 130], segmentation=[[1, 2, 3, 4]]))})
    result = read_deepfashion2(NamedFiles(tmp_path), "train", "1")
    assert [issue.field for issue in result.issues] == ["bounding_box", "segmentation"]
    (entry,) = result.objects
    assert (entry["bbox"], entry["area"], entry["segmentation"]) == ([0, 10, 50, 110], 5500, [])


def test_a_image_at_error_is_named_and_left_out(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "01": image(item1=clothing_item()),
            "02": '{"source": "user", "item1": {"sty',
            "03": image(),
            "04": image(item1={}),
            "05": [1, 2],
            "06": image(item1=clothing_item()),
            "07": image(item1=clothing_item()),
            "08": image(item1=clothing_item()),
        },
    )
    (tmp_path / "train/image/06.jpg").unlink()
    (tmp_path / "train/image/07.jpg").write_bytes(b"no image")
    (tmp_path / "train/annos/08.json").unlink()
    (summary,) = convert_deepfashion2(tmp_path)
    assert [entry["file_name"] for entry in converted(tmp_path)["images"]] == ["train/image/01.jpg"]
    assert [str(issue) for issue in summary.issues] == [
        "train/annos/02.json, file: is not JSON: Unterminated string starting at: line 1 column 30 (char 29)",
        "train/annos/03.json, item1: is missing: there is no clothing item",
        "train/annos/04.json, annotation item1, item: is empty",
        "train/annos/05.json, file: is not an object with clothing items",
        "train/annos/06.json, image: image/06.jpg: the file does not exist",
        "train/annos/07.json, image: image/07.jpg: not an image",
        "train/annos/08.json, file: does not exist, but there is an image",
    ]


def run_script(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return int(stop.value.code)


def test_archives_are_prepared_in_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "deepfashion2"
    root.mkdir()
    for split, count in (("train", 3), ("validation", 1)):
        with zipfile.ZipFile(root / f"{split}.zip", "w") as archive:
            for number in range(1, count + 1):
                archive.writestr(f"{split}/annos/{number:06d}.json", json.dumps(image(item1=clothing_item())))
                archive.writestr(f"{split}/image/{number:06d}.jpg", jpeg())
            archive.writestr("../../escaped.json", "{}")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    assert run_script(monkeypatch) == 0
    shown = capsys.readouterr().out
    assert "train.zip, ../../escaped.json: leads out of the folder" in shown
    assert "3 images, but 191961 are known" in shown and "1 images, but 32153 are known" in shown
    assert not any("escaped" in name for _, _, names in os.walk(tmp_path) for name in names)
    assert len(converted(root)["annotations"]) == 3 and len(converted(root, "validation")["annotations"]) == 1
    dataset_dicts = load_keypoint_dataset("test_df2", CLOTHES294, str(root / "annotations" / "train.json"), str(root))
    assert [
        annotation["category_id"] for dataset_dict in dataset_dicts for annotation in dataset_dict["annotations"]
    ] == [SKIRT - 1] * 3
    assert Path(dataset_dicts[0]["file_name"]).is_file()


@pytest.mark.skipif(shutil.which("zip") is None, reason="no program that encrypts")
def test_the_password_opens_the_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "source", {"000001": image(item1=clothing_item())}, "validation")
    archive = tmp_path / "validation.zip"
    subprocess.run(["zip", "-qrP", "secret", archive, "validation"], cwd=tmp_path / "source", check=True)
    assert run_script(monkeypatch, str(tmp_path)) == 1
    assert run_script(monkeypatch, str(tmp_path), "--password", "secret") == 0
    assert len(converted(tmp_path, "validation")["annotations"]) == 1


def test_an_empty_folder_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_script(monkeypatch, str(tmp_path)) == 1
    assert "neither train/annos nor validation/annos" in capsys.readouterr().err


def test_real_clothing_keep_their_keypoints(tmp_path: Path, shared_data: Path) -> None:
    """The sample, 294 landmarks each, converted back to the published layout and converted again."""
    source = json.loads((shared_data / "deepfashion2" / "deepfasion2.json").read_text())
    images = {entry["id"]: entry["file_name"] for entry in source["images"]}
    for split in ("annos", "image"):
        (tmp_path / "validation" / split).mkdir(parents=True)
    for entry in source["annotations"]:
        name = images[entry["image_id"]]
        shutil.copy(shared_data / "deepfashion2" / name, tmp_path / "validation" / "image" / name)
        x, y, width, height = entry["bbox"]
        first, end = CLOTHES294.ranges[entry["category_id"] - 1]
        item = clothing_item(
            entry["category_id"],
            landmarks=entry["keypoints"][3 * first : 3 * end],
            bounding_box=[x, y, x + width, y + height],
            segmentation=entry["segmentation"],
            style=entry["style"],
        )
        content = {"source": "shop", "pair_id": entry["pair_id"], "item1": item}
        (tmp_path / "validation" / "annos" / name).with_suffix(".json").write_text(json.dumps(content))
    (summary,) = convert_deepfashion2(tmp_path)
    assert summary.issues == [] and summary.objects == len(source["annotations"]) == 2
    kept = ("bbox", "area", "category_id", "keypoints", "num_keypoints", "segmentation", "iscrowd", "style", "pair_id")
    for entry, original in zip(converted(tmp_path, "validation")["annotations"], source["annotations"], strict=True):
        assert {key: entry[key] for key in kept} == {key: original[key] for key in kept}
    dataset_dicts = load_keypoint_dataset(
        "test_df2_real", CLOTHES294, str(tmp_path / "annotations" / "validation.json"), str(tmp_path)
    )
    points = np.array(dataset_dicts[0]["annotations"][0]["keypoints"]).reshape(-1, 3)
    assert points[219].tolist() == [417.5, 107.5, 1]
