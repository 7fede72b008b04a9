"""SHWD in a folder built here, as the archive has it."""

from __future__ import annotations

import logging
import uuid
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from centernet_d2.data.datasets.shwd import CLASS_NAMES, load_shwd
from centernet_d2.data.validation.issues import AnnotationError


def element(name: str, xmin: object, difficult: int = 0) -> str:
    corners = f"<xmin>{xmin}</xmin><ymin>2</ymin><xmax>30</xmax><ymax>20</ymax>"
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{corners}</bndbox></object>"


def write(root: Path, *objects: str) -> Path:
    """Two images, one of them with the suffix .JPG, as some of the published are."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/Main/test.txt").write_text("000377\nPartA_1\n")
    for stem, suffix, content in (("000377", "jpg", "".join(objects)), ("PartA_1", "JPG", element("person", 3, 1))):
        Image.new("RGB", (60, 40)).save(root / f"JPEGImages/{stem}.{suffix}", format="JPEG")
        size = "<size><width>60</width><height>40</height></size>"
        (root / f"Annotations/{stem}.xml").write_text(f"<annotation>{size}{content}</annotation>")
    return root


def test_two_classes_and_no_dogs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write(tmp_path / "VOC2028", element("hat", 1), element("dog", 5), element("person", 9))
    with caplog.at_level(logging.WARNING, logger="centernet_d2"):
        dataset_dicts = load_shwd(f"test_shwd_{uuid.uuid4().hex}", str(root), "test")
    xml = root / "Annotations/000377.xml"
    assert caplog.messages == [f"Dropped: {xml}, annotation 2, name: is 'dog', none of hat, person"]
    assert [dataset_dict["file_name"] for dataset_dict in dataset_dicts] == [
        str(root / "JPEGImages" / name) for name in ("000377.jpg", "PartA_1.JPG")
    ]
    found = [
        [(a["category_id"], a["bbox"], a["iscrowd"]) for a in dataset_dict["annotations"]]
        for dataset_dict in dataset_dicts
    ]
    assert found == [[(0, [0, 1, 30, 20], 0), (1, [8, 1, 30, 20], 0)], [(1, [2, 1, 30, 20], 1)]]
    assert [dataset_dict["image_id"] for dataset_dict in dataset_dicts] == [0, 1]


def test_other_errors_stop(tmp_path: Path) -> None:
    root = write(tmp_path, element("dog", 5), element("hat", "x"))
    with pytest.raises(AnnotationError, match=r"1 errors.*\n.*000377\.xml, annotation 2, bndbox/xmin: is 'x'"):
        load_shwd(f"test_shwd_{uuid.uuid4().hex}", str(root), "test")


def test_registered() -> None:
    for split in ("trainval", "test"):
        assert f"shwd_{split}" in DatasetCatalog
        metadata = MetadataCatalog.get(f"shwd_{split}")
        assert metadata.thing_classes == list(CLASS_NAMES) and metadata.evaluator_type == "pascal_voc"
