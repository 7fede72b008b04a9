"""300W: archives in the published layout with corrupt entries among them, and two of its real images."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from centernet_d2.data.preparation import face_300w
from centernet_d2.data.preparation.archives import unpack_archives
from centernet_d2.data.preparation.command import prepare
from centernet_d2.data.preparation.face_300w import convert_300w, find_pairs, read_official_boxes
from tests.helpers.files import face_points, images_and_points, load, pts_text, write_image, write_pair

#: Good pairs and the points' seed.
PAIRS = {
    "lfpw/trainset/image_0001.png": 1,
    "helen/trainset/100032540_1.jpg": 2,
    "afw/1051618982_1.jpg": 3,
    "afw/1051618982_2.jpg": 4,
    "lfpw/testset/image_0001.png": 5,
    "helen/testset/296961468_1.jpg": 6,
    "ibug/image_003_1.jpg": 7,
    "ibug/image_092 _01.jpg": 8,
    "300W/01_Indoor/indoor_001.png": 9,
    "300W/02_Outdoor/outdoor_001.png": 10,
}


def _downloads(folder: Path, work: Path) -> None:
    """The downloads as archives in ``folder``; iBUG has its own folder in it, HELEN two, the test set is split."""
    for name, seed in PAIRS.items():
        write_pair(work / name, face_points(seed))
    (work / "ibug/Thumbs.db").write_bytes(b"junk")
    write_pair(work / "afw/1051618982_1_mirror.jpg", face_points(3))
    folder.mkdir()
    for name, prefix in (("lfpw", ""), ("helen", "helen/helen/"), ("afw", ""), ("ibug", "ibug/"), ("300W", "300W/")):
        with zipfile.ZipFile(folder / f"{name.lower()}.zip", "w") as archive:
            for path in sorted((work / name).rglob("*.*")):
                archive.write(path, prefix + path.relative_to(work / name).as_posix())
    data = (folder / "300w.zip").read_bytes()
    (folder / "300w.zip").unlink()
    for number in range(4):
        part = data[number * len(data) // 4 : (number + 1) * len(data) // 4]
        (folder / f"300w.zip.{number + 1:03d}").write_bytes(part)


def _break(folder: Path) -> None:
    """Beside the good pairs of iBUG, in its archive."""
    good = pts_text(face_points())
    corrupt = {
        "image_010.pts": pts_text(face_points(count=67)),
        "image_011.pts": good.replace("version: 1", "version: 9"),
        "image_012.pts": good.replace("{\n", "{\nnan nan\n").replace("68", "69"),
        "image_013.pts": "\udcff",
        "image_014.pts": pts_text(face_points() + 200),
        "../../climbed.pts": good,
        "image_015.pts": good,
    }
    write_image(folder / "image.jpg")
    with zipfile.ZipFile(folder / "ibug.zip", "a") as archive:
        for name, text in corrupt.items():
            archive.writestr(name if ".." in name else f"ibug/{name}", text.encode(errors="surrogateescape"))
        for number in (10, 11, 12, 13, 14, 16):
            archive.write(folder / "image.jpg", f"ibug/image_0{number}.jpg")
        archive.writestr("ibug/image_017.jpg", b"no image")
        archive.writestr("ibug/image_017.pts", good)
    (folder / "image.jpg").unlink()


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    _downloads(tmp_path / "300w", tmp_path / "work")
    shutil.rmtree(tmp_path / "work")
    return tmp_path / "300w"


def test_from_the_archives(downloads: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(downloads, convert_300w) == 0
    given = capsys.readouterr().out
    for split, count in {"train": 3148, "common": 554, "challenge": 135, "full": 689, "test": 600}.items():
        assert f"{split}.json: " in given and f"images, but {count} are known" in given
    assert "left out" not in given
    expected = {
        "train": ["lfpw/trainset/image_0001", "helen/helen/trainset/100032540_1", "afw/10516"],
        "common": ["lfpw/testset", "helen/helen/testset"],
        "challenge": ["ibug/image_003_1", "ibug/image_092 _01"],
        "full": ["lfpw/testset", "helen/helen/testset", "ibug/image_003_1", "ibug/image_092 _01"],
        "test": ["300w/300W/01_Indoor", "300w/300W/02_Outdoor"],
    }
    by_stem = {name.rpartition("/")[2]: seed for name, seed in PAIRS.items() if "lfpw" not in name}
    for split, starts in expected.items():
        found = images_and_points(downloads / "annotations" / f"{split}.json")
        names = list(found)
        assert len({name.rpartition(".")[0] for name in names}) == len(names) == len(starts) + (split == "train")
        assert all(name.startswith(tuple(starts)) for name in names)
        for name, (points,) in found.items():
            seed = PAIRS[name] if "lfpw" in name else by_stem[name.rpartition("/")[2]]
            np.testing.assert_array_equal(points[:, :2], face_points(seed))
        dataset_dicts = load(downloads / "annotations" / f"{split}.json", downloads, "face68")
        assert len(dataset_dicts) == len(names)
        kept = np.reshape(dataset_dicts[0]["annotations"][0]["keypoints"], (68, 3))
        np.testing.assert_allclose(kept[:, :2], next(iter(found.values()))[0][:, :2] + 0.5)


def test_subsets(downloads: Path) -> None:
    unpack_archives(downloads)
    convert_300w(downloads)
    found = {}
    for split in ("train", "full", "test"):
        content = json.loads((downloads / "annotations" / f"{split}.json").read_text())
        found[split] = [image.get("subset") for image in content["images"]]
    assert found == {
        "train": [None] * 4,
        "full": ["common", "common", "challenge", "challenge"],
        "test": ["indoor", "outdoor"],
    }


def test_corrupt_entries_are_named_and_the_good_rest_is_converted(
    downloads: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unpack_archives(downloads)
    convert_300w(downloads)
    good = images_and_points(downloads / "annotations/challenge.json")
    shutil.rmtree(downloads / "annotations")
    _break(downloads)
    assert prepare(downloads, convert_300w) == 0
    given = capsys.readouterr().out
    assert "ibug.zip, ../../climbed.pts: leads out of the folder ibug" in given
    assert not list(downloads.parent.rglob("climbed.pts"))
    ibug = f"{downloads}/ibug/image_0"
    for line in (
        f"{ibug}10.pts, n_points: is 67, not 68",
        f"{ibug}11.pts, version: the file starts with 'version: 9', not with 'version: 1'",
        f"{ibug}12.pts, points: number 1 is 'nan nan', not two finite numbers",
        f"{ibug}13.pts, file: is not text",
        f"{ibug}14.pts, points: one is far outside the 100x80 image",
        f"{ibug}15.pts, image: there is none of that name",
        f"{ibug}16.pts, file: does not exist",
        f"{ibug}17.jpg, image: not an image",
    ):
        assert given.count(line) == 2, line  # in challenge and full
    found = images_and_points(downloads / "annotations/challenge.json")
    assert list(found) == list(good)
    load(downloads / "annotations/challenge.json", downloads, "face68")


def test_twice_and_after_a_kill_the_same_bytes(downloads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _break(downloads)
    unpack_archives(downloads)
    first = {}
    for _ in range(2):
        convert_300w(downloads)
        files = {path.name: path.read_bytes() for path in (downloads / "annotations").iterdir()}
        assert (first or files) == files
        first = files
    shutil.rmtree(downloads / "annotations")
    whole, calls = face_300w.convert_pts, []

    def killed(*arguments, **fields):
        calls.append(arguments)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return whole(*arguments, **fields)

    monkeypatch.setattr(face_300w, "convert_pts", killed)
    with pytest.raises(KeyboardInterrupt):
        convert_300w(downloads)
    convert_300w(downloads)
    assert {path.name: path.read_bytes() for path in (downloads / "annotations").iterdir()} == first


def test_pairs_are_found_by_name_in_any_depth(tmp_path: Path) -> None:
    for name in ("afw/a.jpg", "deep/er/AFW/a.jpg", "deep/er/AFW/b.jpeg", "ibug/image_092 _01.jpg", "other/c.jpg"):
        write_image(tmp_path / name)
    for name in ("afw/a.pts", "ibug/image_092_01.pts", "afw/._a.pts", "lfpw/image_1.pts"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(pts_text(face_points()))
    found = {part: [tuple(pair)[1:] for pair in pairs] for part, pairs in find_pairs(tmp_path).items() if pairs}
    assert found == {
        "afw": [("a", "afw/a.jpg", "afw/a.pts", ""), ("b", "deep/er/AFW/b.jpeg", "", "")],
        "ibug": [("image_092_01", "ibug/image_092 _01.jpg", "ibug/image_092_01.pts", "")],
    }


def test_nothing_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(tmp_path, convert_300w) == 1
    assert "0 images, but 3148 are known" in capsys.readouterr().out
    assert prepare(tmp_path / "absent", convert_300w) == 1
    assert f"there is no folder {tmp_path}/absent" in capsys.readouterr().err


def test_real_images_come_back(shared_data: Path, tmp_path: Path) -> None:
    """The sample's points, written as .pts into the layout of the private test set."""
    sample = json.loads((shared_data / "300w_sample/test_300w.json").read_text())
    gt = {}
    for image, entry in zip(sample["images"], sample["annotations"], strict=True):
        points = np.reshape(entry["keypoints"], (68, 3))[:, :2]
        path = tmp_path / "01_Indoor" / image["file_name"]
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(shared_data / "300w_sample" / image["file_name"], path)
        path.with_suffix(".pts").write_text(pts_text(points))
        gt[f"01_Indoor/{image['file_name']}"] = (points, image["height"], image["width"])
    (summary,) = [summary for summary in convert_300w(tmp_path) if summary.images]
    assert (summary.images, summary.issues) == (2, [])
    dataset_dicts = {r["file_name"]: r for r in load(tmp_path / "annotations/test.json", tmp_path, "face68")}
    for name, (points, height, width) in gt.items():
        dataset_dict = dataset_dicts[str(tmp_path / name)]
        assert (dataset_dict["height"], dataset_dict["width"]) == (height, width)
        found = np.reshape(dataset_dict["annotations"][0]["keypoints"], (68, 3))
        np.testing.assert_allclose(found[:, :2], points + 0.5, atol=6e-4)


def _write_boxes(folder: Path, part: str, names: list[str]) -> None:
    savemat = pytest.importorskip("scipy.io", reason="SciPy is not installed").savemat
    entries = np.empty((1, len(names)), dtype=object)
    for k, name in enumerate(names):
        entry = {"imgName": name, "bb_detector": [[k, 2.0, 50, 60]], "bb_ground_truth": [[k + 1, 3.0, 51, 61]]}
        entries[0, k] = entry
    folder.mkdir(exist_ok=True)
    savemat(folder / f"bounding_boxes_{part.replace('/', '_')}.mat", {"bounding_boxes": entries})


@pytest.mark.parametrize(("boxes", "shift"), [("official", 1), ("detector", 0)])
def test_official_boxes(tmp_path: Path, boxes: str, shift: int) -> None:
    for name in ("image_003_1", "image_092 _01", "image_100"):
        write_pair(tmp_path / "ibug" / f"{name}.jpg", face_points())
    _write_boxes(tmp_path / "Bounding Boxes", "ibug", ["image_003_1.jpg", "image_092 _01.jpg"])
    (summary,) = [summary for summary in convert_300w(tmp_path, boxes) if summary.json_file.stem == "challenge"]
    assert [str(issue) for issue in summary.issues] == ["ibug/image_100.jpg, box: is not in the official box file"]
    found = [entry["bbox"] for entry in json.loads(summary.json_file.read_text())["annotations"]]
    assert found == [[k + shift - 0.5, 1.5 + shift, 50.0 - k, 58.0] for k in range(2)]


def test_one_official_box(tmp_path: Path) -> None:
    _write_boxes(tmp_path, "afw", ["a.jpg"])
    np.testing.assert_array_equal(read_official_boxes(tmp_path, "afw", "bb_detector")["a"], [-0.5, 1.5, 49.5, 59.5])


def test_official_boxes_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pair(tmp_path / "ibug/a.jpg", face_points())
    with pytest.raises(FileNotFoundError, match=r"there is no bounding_boxes_ibug\.mat"):
        convert_300w(tmp_path, "official")
    (tmp_path / "bounding_boxes_ibug.mat").write_bytes(b"text")
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(ImportError, match="can only be read with SciPy: pip install scipy"):
        convert_300w(tmp_path, "official")
