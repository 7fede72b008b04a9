"""AFLW: a database in its tables, Zhu's revision, two real faces."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from centernet_d2.data.preparation.aflw import FEATURE_IDS, NUM_FACES, convert_aflw, read_database, split_by_name
from centernet_d2.data.preparation.command import prepare
from centernet_d2.data.preparation.faces import Face
from centernet_d2.data.schemas import FACE19
from tests.helpers.files import face_points, images_and_points, load, write_image

_NAMES = (
    "LeftBrowLeftCorner LeftBrowCenter LeftBrowRightCorner RightBrowLeftCorner RightBrowCenter RightBrowRightCorner "
    "LeftEyeLeftCorner LeftEyeCenter LeftEyeRightCorner RightEyeLeftCorner RightEyeCenter RightEyeRightCorner "
    "LeftEar NoseLeft NoseCenter NoseRight RightEar MouthLeftCorner MouthCenter MouthRightCorner ChinCenter"
)
FEATURES = _NAMES.split()


def _write_database(path: Path, faces: list[tuple[str, dict[int, Any], Any]]) -> None:
    """``faces``: image, points by feature id, x, y, width, height or None."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE Faces (face_id INTEGER PRIMARY KEY, file_id TEXT, db_id TEXT)")
        db.execute("CREATE TABLE FaceImages (image_id INTEGER PRIMARY KEY, db_id TEXT, file_id TEXT, filepath TEXT)")
        db.execute("CREATE TABLE FaceRect (face_id INTEGER PRIMARY KEY, x, y, w, h, annot_type_id INTEGER)")
        db.execute("CREATE TABLE FeatureCoords (face_id INTEGER, feature_id INTEGER, x, y, annot_type_id INTEGER)")
        db.execute("CREATE TABLE FeatureCoordTypes (feature_id INTEGER PRIMARY KEY, descr TEXT)")
        db.executemany("INSERT INTO FeatureCoordTypes VALUES (?, ?)", list(enumerate(FEATURES, start=1)))
        for number, name in enumerate(dict.fromkeys(name for name, _, _ in faces)):
            db.execute("INSERT INTO FaceImages VALUES (?, 'AFLW', ?, ?)", (number, Path(name).name, name))
        for face, (name, points, box) in enumerate(faces, start=39341):
            db.execute("INSERT INTO Faces VALUES (?, ?, 'AFLW')", (face, Path(name).name))
            if box:
                db.execute("INSERT INTO FaceRect VALUES (?, ?, ?, ?, ?, 1)", (face, *box))
            rows = [(face, feature, x, y) for feature, (x, y) in points.items()]
            db.executemany("INSERT INTO FeatureCoords VALUES (?, ?, ?, ?, 1)", rows)
    db.close()


def _features(seed: int) -> dict[int, tuple[float, float]]:
    return {k: (float(x), float(y)) for k, (x, y) in enumerate(face_points(seed, 21), start=1)}


def test_the_nineteen_are_the_features_without_ears() -> None:
    def simplified(name: str) -> str:
        return "".join("_" + c.lower() if c.isupper() else c for c in name)[1:].removesuffix("_corner")

    names = [simplified(FEATURES[number - 1]) for number in FEATURE_IDS]
    assert [name.replace("chin_center", "chin") for name in names] == list(FACE19.names)


def test_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten images, a face each but for one with two; the second face of all shows one side only."""
    faces = [(f"{k % 4}/image{k:05d}.jpg", _features(k), (10, 12, 60.0, 50)) for k in range(10)]
    hidden = {feature: point for feature, point in _features(50).items() if feature not in (1, 7, 8, 13)}
    faces.append(("3/image00003.jpg", hidden, (-2, 5, 30, 40)))
    _write_database(tmp_path / "aflw/data/aflw.sqlite", faces)
    for name, _, _ in faces:
        write_image(tmp_path / "aflw/data/flickr" / name)
    before = (tmp_path / "aflw/data/aflw.sqlite").read_bytes()
    assert prepare(tmp_path, convert_aflw) == 0
    assert (tmp_path / "aflw/data/aflw.sqlite").read_bytes() == before
    given = capsys.readouterr().out
    assert given.count("do not compare with reference numbers") == 3
    assert "left out" not in given
    found = {}
    for split in ("train", "full"):
        found |= images_and_points(tmp_path / "annotations" / f"{split}.json")
        load(tmp_path / "annotations" / f"{split}.json", tmp_path, "face19")
    assert {name: len(points) for name, points in found.items()} == {
        f"aflw/data/flickr/{name}": 1 + (name == "3/image00003.jpg") for name, _, _ in faces
    }
    for name, features, _ in faces[:10]:
        points = found[f"aflw/data/flickr/{name}"][0]
        np.testing.assert_array_equal(points, [[*features[number], 2] for number in FEATURE_IDS])
    one_sided = found["aflw/data/flickr/3/image00003.jpg"][1]
    expected = [[*hidden[number], 2] if number in hidden else [0, 0, 0] for number in FEATURE_IDS]
    np.testing.assert_array_equal(one_sided, expected)
    entries = [
        entry
        for split in ("train", "full")
        for entry in json.loads((tmp_path / "annotations" / f"{split}.json").read_text())["annotations"]
    ]
    assert sorted(entry["bbox"] for entry in entries)[:2] == [[-2.0, 5.0, 30.0, 40.0], [10.0, 12.0, 60.0, 50.0]]
    assert {entry["num_keypoints"] for entry in entries} == {16, 19}


def test_corrupt_faces_are_named_and_the_rest_is_converted(tmp_path: Path) -> None:
    box = (1, 2, 30, 40)
    faces: list[tuple[str, dict[int, Any], Any]] = [
        ("0/a.jpg", {**_features(1), 4: ("three", 4)}, box),
        ("0/a.jpg", {**_features(1), 4: (float("inf"), 4)}, box),
        ("0/a.jpg", {**_features(1), 4: (1000, 4)}, box),
        *[("0/a.jpg", {}, box), ("0/a.jpg", _features(1), None), ("0/a.jpg", _features(1), (1, 2, 0, 40))],
        *[
            ("0/absent.jpg", _features(1), box),
            ("../../../climbed.jpg", _features(1), box),
            ("0/a.jpg", _features(2), box),
        ],
        ("/etc/absolute.jpg", _features(1), box),
    ]
    root = tmp_path / "aflw"
    _write_database(root / "data/aflw.sqlite", faces)
    write_image(root / "data/flickr/0/a.jpg")
    write_image(tmp_path / "climbed.jpg")
    summaries = convert_aflw(root)
    database = f"{root}/data/aflw.sqlite, annotation 393"
    assert sorted(str(issue) for summary in summaries[:2] for issue in summary.issues) == sorted(
        [
            f"../../../climbed.jpg, image: leads out of the folder {root}",
            f"/etc/absolute.jpg, image: leads out of the folder {root}",
            f"{database}41, points: have a value that is not a finite number",
            f"{database}42, points: have a value that is not a finite number",
            f"{database}43, points: one is far outside the 100x80 image, at (1000, 4)",
            f"{database}44, points: none is labeled",
            f"{database}45, box: is missing, or not four finite numbers",
            f"{database}46, box: from (1, 2) to (1, 42) has no area",
            f"{root}/data/flickr/0/absent.jpg, image: the file does not exist",
        ]
    )
    assert [summary.objects for summary in summaries[:2]] in ([1, 0], [0, 1])


def test_split_by_name_has_the_reference_share_and_whole_images() -> None:
    face = Face([[0.0, 0.0]], "")
    names = [f"{k % 4}/image{k:05d}.jpg" for k in range(20000)]
    splits = split_by_name((name, face) for name in names for _ in range(2))
    test = {name for name, _ in splits["full"]}
    assert not test & {name for name, _ in splits["train"]}
    assert abs(len(test) / len(names) - 4386 / 24386) < 0.01
    # The same for a part of them.
    assert {name for name, _ in split_by_name((name, face) for name in names[:50])["full"]} == test & set(names[:50])


def test_what_is_no_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(tmp_path, convert_aflw) == 1
    assert "there is neither aflw.sqlite nor AFLWinfo_release.mat in" in capsys.readouterr().err
    (tmp_path / "aflw.sqlite").write_bytes(b"text" * 1000)
    with pytest.raises(ValueError, match=r"aflw\.sqlite is not the database of AFLW: file is not a database"):
        read_database(tmp_path / "aflw.sqlite")
    (tmp_path / "aflw.sqlite").unlink()
    sqlite3.connect(tmp_path / "aflw.sqlite").execute("CREATE TABLE Faces (face_id)").connection.close()
    with pytest.raises(ValueError, match="no such table: FeatureCoords"):
        read_database(tmp_path / "aflw.sqlite")


def test_real_faces_come_back(shared_data: Path, tmp_path: Path) -> None:
    sample = json.loads((shared_data / "aflw/test_aflw.json").read_text())
    faces, gt = [], {}
    (tmp_path / "data/flickr/0").mkdir(parents=True)
    for image, entry in zip(sample["images"], sample["annotations"], strict=True):
        points = np.reshape(entry["keypoints"], (19, 3))[:, :2]
        shutil.copyfile(shared_data / "aflw" / image["file_name"], tmp_path / "data/flickr/0" / image["file_name"])
        faces.append(
            (f"0/{image['file_name']}", dict(zip(FEATURE_IDS, points.tolist(), strict=True)), (1, 2, 300, 300))
        )
        gt[image["file_name"]] = (points, image["height"], image["width"])
    _write_database(tmp_path / "data/aflw.sqlite", faces)
    summaries = convert_aflw(tmp_path)
    dataset_dicts = [r for s in summaries[:2] if s.images for r in load(s.json_file, tmp_path, "face19")]
    assert len(dataset_dicts) == 2
    for dataset_dict in dataset_dicts:
        points, height, width = gt[Path(dataset_dict["file_name"]).name]
        assert (dataset_dict["height"], dataset_dict["width"]) == (height, width)
        found = np.reshape(dataset_dict["annotations"][0]["keypoints"], (19, 3))
        np.testing.assert_allclose(found[:, :2], points + 0.5, atol=6e-5)


def test_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The arrays of the real file, with a hundredth of its faces, of three images."""
    savemat = pytest.importorskip("scipy.io", reason="SciPy is not installed").savemat
    for split, number in {"train": 200, "full": 44, "frontal": 13}.items():
        monkeypatch.setitem(NUM_FACES, split, number)
    count, rng = sum(NUM_FACES[split] for split in ("train", "full")), np.random.default_rng(0)
    names = np.empty((count, 1), dtype=object)
    names[:, 0] = [f"{k % 3}/image.jpg" for k in range(count)]
    points, visible = rng.uniform(10, 70, (count, 2, 19)), rng.uniform(size=(count, 19)) > 0.05
    boxes, order = np.tile([3.0, 90.0, 4.0, 70.0], (count, 1)), rng.permutation(count)
    content = {"nameList": names, "data": points.reshape(count, 38), "mask_new": visible * 1.0, "bbox": boxes}
    savemat(tmp_path / "AFLWinfo_release.mat", {**content, "ra": order[None] + 1})
    for k in range(3):
        write_image(tmp_path / f"data/flickr/{k}/image.jpg")
    summaries = convert_aflw(tmp_path)
    frontal = [k for k in order[200:] if visible[k].all()]
    assert [summary.objects for summary in summaries] == [200, 44, len(frontal)]
    assert [w for s in summaries for w in s.list_warnings()] == [f"{len(frontal)} objects, but 13 are known"]
    for summary, chosen in zip(summaries[1:], (order[200:], frontal), strict=True):
        for name, found in images_and_points(summary.json_file).items():
            expected = [k for k in chosen if f"data/flickr/{names[k, 0]}" == name]
            stacked = np.concatenate([points[expected].transpose(0, 2, 1), visible[expected, :, None] + 1], axis=2)
            np.testing.assert_allclose(np.stack(found), stacked, atol=6e-5)
    entry = json.loads(summaries[2].json_file.read_text())["annotations"][0]
    assert entry["bbox"] == [3.0, 4.0, 87.0, 66.0]
    savemat(tmp_path / "AFLWinfo_release.mat", {**content, "ra": order[None]})
    with pytest.raises(ValueError, match="ra is no permutation of the faces"):
        convert_aflw(tmp_path)
