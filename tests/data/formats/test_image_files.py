"""Images of every suffix that the readers know are found by name; two of one name are refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from centernet_d2.data.datasets.voc import read_voc
from centernet_d2.data.formats.image_files import NamedFiles, find_image, list_image_suffixes
from centernet_d2.data.image_io import CorruptImageError
from centernet_d2.data.preparation.conversion import Summary
from centernet_d2.data.preparation.crowdhuman import convert_crowdhuman
from centernet_d2.data.preparation.deepfashion2 import convert_deepfashion2
from centernet_d2.data.preparation.face_300vw import convert_300vw
from centernet_d2.data.preparation.face_300w import convert_300w
from centernet_d2.data.preparation.kitti import convert_kitti
from centernet_d2.data.preparation.mot import convert_mot
from centernet_d2.data.preparation.wider_face import convert_wider_face
from tests.helpers.files import face_points, pts_text, write_image

SUFFIXES = (".jpg", ".JPEG", ".png", ".bmp", ".webp", ".tif", ".jfif", ".jp2")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def prepare_crowdhuman(root: Path) -> Sequence[Summary]:
    write(root / "annotation_val.odgt", '{"ID": "a,1", "gtboxes": [{"tag": "person", "fbox": [10, 20, 30, 50]}]}\n')
    return convert_crowdhuman(root)


def prepare_deepfashion2(root: Path) -> Sequence[Summary]:
    clothing_item = {"category_id": 1, "bounding_box": [10, 10, 60, 60], "landmarks": [20, 20, 2] * 25}
    write(root / "train/annos/000001.json", json.dumps({"item1": clothing_item, "pair_id": 1}))
    return convert_deepfashion2(root)


def prepare_kitti(root: Path) -> Sequence[Summary]:
    write(root / "training/label_2/000001.txt", "Car 0 0 0 10 10 60 60 1.5 1.6 4 1 1.5 20 0\n")
    write(root / "training/calib/000001.txt", f"P2: {' '.join('1' * 12)}\n")
    for part in ("train", "val"):
        write(root / f"lists/{part}.txt", "000001\n")
    return convert_kitti(root, {"3dop": root / "lists"})


def prepare_mot(root: Path) -> Sequence[Summary]:
    write(root / "train/A/seqinfo.ini", "[Sequence]\nseqLength=1\n")
    write(root / "train/A/gt/gt.txt", "1,3,11,21,30,40,1,1,0.8\n")
    return convert_mot(root)


def prepare_300w(root: Path) -> Sequence[Summary]:
    write(root / "afw/a.pts", pts_text(face_points()))
    return convert_300w(root)


def prepare_300vw(root: Path) -> Sequence[Summary]:
    write(root / "001/annot/000001.pts", pts_text(face_points()))
    return convert_300vw(root)


# Where the image is, without its suffix, and what writes the labels and converts.
CONVERTERS: dict[str, tuple[str, Callable[[Path], Sequence[Summary]]]] = {
    "crowdhuman": ("CrowdHuman_val/Images/a,1", prepare_crowdhuman),
    "deepfashion2": ("train/image/000001", prepare_deepfashion2),
    "kitti": ("training/image_2/000001", prepare_kitti),
    "mot": ("train/A/img1/000001", prepare_mot),
    "300w": ("afw/a", prepare_300w),
    "300vw": ("001/imgs/000001", prepare_300vw),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", CONVERTERS)
def test_any_suffix_that_the_readers_know_is_found(tmp_path: Path, name: str, suffix: str) -> None:
    image, prepare = CONVERTERS[name]
    write_image(tmp_path / f"{image}{suffix}")
    # Neither labels nor notes beside the image are images.
    for other in (".txt", ".json", ".xml", ".jpg.bak"):
        write(tmp_path / f"{image}{other}", "x")
    summary = prepare(tmp_path)[0]
    assert (summary.images, summary.objects, summary.issues) == (1, 1, [])
    assert json.loads(summary.json_file.read_text())["images"][0]["file_name"] == f"{image}{suffix}"


@pytest.mark.parametrize("name", CONVERTERS)
def test_two_images_of_one_name_are_refused(tmp_path: Path, name: str) -> None:
    image, prepare = CONVERTERS[name]
    for suffix in (".jpg", ".png"):
        write_image(tmp_path / f"{image}{suffix}")
    summary = prepare(tmp_path)[0]
    (issue,) = summary.issues
    assert summary.images == 0 and "ambiguous" in issue.problem and f"{Path(image).name}.png" in issue.problem


def test_two_images_of_one_name_in_vocs_layout_need_the_name_in_the_annotation(tmp_path: Path) -> None:
    annotation = "<annotation><filename>{}</filename><size><width>100</width><height>80</height></size></annotation>"
    write(tmp_path / "ImageSets/Main/train.txt", "a\n")
    for suffix in (".jpg", ".png"):
        write_image(tmp_path / f"JPEGImages/a{suffix}")
    write(tmp_path / "Annotations/a.xml", annotation.format("a.png"))
    dataset_dicts, issues = read_voc(str(tmp_path), "train", [])
    assert issues == [] and [one["file_name"] for one in dataset_dicts] == [f"{tmp_path}/JPEGImages/a.png"]
    write(tmp_path / "Annotations/a.xml", annotation.format("photo.png"))
    dataset_dicts, (issue,) = read_voc(str(tmp_path), "train", [])
    assert dataset_dicts == [] and issue.fatal
    assert str(issue).startswith(f"{tmp_path}/JPEGImages/a, image: is ambiguous: there are a.jpg, a.png")


def test_wider_faces_list_takes_any_suffix(tmp_path: Path) -> None:
    write_image(tmp_path / "WIDER_val/images/0--A/0.webp")
    write(tmp_path / "wider_face_val_bbx_gt.txt", "0--A/0.webp\n1\n10 10 30 40 0 0 0 0 0 0\n")
    (summary,) = convert_wider_face(tmp_path)
    assert (summary.images, summary.objects, summary.issues) == (1, 1, [])


def test_names_with_dots_and_folders(tmp_path: Path) -> None:
    for name in ("v1.0/a.b.png", "v1.0/a.jpg", "c.PNG"):
        write_image(tmp_path / name)
    files = NamedFiles(tmp_path)
    assert [find_image(files, name) for name in ("v1.0/a.b", "v1.0/a", "c", "d")] == [
        *("v1.0/a.b.png", "v1.0/a.jpg", "c.PNG", "d.jpg")
    ]
    for name in ("e.png", "e.PNG"):
        write_image(tmp_path / name)
    with pytest.raises(CorruptImageError, match=r"e: is ambiguous: there are e\.PNG, e\.png"):
        find_image(NamedFiles(tmp_path), "e")
    assert find_image(NamedFiles(tmp_path), "e", annotated_name="e.PNG") == "e.PNG"


def test_documents_and_videos_are_no_images() -> None:
    assert {suffix.lower() for suffix in SUFFIXES} <= list_image_suffixes()
    assert not list_image_suffixes() & {".pdf", ".eps", ".mpg", ".h5", ".txt", ".xml", ".json", ".npy", ""}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", CONVERTERS)
def test_labels_with_a_byte_order_mark_and_windows_line_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, encoding: str
) -> None:
    def write_marked(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding=encoding, newline="\r\n")

    monkeypatch.setattr(sys.modules[__name__], "write", write_marked)
    image, prepare = CONVERTERS[name]
    write_image(tmp_path / f"{image}.jpg")
    summary = prepare(tmp_path)[0]
    assert (summary.images, summary.objects, summary.issues) == (1, 1, [])
