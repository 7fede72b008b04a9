"""Every error of an annotation is found with its file, annotation id and field, and none gets through unseen."""

from __future__ import annotations

import copy
import json
import logging
import random
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.structures import BoxMode
from PIL import Image

from centernet_d2.cli.check_data import main
from centernet_d2.data.datasets.coco import read_coco
from centernet_d2.data.datasets.custom import register_custom_datasets
from centernet_d2.data.validation.checks import check_annotations, check_quick, count_shared_cells
from centernet_d2.data.validation.issues import AnnotationError, AnnotationIssue
from centernet_d2.data.validation.report import report_coco, report_voc
from tests.helpers.tiny import base_cfg

CLASSES = ["cat", "dog", "cow"]


def _coco(num_images: int = 4, objects: int = 3) -> dict[str, Any]:
    images, annotations = [], []
    for image in range(1, num_images + 1):
        images.append({"id": image, "file_name": f"{image}.png", "height": 40, "width": 60})
        for index in range(objects):
            number = 10 * image + index
            points = [5.0, 6.0, 2, 7.0, 8.0, 1, 0, 0, 0]
            entry = {"id": number, "image_id": image, "category_id": 1 + index, "bbox": [5.0 * index, 3, 20.0, 12.5]}
            annotations.append({**entry, "area": 250.0, "iscrowd": 0, "keypoints": points})
    categories = [{"id": i + 1, "name": name, "keypoints": ["a", "b", "c"]} for i, name in enumerate(CLASSES)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _write(folder: Path, data: Any) -> Path:
    for image in range(1, 5):
        path = folder / f"{image}.png"
        if not path.exists():
            Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(path)
    path = folder / "a.json"
    path.write_text(json.dumps(data))
    return path


def test_sound_annotations_have_no_issues(tmp_path: Path) -> None:
    report = report_coco(str(_write(tmp_path, _coco())), str(tmp_path))
    assert report.issues == []
    assert report.num_images == 4
    assert report.class_counts == {"cat": 4, "dog": 4, "cow": 4}


WRONG_NUMBERS = ["5 px", True, None, [1], {}, float("nan"), float("inf"), -float("inf"), 10**400]
WRONG_INTEGERS = ["one", True, None, 1.5, [1], {}, float("nan")]


def _mutations() -> Iterator[tuple[str, Any, str, Callable[[dict[str, Any], dict[str, Any]], None]]]:
    """(field that must be named, value, part, change); ``part`` is an entry of one list of the file."""
    for field in ("id", "image_id", "category_id", "bbox"):
        yield field, "missing", "annotations", lambda entry, data, field=field: entry.pop(field)
    for position in range(4):
        for value in WRONG_NUMBERS:
            yield "bbox", value, "annotations", lambda e, d, p=position, v=value: e["bbox"].__setitem__(p, v)
    for value in (3, "1,2,3,4", None, [], [1, 2, 3], [1, 2, 3, 4, 5], {"x": 1}, [[1, 2, 3, 4]]):
        yield "bbox", value, "annotations", lambda e, d, v=value: e.update(bbox=v)
    for box in (
        [5, 5, 0, 9],
        [5, 5, 9, 0],
        [5, 5, -3, 9],
        [61, 5, 9, 9],
        [5, -20, 9, 9],
        [1e12, 1, 1, 1],
        [1, 1, 1e12, 1],
    ):
        yield "bbox", box, "annotations", lambda e, d, v=box: e.update(bbox=v)
    for field in ("id", "image_id", "category_id"):
        for value in WRONG_INTEGERS:
            yield field, value, "annotations", lambda e, d, f=field, v=value: e.update({f: v})
    for value in (0, -1, 4, 99, 10**12):
        yield "category_id", value, "annotations", lambda e, d, v=value: e.update(category_id=v)
    for value in (0, -1, 5, 99, 10**12):
        yield "image_id", value, "annotations", lambda e, d, v=value: e.update(image_id=v)
    for value in (2, -1, "perhaps", [], 0.5):
        yield "iscrowd", value, "annotations", lambda e, d, v=value: e.update(iscrowd=v)
    for value in (
        [],
        [1, 2],
        [1, 2, 2] * 2,
        [1, 2, 2] * 4,
        "abc",
        None,
        [1, 2, 3] * 3,
        [1, 2, "two"] * 3,
        [1, None, 2] * 3,
    ):
        yield "keypoints", value, "annotations", lambda e, d, v=value: e.update(keypoints=v)
    yield "id", "twice", "annotations", lambda e, d: e.update(id=next(a["id"] for a in d["annotations"] if a is not e))
    for value in (None, 3, "x", []):
        yield "annotation", value, "annotations", lambda e, d, v=value: _replace(d["annotations"], e, v)
        yield "images", value, "images", lambda e, d, v=value: _replace(d["images"], e, v)
        yield "categories", value, "categories", lambda e, d, v=value: _replace(d["categories"], e, v)
    for field in ("height", "width"):
        for value in (*WRONG_INTEGERS, 0, -5):
            yield field, value, "images", lambda e, d, f=field, v=value: e.update({f: v})
        yield field, "missing", "images", lambda e, d, f=field: e.pop(f)
    for value in (None, 3, "", "../1.png", "..\\1.png"):
        yield "file_name", value, "images", lambda e, d, v=value: e.update(file_name=v)
    for value in WRONG_INTEGERS:
        yield "id", value, "images", lambda e, d, v=value: e.update(id=v)
        yield "categories", value, "categories", lambda e, d, v=value: e.update(id=v)
    yield "id", "twice", "images", lambda e, d: e.update(id=next(a["id"] for a in d["images"] if a is not e))
    yield "categories", "id twice", "categories", lambda e, d: e.update(id=1 if e["id"] != 1 else 2)
    yield "categories", "name twice", "categories", lambda e, d: e.update(name="cat" if e["name"] != "cat" else "dog")
    for value in (None, 3, ["cat"]):
        yield "categories", value, "categories", lambda e, d, v=value: e.update(name=v)


def _replace(entries: list[Any], entry: Any, value: Any) -> None:
    entries[next(i for i, other in enumerate(entries) if other is entry)] = value


def test_every_mutation_is_found_with_file_annotation_and_field(tmp_path: Path) -> None:
    mutations = list(_mutations())
    assert len(mutations) >= 150
    clean = read_coco(str(_write(tmp_path, _coco())), str(tmp_path)).dataset_dicts
    gt = {a["id"]: a["category_id"] for dataset_dict in clean for a in dataset_dict["annotations"]}
    rng = random.Random(0)
    for field, value, part, change in mutations:
        data = copy.deepcopy(_coco())
        entry = rng.choice(data[part])
        number, name = entry["id"], f"{entry.get('image_id', entry['id'])}.png"
        change(entry, data)
        path = _write(tmp_path, data)
        issues = report_coco(str(path), str(tmp_path), check_images=False).issues
        message = (field, value, part, issues)
        hits = [issue for issue in issues if issue.field == field]
        assert hits, message
        if part == "annotations" and field not in ("id", "image_id", "annotation"):
            assert any(hit.annotation_id == number and hit.file == name for hit in map(_short, hits)), message
        # What is kept still has its own class: nothing shifted.
        if part == "annotations":
            coco = read_coco(str(path), str(tmp_path))
            kept = [a for dataset_dict in coco.dataset_dicts for a in dataset_dict["annotations"] if a["id"] != number]
            assert all(gt.get(a["id"], a["category_id"]) == a["category_id"] for a in kept), message


def _short(issue: AnnotationIssue) -> AnnotationIssue:
    return issue._replace(file=Path(issue.file).name)


def test_dataset_dicts_of_any_origin_are_checked() -> None:
    sound = {"bbox": [1, 2, 30, 20], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
    base = {"file_name": "a.jpg", "image_id": 1, "height": 40, "width": 60}
    assert check_annotations([{**base, "annotations": [sound]}], ["cat"]) == []
    numpy = {**sound, "bbox": np.array([1.0, 2, 30, 20]), "category_id": np.int64(0)}
    assert check_annotations([{**base, "annotations": [numpy]}], ["cat"]) == []
    errors = [
        {**sound, "category_id": 1},
        {**sound, "bbox_mode": BoxMode.XYWHA_ABS},
        {k: v for k, v in sound.items() if k != "bbox_mode"},
        {**sound, "bbox": [30, 20, 1, 2]},
        {**sound, "keypoints": [1, 2, 2]},
        3,
    ]
    issues = check_annotations([{**base, "annotations": [sound, *errors]}, dict(base), 5], ["cat"], num_keypoints=2)
    found = [(f.file, f.annotation_id, f.field) for f in issues]
    assert found == [
        ("a.jpg", 2, "category_id"),
        ("a.jpg", 3, "bbox_mode"),
        ("a.jpg", 4, "bbox_mode"),
        ("a.jpg", 5, "bbox"),
        ("a.jpg", 6, "keypoints"),
        ("a.jpg", 7, "annotation"),
        ("a.jpg", None, "image_id"),
        ("dataset dict 3", None, "images"),
    ]


def test_images_are_opened_on_demand(tmp_path: Path) -> None:
    data = _coco()
    data["images"][0]["height"] = 41
    path = _write(tmp_path, data)
    (tmp_path / "2.png").write_bytes(b"")
    (tmp_path / "3.png").unlink()
    issues = report_coco(str(path), str(tmp_path)).issues
    assert [(Path(f.file).name, f.field) for f in issues] == [(f"{i}.png", "image") for i in (1, 2, 3)]
    assert ["40 high" in issues[0].problem, "empty" in issues[1].problem] == [True, True]
    assert report_coco(str(path), str(tmp_path), check_images=False).issues == []


def test_training_stops_at_errors_and_warns_of_what_it_leaves_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"test_validation_{uuid.uuid4().hex}"
    data = _coco()
    data["annotations"][0]["bbox"] = [5, 5, 0, 9]
    cfg = base_cfg()
    cfg.DATASETS.CUSTOM = [(name, "coco", str(_write(tmp_path, data)), str(tmp_path))]
    cfg.DATASETS.TRAIN = (name,)
    register_custom_datasets(cfg)
    with caplog.at_level(logging.WARNING, "centernet_d2"):
        check_quick(cfg)
    assert "1.png, annotation 10, bbox: [5, 5, 0, 9] has no area" in caplog.text
    for annotation in data["annotations"]:
        annotation["category_id"] = 9
    _write(tmp_path, data)
    with pytest.raises(AnnotationError) as caught:
        check_quick(cfg)
    lines = str(caught.value).splitlines()
    assert "12 errors" in lines[0]
    assert lines[1].strip() == "1.png, annotation 10, category_id: is 9, but there is no such category"
    assert lines[-1].strip() == "... and 2 more"
    assert len(lines) == 12


def test_shared_cells_against_counting_by_hand() -> None:
    rng = np.random.default_rng(0)
    dataset_dicts = []
    for _ in range(20):
        corner, size = rng.uniform(0, 60, (30, 2)), rng.uniform(1, 40, (30, 2))
        boxes = np.hstack([corner, size]).tolist()
        dataset_dicts.append({"height": 100, "width": 50, "annotations": [
            {"bbox": box, "bbox_mode": BoxMode.XYWH_ABS, "category_id": int(rng.integers(2))} for box in boxes
        ]})  # fmt: skip
    for point in range(9):
        objects = lost = 0
        for dataset_dict in dataset_dicts:
            cells = set()
            for annotation in dataset_dict["annotations"]:
                x, y, w, h = annotation["bbox"]
                # 100 x 50 in 64 x 64: scale 0.64, shifted right by 16.
                x1, x2 = (min(max(v * 0.64 + 16, 0), 64) for v in (x, x + w))
                y1, y2 = (min(max(v * 0.64, 0), 64) for v in (y, y + h))
                if x2 <= x1 or y2 <= y1:
                    continue
                column = min(int((x1 + (x2 - x1) * (point % 3 + 1) / 4) // 4), 15)
                row = min(int((y1 + (y2 - y1) * (point // 3 + 1) / 4) // 4), 15)
                objects += 1
                key = (annotation["category_id"], row, column)
                lost += key in cells
                cells.add(key)
        assert count_shared_cells(dataset_dicts, 4, (64, 64), point) == (objects, lost)
        assert lost > 0


def test_real_samples_are_sound(shared_data: Path) -> None:
    for folder, json_file, objects in (
        ("voc/images", "voc/instances.json", 64),
        ("coco_person", "coco_person/test_coco.json", 14),
    ):
        report = report_coco(str(shared_data / json_file), str(shared_data / folder))
        assert report.issues == []
        assert sum(report.class_counts.values()) == objects
    report = report_voc(str(shared_data / "bccd"), "val")
    assert report.issues == []
    assert report.class_counts == {"Platelets": 83, "RBC": 968, "WBC": 87}
    assert report.shared[4].objects == 1138


def test_tool_lists_issues_and_says_so_by_its_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = _coco()
    arguments = ["--json", str(_write(tmp_path, data)), "--image-root", str(tmp_path)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "4 images, 12 objects" in printed and "0 issues" in printed
    data["annotations"][4]["bbox"][2] = "20 px"
    _write(tmp_path, data)
    assert main([*arguments, "--as-json"]) == 1
    (issue,) = json.loads(capsys.readouterr().out)["issues"]
    assert (issue["file"], issue["annotation_id"], issue["field"]) == ("2.png", 21, "bbox")
    assert main(["--json", str(tmp_path / "none.json")]) == 1
    assert "none.json does not exist" in capsys.readouterr().err


def test_tool_checks_the_sets_of_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = f"test_validation_{uuid.uuid4().hex}"
    custom = f"DATASETS: {{CUSTOM: [[{name}, coco, {_write(tmp_path, _coco())}, {tmp_path}]], TRAIN: [{name}]}}"
    (tmp_path / "config.yaml").write_text(f"VERSION: 2\n{custom}\n")
    assert main(["--config-file", str(tmp_path / "config.yaml"), "DATASETS.TEST", "('synthetic_shapes_val',)"]) == 0
    printed = capsys.readouterr().out
    assert "4 images, 12 objects" in printed and "synthetic_shapes_val: 200 images" in printed
    assert main(["--config-file", str(tmp_path / "config.yaml"), "DATASETS.TEST=('synthetic_shapes_val',)"]) == 0
    assert capsys.readouterr().out == printed
    assert main(["--config-file", str(tmp_path / "config.yaml"), "DATASETS.TESTS=()"]) == 1
    assert "did you mean DATASETS.TEST" in capsys.readouterr().err
