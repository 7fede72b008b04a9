"""dlib's XML: the real file, and files that are corrupt or mean harm."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from centernet_d2.data.preparation.dlib_faces import convert_dlib_xml
from tests.helpers.files import face_points, images_and_points, load, write_image


def _box(points: np.ndarray, first: int = 0) -> str:
    parts = (f"<part name='{k:02d}' x='{x}' y='{y}'/>" for k, (x, y) in enumerate(points, start=first))
    return f"<box top='1' left='2' width='3' height='4'>{''.join(parts)}</box>"


def _write(path: Path, *images: str, head: str = "") -> Path:
    path.write_text(f"<?xml version='1.0'?>{head}<dataset><images>{''.join(images)}</images></dataset>")
    return path


def test_the_real_file(shared_data: Path, tmp_path: Path) -> None:
    shutil.copytree(shared_data / "dlib_faces", tmp_path / "faces", copy_function=shutil.copyfile)
    xml_file = tmp_path / "faces/training_with_face_landmarks.xml"
    (tmp_path / "faces").chmod(0o755)
    summary = convert_dlib_xml(xml_file, tmp_path / "faces/train.json")
    assert (summary.images, summary.objects, summary.issues) == (4, 18, [])
    found = images_and_points(summary.json_file)
    for image in ElementTree.parse(xml_file).getroot().iter("image"):
        faces = [[(int(p.get("x", "")), int(p.get("y", "")), 2) for p in box.iter("part")] for box in image.iter("box")]
        np.testing.assert_array_equal(found[image.get("file", "")], faces)
    dataset_dicts = load(summary.json_file, tmp_path / "faces", "face68")
    assert [len(dataset_dict["annotations"]) for dataset_dict in dataset_dicts] == [
        len(faces) for faces in found.values()
    ]
    first = summary.json_file.read_bytes()
    convert_dlib_xml(xml_file, summary.json_file)
    assert summary.json_file.read_bytes() == first


def test_corrupt_faces_are_named_and_the_rest_is_converted(tmp_path: Path) -> None:
    good = face_points().round()
    for name in ("a.jpg", "b.jpg", "none.jpg"):
        write_image(tmp_path / name)
    corrupt = good.copy().astype(object)
    corrupt[5, 1] = "north"
    boxes = [_box(good), _box(good[:67]), _box(good, first=1), _box(corrupt), _box(good + 500), _box(good[:0])]
    xml_file = _write(
        tmp_path / "a.xml",
        f"<image file='a.jpg'>{''.join(boxes)}</image>",
        f"<image file='b.jpg'>{_box(good[:5])}</image>",
        f"<image file='absent.jpg'>{_box(good)}</image>",
        f"<image file='..\\climbed.jpg'>{_box(good)}</image>",
        f"<image>{_box(good)}</image>",
        "<image file='none.jpg'/>",
    )
    summary = convert_dlib_xml(xml_file, tmp_path / "a.json")
    shown = ", ".join(f"{k:02d}" for k in range(68))
    assert [str(issue) for issue in summary.issues] == [
        f"a.jpg, annotation 2, box: has the 67 parts {shown[:40]}, not 0 to 67",
        f"a.jpg, annotation 3, box: has the 68 parts {shown[4:44]}, not 0 to 67",
        "a.jpg, annotation 6, box: has the 0 parts (none), not 0 to 67",
        "a.jpg, annotation 4, points: have a value that is not a finite number",
        *[issue for issue in map(str, summary.issues) if "far outside the 100x80 image" in issue],
        "b.jpg, annotation 1, box: has the 5 parts 00, 01, 02, 03, 04, not 0 to 67",
        f"{tmp_path}/absent.jpg, image: the file does not exist",
        f"../climbed.jpg, image: leads out of the folder {tmp_path}",
        f"{xml_file}, image: number 5 has no file",
    ]
    content = json.loads((tmp_path / "a.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["a.jpg", "none.jpg"]
    assert [entry["image_id"] for entry in content["annotations"]] == [1]


def test_entities_are_refused(tmp_path: Path) -> None:
    image = "<image file='&big;'/>"
    bomb = "<!DOCTYPE d [<!ENTITY lol 'lol'><!ENTITY big '&lol;&lol;&lol;'>]>"
    for head in (bomb, "<!DOCTYPE d [<!ENTITY big SYSTEM 'file:///etc/hostname'>]>", "<!DOCTYPE d SYSTEM 'd.dtd'>"):
        with pytest.raises(ValueError, match=r"a\.xml has a document type"):
            convert_dlib_xml(_write(tmp_path / "a.xml", image, head=head), tmp_path / "a.json")


def test_files_that_are_not_imglab_s(tmp_path: Path) -> None:
    for text, problem in (("", "is not XML"), ("<dataset>", "is not XML"), ("<dataset/>", "lists no images")):
        (tmp_path / "a.xml").write_text(text)
        with pytest.raises(ValueError, match=problem):
            convert_dlib_xml(tmp_path / "a.xml", tmp_path / "a.json")
