"""CrowdHuman from files built here, with everything wrong in them that can be; its registration."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from centernet_d2.data.datasets.coco import load_coco
from centernet_d2.data.preparation.command import prepare
from centernet_d2.data.preparation.crowdhuman import BOXES, convert_crowdhuman
from tests.helpers.files import write_image

ID = "273271,c9db000d5146c15"


def person(**changes: Any) -> dict[str, Any]:
    boxes = {"fbox": [10, 20, 30, 50], "vbox": [10, 20, 25, 40], "hbox": [15, 22, 9, 11]}
    extra = {"extra": {"box_id": 0, "occ": 0}, "head_attr": {"ignore": 0, "occ": 0, "unsure": 0}}
    return {"tag": "person", **boxes, **extra, **changes}


MASK = {"tag": "mask", "fbox": [60, 5, 30, 20], "vbox": [1, 2, 3, 4], "hbox": [1, 2, 3, 4], "extra": {"ignore": 1}}


def write(root: Path, *lines: Any, split: str = "train") -> Path:
    """The odgt file; its images in the folder that the archive of that split unpacks to."""
    write_image(root / f"CrowdHuman_{split}01/Images/{ID}.jpg")
    path = root / f"annotation_{split}.odgt"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ("full", [([10, 20, 30, 50], 0), ([-5, 40, 200, 90], 1), ([60, 5, 30, 20], 1)]),
        ("visible", [([10, 20, 25, 40], 0), ([0, 40, 100, 40], 1), ([60, 5, 30, 20], 1)]),
        ("head", [([15, 22, 9, 11], 1), ([15, 22, 9, 11], 1), ([60, 5, 30, 20], 1)]),
    ],
)
def test_lines_become_a_coco_file(tmp_path: Path, boxes: str, expected: list) -> None:
    """A person whose head is ignored, one that is ignored whole and larger than the image, and a crowd."""
    large = {"fbox": [-5, 40, 200, 90], "vbox": [0, 40, 100, 40], "extra": {"ignore": 1}}
    path = write(tmp_path, {"ID": ID, "gtboxes": [person(head_attr={"ignore": 1}), person(**large), MASK]}, "", "")
    (summary,) = convert_crowdhuman(tmp_path, boxes)
    assert summary.issues == [] and summary.list_warnings() == ["1 images, but 15000 are known"]
    stem = "train" if boxes == "full" else f"train_{boxes}"
    assert summary.json_file == tmp_path / f"annotations/{stem}.json"
    data = json.loads(summary.json_file.read_text())
    assert data["categories"] == [{"id": 1, "name": "head" if boxes == "head" else "person"}]
    (image,) = data["images"]
    assert image == {"id": 1, "file_name": f"CrowdHuman_train01/Images/{ID}.jpg", "height": 80, "width": 100}
    assert [(one["bbox"], one["iscrowd"]) for one in data["annotations"]] == expected
    assert [one["area"] for one in data["annotations"]] == [box[2] * box[3] for box, _ in expected]
    (dataset_dict,) = load_coco(f"test_odgt_{uuid.uuid4().hex}", str(summary.json_file), str(tmp_path))
    assert len(dataset_dict["annotations"]) == 3
    assert path.exists()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (person(tag="cat"), "tag: is 'cat', not one of person, mask"),
        ([1, 2], "tag: is None, not one of person, mask"),
        ({key: value for key, value in person().items() if key != "fbox"}, "fbox: is missing"),
        (person(fbox=[1, 2, 3]), "bbox: is [1, 2, 3], not four numbers"),
        (person(fbox=[1, 2, 3, "4"]), "bbox: [1, 2, 3, '4'] has a value that is not a finite number"),
        (person(fbox=[1, 2, 0, 4]), "bbox: [1, 2, 0, 4] has no area: the object is dropped"),
        (person(fbox=[101, 2, 5, 4]), "bbox: [101, 2, 5, 4] is outside the 100x80 image: it is dropped"),
        (person(extra={"ignore": 2}), "ignore: is [2], not 0 or 1"),
        (person(extra=3), "ignore: is [None], not 0 or 1"),
    ],
)
def test_errors_are_named_and_the_rest_is_converted(tmp_path: Path, entry: Any, message: str) -> None:
    write(tmp_path, {"ID": ID, "gtboxes": [person(), entry, person()]})
    (summary,) = convert_crowdhuman(tmp_path)
    assert [str(issue) for issue in summary.issues] == [f"{ID}, annotation 2, {message}"]
    assert summary.objects == 2


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"ID": "a"}', '{"ID": 3, "gtboxes": []}', '{"ID": "a", "gtboxes": {}}', "[" * 100_000]
)
def test_lines_that_are_none(tmp_path: Path, line: str) -> None:
    path = write(tmp_path, line, {"ID": ID, "gtboxes": [person()]}, split="val")
    (summary,) = convert_crowdhuman(tmp_path)
    (issue,) = summary.issues
    assert (issue.file, issue.field) == (str(path), "line 1")
    assert (summary.images, summary.objects) == (1, 1)


@pytest.mark.parametrize("name", ["absent", "../outside"])
def test_images_that_cannot_be_used(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / "outside.jpg")
    write(tmp_path / "root", {"ID": name, "gtboxes": [person()]}, {"ID": ID, "gtboxes": []})
    (summary,) = convert_crowdhuman(tmp_path / "root")
    (issue,) = summary.issues
    assert issue.field == "image" and name in issue.file
    assert (summary.images, summary.objects) == (1, 0)


def test_nothing_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(tmp_path, convert_crowdhuman) == 1
    assert "neither annotation_train.odgt nor annotation_val.odgt" in capsys.readouterr().err
    (tmp_path / "annotation_val.odgt").write_bytes(b"\xff\xfe\x00")
    assert prepare(tmp_path, convert_crowdhuman) == 1
    assert "annotation_val.odgt is not text" in capsys.readouterr().err


def test_registered() -> None:
    for split in ("train", "val"):
        for kind in BOXES:
            name = f"crowdhuman_{split}" if kind == "full" else f"crowdhuman_{split}_{kind}"
            assert name in DatasetCatalog and MetadataCatalog.get(name).evaluator_type == "coco"
            assert MetadataCatalog.get(name).thing_classes == ["head" if kind == "head" else "person"]
