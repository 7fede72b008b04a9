"""WIDER FACE from files built here, with everything wrong in them that can be; its registration."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from centernet_d2.data.datasets.coco import load_coco
from centernet_d2.data.preparation.command import prepare
from centernet_d2.data.preparation.wider_face import convert_wider_face, read_difficulty, read_list
from tests.helpers.files import write_image

#: As in the published lists: blanks at the ends of rows, and a row of zeros where there is no face.
LIST = """0--Parade/0_Parade_a_1_849.jpg
1
44 33 12 14 0 0 0 0 0 0
0--Parade/0_Parade_Parade_0_452.jpg
0
0 0 0 0 0 0 0 0 0 0
1--Handshaking/1_b.jpg
3
7 8 7 8 2 1 0 0 2 1
78 38 14 17 2 0 1 1 0 0
90 60 15 40 1 0 0 0 1 0
"""
FACES = {
    "0--Parade/0_Parade_a_1_849": [[44, 33, 12, 14]],
    "1--Handshaking/1_b": [[7, 8, 7, 8], [78, 38, 14, 17], [90, 60, 15, 40]],
}


def write(root: Path, split: str = "val", text: str = LIST) -> Path:
    (root / "wider_face_split").mkdir(parents=True, exist_ok=True)
    path = root / "wider_face_split" / f"wider_face_{split}_bbx_gt.txt"
    path.write_text(text)
    for name in ("0--Parade/0_Parade_a_1_849", "0--Parade/0_Parade_Parade_0_452", "1--Handshaking/1_b"):
        write_image(root / f"WIDER_{split}/images/{name}.jpg")
    return path


def cells(values: list) -> np.ndarray:
    """A MATLAB cell array, a column."""
    result = np.empty((len(values), 1), dtype=object)
    for number, value in enumerate(values):
        result[number, 0] = value
    return result


def write_difficulty(path: Path, events: dict[str, dict[str, tuple[list, list[int]]]]) -> None:
    """``events``: event -> stem -> boxes, and numbers from 1 of those that count."""
    savemat = pytest.importorskip("scipy.io", reason="SciPy is not installed").savemat
    path.parent.mkdir(parents=True, exist_ok=True)
    column = [list(images.values()) for images in events.values()]
    savemat(
        path,
        {
            "event_list": cells(list(events)),
            "file_list": cells([cells(list(images)) for images in events.values()]),
            "face_bbx_list": cells([cells([np.array(boxes, float) for boxes, _ in one]) for one in column]),
            "gt_list": cells([cells([np.array(counts, float)[:, None] for _, counts in one]) for one in column]),
        },
    )


def events(*counted: list[int]) -> dict[str, dict[str, tuple[list, list[int]]]]:
    """Those of ``LIST``; of the three images the numbers of the faces that count."""
    first, second = FACES.values()
    parade = {"0_Parade_a_1_849": (first, counted[0]), "0_Parade_Parade_0_452": ([[0] * 4], counted[1])}
    return {"0--Parade": parade, "1--Handshaking": {"1_b": (second, counted[2])}}


def test_lists_become_a_coco_file(tmp_path: Path) -> None:
    write(tmp_path, "train")
    (summary,) = convert_wider_face(tmp_path)
    assert summary.issues == []
    assert summary.list_warnings() == ["3 images, but 12880 are known", "4 objects, but 159420 are known"]
    data = json.loads((tmp_path / "annotations/train.json").read_text())
    assert data["categories"] == [{"id": 1, "name": "face"}]
    assert [(one["file_name"], one["height"], one["width"]) for one in data["images"]] == [
        (f"WIDER_train/images/{name}.jpg", 80, 100)
        for name in ("0--Parade/0_Parade_a_1_849", "0--Parade/0_Parade_Parade_0_452", "1--Handshaking/1_b")
    ]
    objects = data["annotations"]
    assert [(one["image_id"], one["bbox"], one["iscrowd"], one["line"]) for one in objects] == [
        (1, [44, 33, 12, 14], 0, 3),
        *[(3, [7, 8, 7, 8], 0, 9), (3, [78, 38, 14, 17], 1, 10), (3, [90, 60, 15, 40], 0, 11)],
    ]
    names = ("blur", "expression", "illumination", "occlusion", "pose", "area")
    assert [[one[name] for name in names] for one in objects[1:3]] == [[2, 1, 0, 2, 1, 56], [2, 0, 1, 0, 0, 238]]
    assert not any("difficulties" in one for one in objects)


@pytest.mark.parametrize("zeros", ["0 0 0 0 0 0 0 0 0 0 \n", ""])
def test_images_without_faces(tmp_path: Path, zeros: str) -> None:
    """The published row of zeros, or none."""
    write(
        tmp_path,
        "train",
        LIST.replace("0 0 0 0 0 0 0 0 0 0\n0--", "0--").replace("0\n0 0 0 0 0 0 0 0 0 0\n", f"0\n{zeros}"),
    )
    (summary,) = convert_wider_face(tmp_path)
    assert (summary.images, summary.objects, summary.issues) == (3, 4, [])


ERRORS = [
    ("1\n44 33", "2\n44 33", 2, "number of faces: of 0--Parade/0_Parade_a_1_849.jpg is '2', but 1 faces follow", 3),
    ("1\n44 33", "one\n44 33", 2, "number of faces: of 0--Parade/0_Parade_a_1_849.jpg is 'one', but 1 faces", 3),
    ("44 33 12 14 0", "44 33 12 14", 3, "line: has 9 values, not 10", 3),
    ("44 33 12 14 0", "44 33 12 x 0", 3, "bbox: is 44 33 12 x, not four finite numbers", 3),
    ("44 33 12 14 0", "44 inf 12 14 0", 3, "bbox: is 44 inf 12 14, not four finite numbers", 3),
    ("44 33 12 14 0", "44 33 12 14 3", 3, "blur: is '3', not a whole number from 0 to 2", 3),
    ("0 2 1\n", "0 2 0.5\n", 9, "pose: is '0.5', not a whole number from 0 to 1", 3),
    ("44 33 12 14 0", "44 33 0 14 0", 3, "bbox: 44 33 0 14 has no area: the face is not trained on", 4),
]


@pytest.mark.parametrize(("old", "new", "line", "message", "objects"), ERRORS)
def test_errors_are_named_and_the_rest_is_converted(
    tmp_path: Path, old: str, new: str, line: int, message: str, objects: int
) -> None:
    assert LIST.count(old) == 1
    path = write(tmp_path, "train", LIST.replace(old, new))
    (summary,) = convert_wider_face(tmp_path)
    (issue,) = summary.issues
    assert str(issue).startswith(f"{path}, annotation {line}, {message}")
    assert summary.objects == objects


def test_faces_without_area_are_crowds(tmp_path: Path) -> None:
    write(tmp_path, "train", LIST.replace("44 33 12 14", "44 33 -2 14"))
    (summary,) = convert_wider_face(tmp_path)
    face = json.loads(summary.json_file.read_text())["annotations"][0]
    assert (face["bbox"], face["area"], face["iscrowd"]) == ([44, 33, -2, 14], 0, 1)


@pytest.mark.parametrize("name", ["../../../climbed.jpg", "/etc/a.jpg", "0--Parade/absent.jpg"])
def test_images_that_cannot_be_used(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / "climbed.jpg")
    write(tmp_path / "root", "train", LIST.replace("1--Handshaking/1_b.jpg", name))
    (summary,) = convert_wider_face(tmp_path / "root")
    (issue,) = summary.issues
    assert issue.field == "image" and name in issue.file
    assert (summary.images, summary.objects) == (2, 1)


@pytest.mark.parametrize("text", ["", "1\n0 0 0 0\n", "3 4 5\n" + LIST])
def test_what_is_no_list(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"wider_face_val_bbx_gt\.txt is not a list of WIDER FACE"):
        list(read_list(write(tmp_path, text=text)))


def test_nothing_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(tmp_path, convert_wider_face) == 1
    assert "neither wider_face_train_bbx_gt.txt nor wider_face_val_bbx_gt.txt" in capsys.readouterr().err
    (tmp_path / "wider_face_train_bbx_gt.txt").write_text(LIST)
    assert prepare(tmp_path, convert_wider_face) == 1
    assert "there is no folder WIDER_train/images" in capsys.readouterr().err


def test_difficulties(tmp_path: Path) -> None:
    write(tmp_path)
    (summary,) = convert_wider_face(tmp_path)
    assert summary.list_warnings()[2:] == [
        "wider_easy_val.mat, wider_medium_val.mat, wider_hard_val.mat are not there (eval_tools.zip): "
        "easy, medium and hard cannot be scored"
    ]
    folder = tmp_path / "eval_tools/ground_truth"
    for name, counted in {"easy": ([], [], [3]), "medium": ([1], [], [3]), "hard": ([1], [], [1, 3])}.items():
        write_difficulty(folder / f"wider_{name}_val.mat", events(*counted))
    (summary,) = convert_wider_face(tmp_path)
    assert summary.issues == [] and len(summary.list_warnings()) == 2
    objects = json.loads(summary.json_file.read_text())["annotations"]
    assert [one["difficulties"] for one in objects] == [["medium", "hard"], ["hard"], [], ["easy", "medium", "hard"]]
    dataset_dicts = load_coco(f"test_wider_face_{uuid.uuid4().hex}", str(summary.json_file), str(tmp_path))
    assert [len(dataset_dict["annotations"]) for dataset_dict in dataset_dicts] == [1, 0, 3]


@pytest.mark.parametrize("change", ["absent", "more", "other"])
def test_difficulties_of_other_faces(tmp_path: Path, change: str) -> None:
    path = write(tmp_path)
    for name in ("easy", "medium", "hard"):
        wrong = events([], [], [3])
        if name == "medium":
            boxes = wrong["1--Handshaking"].pop("1_b")[0]
            changed = {"absent": boxes, "more": [*boxes, [1, 2, 3, 4]], "other": [boxes[0], boxes[2], boxes[1]]}[change]
            wrong["1--Handshaking"]["other" if change == "absent" else "1_b"] = (changed, [3])
            wrong["1--Handshaking"]["one more"] = ([[1, 2, 3, 4]], [1])
        write_difficulty(tmp_path / f"wider_{name}_val.mat", wrong)
    (summary,) = convert_wider_face(tmp_path)
    problem = "medium: of 1--Handshaking/1_b.jpg has other faces than the list: the image is left out"
    assert [str(issue) for issue in summary.issues] == [f"{path}, annotation 7, {problem}"]
    assert (summary.images, summary.objects) == (2, 1)


def test_what_is_no_difficulty(tmp_path: Path) -> None:
    path = tmp_path / "wider_easy_val.mat"
    write_difficulty(path, {"0": {"a": ([[1, 2, 3, 4]], [2])}, "1": {"b": ([[1, 2, 3, 4]], [])}})
    with pytest.raises(ValueError, match=r"wider_easy_val\.mat is not a difficulty of WIDER FACE"):
        read_difficulty(path)
    pytest.importorskip("scipy.io").savemat(path, {"gt_list": [1]})
    with pytest.raises(ValueError, match=r"is not a difficulty of WIDER FACE: KeyError\('event_list'\)"):
        read_difficulty(path)


def test_registered() -> None:
    assert {"wider_face_train", "wider_face_val"} <= set(DatasetCatalog.list())
    assert MetadataCatalog.get("wider_face_val").thing_classes == ["face"]
    kinds = [MetadataCatalog.get(f"wider_face_{split}").evaluator_type for split in ("train", "val")]
    assert kinds == ["coco", "wider_face"]
