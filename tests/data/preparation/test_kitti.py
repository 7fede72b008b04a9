"""KITTI from files built here, with everything wrong in them that can be; its registration."""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from centernet_d2.data.annotations import convert_to_corner_boxes
from centernet_d2.data.catalog import load_dataset_dicts
from centernet_d2.data.datasets.builtin import register_all_kitti
from centernet_d2.data.datasets.kitti import register_kitti
from centernet_d2.data.formats.image_files import NamedFiles
from centernet_d2.data.preparation.kitti import convert_kitti, read_kitti
from centernet_d2.data.validation.issues import AnnotationError
from tests.helpers.files import run_script, write_image

FOLDERS = {name: f"training/{name}" for name in ("image_2", "label_2", "calib")}
P2 = [707.0493, 0.0, 604.0814, 45.75831, 0.0, 707.0493, 180.5066, -0.3454157, 0.0, 0.0, 1.0, 0.004981016]
# As in the published files, in which every camera has its line.
CALIB = (
    "\n".join(f"P{k}: {' '.join(f'{value + (k != 2):.12e}' for value in P2)}" for k in range(4))
    + "\nR0_rect: 1 0 0\n\n"
)
CAR = "Car 0.00 1 -1.67 642.24 178.50 680.14 208.68 1.38 1.49 3.32 2.41 1.66 34.98 -1.60"
PEDESTRIAN = "Pedestrian 0.05 0 -0.20 712.40 143.00 810.73 307.92 1.89 0.48 1.20 1.84 1.47 8.41 0.01"
CYCLIST = "Cyclist 0.00 3 1.89 330.60 176.09 355.61 213.60 1.72 0.50 1.95 -12.63 1.88 34.09 1.54"
VAN = "Van 0.00 2 1.55 100.00 100.00 200.00 200.00 2.10 1.90 4.50 -5.00 1.80 20.00 1.30"
DONT_CARE = "DontCare -1 -1 -10 737.69 163.56 790.86 197.98 -1 -1 -1 -1000 -1000 -1000 -10"


def write(root: Path, labels: dict[str, str], folder: str = "training", calib: str = CALIB) -> None:
    for name, text in labels.items():
        write_image(root / folder / "image_2" / f"{name}.png", 1242, 375)
        for kind, content in (("label_2", text), ("calib", calib)):
            (root / folder / kind).mkdir(parents=True, exist_ok=True)
            (root / folder / kind / f"{name}.txt").write_text(content)


def write_lists(folder: Path, train: str, val: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "train.txt").write_text(train)
    (folder / "val.txt").write_text(val)
    return folder


def changed(label: str, field: int, value: str) -> str:
    words = label.split()
    words[field] = value
    return " ".join(words)


@pytest.fixture
def converted(tmp_path: Path) -> Path:
    """A folder with a converted 3dop split: two images to train, one to validate."""
    write(tmp_path, {"000001": "\n".join([VAN, CAR, DONT_CARE, PEDESTRIAN, ""]), "000007": "", "000002": CYCLIST})
    lists = {"3dop": write_lists(tmp_path / "lists", "000007\n000001\n", "000002\n")}
    summaries = convert_kitti(tmp_path, lists)
    assert [one.issues for one in summaries] == [[], []]
    assert [one.list_warnings() for one in summaries] == [
        ["2 images, but 3712 are known"],
        ["1 images, but 3769 are known"],
    ]
    return tmp_path


def test_labels_become_a_coco_file(converted: Path) -> None:
    data = json.loads((converted / "annotations/3dop_train.json").read_text())
    published = ("pedestrian", "car", "cyclist")
    assert data["categories"] == [{"id": k, "name": name} for k, name in enumerate(published, start=1)]
    empty, image = data["images"]
    matrix = [P2[:4], P2[4:8], P2[8:]]
    shared = {"height": 375, "width": 1242, "calib": matrix}
    assert empty == {"id": 1, "file_name": "training/image_2/000007.png", **shared, "ignored": []}
    ignored = image.pop("ignored")
    assert image == {"id": 2, "file_name": "training/image_2/000001.png", **shared}
    car, person = data["annotations"]
    assert car.pop("bbox") == pytest.approx([642.24, 178.5, 37.9, 30.18])
    assert car.pop("area") == pytest.approx(37.9 * 30.18)
    assert car == {
        "id": 1,
        "image_id": 2,
        "category_id": 2,
        "iscrowd": 0,
        "line": 2,
        "truncated": 0,
        "occluded": 1,
        "alpha": -1.67,
        "dim": [1.38, 1.49, 3.32],
        "location": [2.41, 1.66, 34.98],
        "depth": 34.98,
        "rotation_y": -1.6,
    }
    assert (person["category_id"], person["line"], person["truncated"]) == (1, 4, 0.05)
    van, region = ignored
    assert (van["type"], van["line"], van["occluded"], van["dim"]) == ("Van", 1, 2, [2.1, 1.9, 4.5])
    assert region.keys() == {"type", "line", "bbox"} and (region["type"], region["line"]) == ("DontCare", 3)
    assert region["bbox"] == pytest.approx([737.69, 163.56, 53.17, 34.42])
    assert json.loads((converted / "annotations/3dop_val.json").read_text())["annotations"][0]["category_id"] == 3


ERRORS = {
    "fields": (CAR.rsplit(" ", 1)[0], "line: has 14 values, not 15"),
    "result": (CAR + " 0.9", "line: has 16 values, not 15"),
    "type": (changed(CAR, 0, "Bus"), "type: is 'Bus', not one of Pedestrian, Car"),
    "truncated": (changed(CAR, 1, "1.5"), "truncated: is 1.5, not a fraction from 0 to 1"),
    "occluded": (changed(CAR, 2, "4"), "occluded: is 4, not 0, 1, 2 or 3"),
    "occluded-part": (changed(CAR, 2, "0.5"), "occluded: is 0.5, not 0, 1, 2 or 3"),
    "alpha": (changed(CAR, 3, "-10"), "alpha: is -10, not an angle"),
    "no-number": (changed(CAR, 4, "left"), "bbox: .* has a value that is not a finite number"),
    "infinite": (changed(CAR, 6, "inf"), "bbox: .* has a value that is not a finite number"),
    "no-area": (changed(CAR, 6, "642.24"), "bbox: .* has no area"),
    "outside": (changed(changed(CAR, 4, "1300"), 6, "1400"), "bbox: .* is outside the 1242x375 image"),
    "height": (changed(CAR, 8, "-1"), "height: is -1, not a positive number of meters"),
    "length": (changed(CAR, 10, "1,5"), "length: is nan, not a positive number of meters"),
    "place": (changed(CAR, 13, "nan"), "z: is nan, not a finite number"),
    "rotation": (changed(CAR, 14, "3.2"), "rotation_y: is 3.2, not an angle"),
    "van": (changed(VAN, 14, "x"), "rotation_y: is nan, not an angle"),
    "region": (changed(DONT_CARE, 7, "100"), "bbox: .* has no area"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_lines_with_errors_are_left_out_and_named(tmp_path: Path, name: str) -> None:
    line, problem = ERRORS[name]
    write(tmp_path, {"000001": f"{VAN}\n{line}\n{CYCLIST}\n{DONT_CARE}"})
    result = read_kitti(NamedFiles(tmp_path), FOLDERS, "000001")
    assert result.image is not None
    assert [one["line"] for one in result.objects] == [3]
    assert [one["line"] for one in result.image["ignored"]] == [1, 4]
    (issue,) = result.issues
    assert re.match(f"training/label_2/000001.txt, annotation 2, {problem}", str(issue)), issue


def test_a_box_that_reaches_out_of_the_image_is_kept(tmp_path: Path) -> None:
    write(tmp_path, {"000001": changed(CAR, 6, "1250")})
    result = read_kitti(NamedFiles(tmp_path), FOLDERS, "000001")
    assert len(result.objects) == 1 and not result.issues


IMAGES = {
    "label_2/000001.txt": (None, "training/label_2/000001.txt, file: does not exist"),
    "calib/000001.txt": (None, "training/calib/000001.txt, file: does not exist"),
    "image_2/000001.png": (b"no image", "training/image_2/000001.png, image: not an image"),
}


@pytest.mark.parametrize("file", IMAGES)
def test_images_with_errors_are_left_out_and_named(tmp_path: Path, file: str) -> None:
    content, problem = IMAGES[file]
    write(tmp_path, {"000001": CAR})
    path = tmp_path / "training" / file
    path.unlink() if content is None else path.write_bytes(content)
    result = read_kitti(NamedFiles(tmp_path), FOLDERS, "000001")
    assert result.image is None and [str(one) for one in result.issues] == [problem]


@pytest.mark.parametrize(
    ("calib", "problem"),
    [
        ("P0: 1 2 3\n", "P2: is missing"),
        ("P2: 1 2 3\n", "P2: is '1 2 3', not twelve finite numbers"),
        ("P2:" + " nan" * 12, "P2: is 'nan nan"),
        (b"\xff\xfe\x00P2".decode("latin-1"), "file: is not text"),
    ],
)
def test_calibrations_with_errors_are_named(tmp_path: Path, calib: str, problem: str) -> None:
    write(tmp_path, {"000001": CAR}, calib=calib)
    (issue,) = read_kitti(NamedFiles(tmp_path), FOLDERS, "000001").issues
    assert str(issue).startswith(f"training/calib/000001.txt, {problem}")


def test_labels_that_are_no_text(tmp_path: Path) -> None:
    write(tmp_path, {"000001": CAR})
    (tmp_path / "training/label_2/000001.txt").write_bytes(b"\xff\xfe\x00")
    (issue,) = read_kitti(NamedFiles(tmp_path), FOLDERS, "000001").issues
    assert str(issue).startswith("training/label_2/000001.txt, file: is not text")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "train.txt does not exist"),
        ("\n", "train.txt is empty"),
        ("000001\n../000002\n", r"train.txt has '../000002', which is not an image's number"),
        ("000001\n000001", "train.txt has '000001' 2 times"),
        ("a 1", "train.txt has 'a 1', which is not"),
    ],
)
def test_lists_with_errors(tmp_path: Path, content: str | None, problem: str) -> None:
    write(tmp_path, {"000001": CAR})
    lists = write_lists(tmp_path / "lists", content or "", "000001")
    if content is None:
        (lists / "train.txt").unlink()
    with pytest.raises((FileNotFoundError, ValueError), match=problem):
        convert_kitti(tmp_path, {"subcnn": lists})


def test_the_script_unpacks_and_converts_what_there_are_lists_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    root, packed = tmp_path / "kitti", tmp_path / "packed"
    root.mkdir()
    write(packed, {"000001": CAR, "000002": f"{CYCLIST}\nBus"})
    for name in FOLDERS:
        source = packed / name / "training"
        source.mkdir(parents=True)
        shutil.move(packed / "training" / name, source)
        shutil.make_archive(str(root / f"data_object_{name}"), "zip", packed / name)
    assert run_script("prepare_kitti") == 1
    assert f"{root} has neither ImageSets_3dop nor ImageSets_subcnn" in capsys.readouterr().err
    write_lists(root / "ImageSets_subcnn", "000001", "000002")
    assert run_script("prepare_kitti") == 0
    out = capsys.readouterr().out
    assert "subcnn_train.json: 1 images, 1 objects" in out
    assert "data_object_label_2/training/label_2/000002.txt, annotation 2, line: has 1 values, not 15" in out
    assert sorted(os.listdir(root / "annotations")) == ["subcnn_train.json", "subcnn_val.json"]
    assert run_script("prepare_kitti", "--3dop", str(tmp_path / "absent")) == 1
    assert f"{tmp_path / 'absent' / 'train.txt'} does not exist" in capsys.readouterr().err
    assert run_script("prepare_kitti", "--3dop", str(root / "ImageSets_subcnn")) == 0
    assert len(os.listdir(root / "annotations")) == 4


def test_nothing_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lists(tmp_path / "ImageSets_3dop", "000001", "000001")
    assert run_script("prepare_kitti", str(tmp_path)) == 1
    assert f"{tmp_path} has neither training/image_2 nor data_object_image_2.zip" in capsys.readouterr().err


def registered(json_file: Path, root: Path) -> str:
    name = f"kitti_{uuid.uuid4().hex}"
    register_kitti(name, str(json_file), str(root))
    return name


def test_dataset_dicts_have_what_evaluation_and_training_need(converted: Path) -> None:
    name = registered(converted / "annotations/3dop_train.json", converted)
    empty, dataset_dict = load_dataset_dicts(name)
    assert dataset_dict["file_name"] == str(converted / "training/image_2/000001.png")
    assert dataset_dict["calib"].dtype == np.float64 and dataset_dict["calib"].ravel().tolist() == P2
    car, person = dataset_dict["annotations"]
    assert (car["category_id"], person["category_id"], car["line"]) == (1, 0, 2)
    assert (car["dim"], car["location"], car["rotation_y"]) == ([1.38, 1.49, 3.32], [2.41, 1.66, 34.98], -1.6)
    assert (car["truncated"], car["occluded"], car["alpha"], car["depth"]) == (0, 1, -1.67, 34.98)
    assert convert_to_corner_boxes(dataset_dict["ignored"])[0].tolist() == [100, 100, 200, 200]
    assert [one["bbox_mode"] for one in dataset_dict["ignored"]] == [BoxMode.XYWH_ABS] * 2
    assert empty["annotations"] == empty["ignored"] == []
    metadata = MetadataCatalog.get(name)
    assert (metadata.thing_classes, metadata.evaluator_type) == (["pedestrian", "car", "cyclist"], "kitti")


def test_reference_names() -> None:
    root, names = f"/{uuid.uuid4().hex}", {f"kitti_{s}_{part}" for s in ("3dop", "subcnn") for part in ("train", "val")}
    known = {name: (DatasetCatalog.pop(name), MetadataCatalog.pop(name)) for name in names if name in DatasetCatalog}
    try:
        register_all_kitti(root)
        assert names <= set(DatasetCatalog.list())
        with pytest.raises(FileNotFoundError, match=f"{root}/kitti/annotations/subcnn_val.json does not exist"):
            DatasetCatalog.get("kitti_subcnn_val")
    finally:
        for name in names:
            DatasetCatalog.pop(name)
            MetadataCatalog.pop(name)
        if known:
            register_all_kitti(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets")))


RECORDS: dict[str, tuple[list[Any], Any, str]] = {
    "calib": (["images", 1, "calib"], [[1, 2, 3]], r"000001.png, calib: is \[\[1, 2, 3\]\], not 12 finite numbers"),
    "ignored": (["images", 1, "ignored"], [1], "000001.png, ignored: is not a list of objects with fields"),
    "type": (
        ["images", 1, "ignored", 0, "type"],
        "Bus",
        "000001.png, annotation 1 of the ignored, type: is 'Bus', not",
    ),
    "box": (
        ["images", 1, "ignored", 1, "bbox"],
        [1, 2],
        r"annotation 2 of the ignored, bbox: is \[1, 2\], not 4 finite",
    ),
    "van": (
        ["images", 1, "ignored", 0, "dim"],
        None,
        "annotation 1 of the ignored, dim: is None, not 3 finite numbers",
    ),
    "dim": (["annotations", 0, "dim"], [1, 2, "3"], r"annotation 1, dim: is \[1, 2, '3'\], not 3 finite numbers"),
    "alpha": (["annotations", 1, "alpha"], None, "annotation 2, alpha: is None, not 1 finite number$"),
    "bbox": (["annotations", 1, "bbox"], [1], "annotation 2, bbox: "),
    "names": (["categories", 0, "name"], "tram", "categories: are tram, car, cyclist, not pedestrian, car"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_files_with_errors(converted: Path, name: str) -> None:
    path, value, problem = RECORDS[name]
    json_file = converted / "annotations/3dop_train.json"
    data = json.loads(json_file.read_text())
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    json_file.write_text(json.dumps(data))
    with pytest.raises(AnnotationError, match=problem):
        load_dataset_dicts(registered(json_file, converted))
