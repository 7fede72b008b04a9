"""Numbers in label files are plain ones: what Python's float() and int() take besides is refused by every reader."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from centernet_d2.data.datasets.coco import read_coco
from centernet_d2.data.formats.image_files import NamedFiles
from centernet_d2.data.formats.labels import read_labels
from centernet_d2.data.formats.numbers import parse_digits, parse_integer, parse_number
from centernet_d2.data.formats.pts import read_pts
from centernet_d2.data.formats.voc_xml import read_voc_xml
from centernet_d2.data.preparation.dlib_faces import convert_dlib_xml
from centernet_d2.data.preparation.kitti import read_kitti
from centernet_d2.data.preparation.mot import read_video
from centernet_d2.data.preparation.wider_face import convert_wider_face
from centernet_d2.data.validation.issues import AnnotationIssue
from tests.helpers.files import face_points, pts_text, write_image

WRONG = ("1_0", "\uff11\uff10", "\u0661\u0660", "nan", "inf", "-Infinity", "1e999", "0x10", "1,0", "", "ten")


@pytest.mark.parametrize(("text", "number"), [("7", 7), ("-7.50", -7.5), ("+.5", 0.5), ("1.", 1), (" 2e-3\n", 0.002)])
def test_plain_numbers(text, number):
    assert parse_number(text) == number


@pytest.mark.parametrize("text", WRONG)
def test_other_numbers(text):
    assert math.isnan(parse_number(text)) and parse_integer(text) is None and parse_digits(text) is None


def test_whole_numbers():
    assert [parse_integer(text) for text in ("64", "-3", "64.0", "64.5", "9" * 19)] == [64, -3, 64, None, None]
    assert [parse_digits(text) for text in ("007", "-3", " 3", "64.0", "9" * 19)] == [7, None, None, None, None]


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def read_coco_with(root: Path, word: str) -> list[AnnotationIssue]:
    write_image(root / "a.png")
    image = {"id": 1, "file_name": "a.png", "height": 80, "width": 100}
    box = {"id": 5, "image_id": 1, "category_id": 1, "bbox": [word, 10, 20, 20], "area": 400, "iscrowd": 0}
    data = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "x"}]}
    return read_coco(str(put(root / "a.json", json.dumps(data))), str(root)).issues


def read_kitti_with(root: Path, word: str) -> list[AnnotationIssue]:
    write_image(root / "image_2/1.png", 1242, 375)
    put(root / "calib/1.txt", "P2: 707.0 0 604.0 45.7 0 707.0 180.5 -0.3 0 0 1 0.005\n")
    put(root / "label_2/1.txt", f"Car 0 1 -1.67 642 178 680 208 1.38 1.49 {word} 2.41 1.66 34.98 -1.60\n")
    return read_kitti(NamedFiles(root), {name: name for name in ("image_2", "label_2", "calib")}, "1").issues


def read_voc_with(root: Path, word: str) -> list[AnnotationIssue]:
    box = f"<xmin>{word}</xmin><ymin>1</ymin><xmax>20</xmax><ymax>20</ymax>"
    text = f"<annotation><object><name>x</name><bndbox>{box}</bndbox></object></annotation>"
    return read_voc_xml(str(put(root / "a.xml", text)))[1]


def read_pts_with(root: Path, word: str) -> list[AnnotationIssue]:
    text = pts_text(face_points()).replace("{\n", "{\nX", 1)
    return read_pts(put(root / "a.pts", text.replace(text[text.index("X") :].split()[0], word, 1)), 68)[1]


def read_dlib_with(root: Path, word: str) -> list[AnnotationIssue]:
    write_image(root / "a.png")
    parts = "".join(f"<part name='{k:02d}' x='{word if k == 5 else k}' y='{k}'/>" for k in range(68))
    image = f"<image file='a.png'><box top='1' left='2' width='3' height='4'>{parts}</box></image>"
    text = f"<?xml version='1.0' encoding='utf-8'?><dataset><images>{image}</images></dataset>"
    return convert_dlib_xml(put(root / "a.xml", text), root / "a.json").issues


def read_mot_with(root: Path, word: str) -> list[AnnotationIssue]:
    put(root / "v/seqinfo.ini", "[Sequence]\nseqLength=5\n")
    put(root / "v/gt/gt.txt", f"1,3,11,{word.replace(',', ';')},30,40,1,1,0.8\n")
    return read_video(root, "v", annotated=True).issues


def read_wider_with(root: Path, word: str) -> list[AnnotationIssue]:
    write_image(root / "WIDER_val/images/e/a.jpg")
    row = f"44 {word} 12 14 0 0 0 0 0 0\n"
    put(root / "wider_face_split/wider_face_val_bbx_gt.txt", f"e/a.jpg\n1\n{row}")
    (summary,) = convert_wider_face(root)
    return summary.issues


def read_labels_with(root: Path, file: str, text: str) -> list[AnnotationIssue]:
    write_image(root / "a.png")
    put(root / file, text)
    return read_labels(root).issues


def read_yolo_with(root: Path, word: str) -> list[AnnotationIssue]:
    put(root / "classes.txt", "x\n")
    write_image(root / "images/a.png")
    return read_labels_with(root, "labels/a.txt", f"0 0.5 {word} 0.2 0.2\n")


def read_cvat_with(root: Path, word: str) -> list[AnnotationIssue]:
    box = f'<box label="x" xtl="{word}" ytl="1" xbr="20" ybr="20"/>'
    image = f'<image id="0" name="a.png" width="100" height="80">{box}</image>'
    return read_labels_with(root, "annotations.xml", f"<annotations>{image}</annotations>")


def read_cvat_frame_with(root: Path, word: str) -> list[AnnotationIssue]:
    box = f'<box frame="{word}" outside="0" xtl="1" ytl="1" xbr="20" ybr="20"/>'
    size = "<meta><task><original_size><width>100</width><height>80</height></original_size></task></meta>"
    track = f'<track id="3" label="x">{box}</track>'
    return read_labels_with(root, "annotations.xml", f"<annotations>{size}{track}</annotations>")


def read_labelme_with(root: Path, word: str) -> list[AnnotationIssue]:
    shape = {"label": "x", "shape_type": "rectangle", "points": [[word, 1], [20, 20]]}
    data = {"shapes": [shape], "imagePath": "a.png", "imageHeight": 80, "imageWidth": 100}
    return read_labels_with(root, "a.json", json.dumps(data))


#: Reader -> (the file, the record or None, the field) that its issue names.
READERS: dict[Callable[[Path, str], list[AnnotationIssue]], tuple[str, object, str]] = {
    read_coco_with: ("a.png", 5, "bbox"),
    read_kitti_with: ("label_2/1.txt", 1, "length"),
    read_voc_with: ("a.xml", 1, "bndbox/xmin"),
    read_pts_with: ("a.pts", None, "points"),
    read_dlib_with: ("a.png", 1, "points"),
    read_mot_with: ("v/gt/gt.txt", 1, "bbox"),
    read_wider_with: ("wider_face_val_bbx_gt.txt", 3, "bbox"),
    read_yolo_with: ("a.txt", 1, "line"),
    read_cvat_with: ("annotations.xml", "image a.png, shape 1", "xtl"),
    read_cvat_frame_with: ("annotations.xml", "track 3", "frame"),
    read_labelme_with: ("a.json", 1, "points"),
}


@pytest.mark.parametrize("read", READERS, ids=lambda x: x.__name__.removeprefix("read_").removesuffix("_with"))
def test_every_reader_names_file_record_and_field(read, tmp_path):
    for number, word in enumerate(WRONG):
        if not word and read in (read_kitti_with, read_wider_with, read_yolo_with):
            continue  # a word less on the line
        (issue,) = read(tmp_path / str(number), word)
        file, record, field = READERS[read]
        assert issue.file.endswith(file) and (issue.annotation_id, issue.field) == (record, field), (word, issue)
    good = tmp_path / "good"
    assert read(good, "0.5" if read == read_yolo_with else "1") == []
