"""Files as users and their tools write them: names, encodings, types, rotated photos, and absent ones."""

from __future__ import annotations

import json
import logging
import unicodedata
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances
from PIL import Image

from centernet_d2.config import get_cfg
from centernet_d2.data.catalog import load_dataset_dicts
from centernet_d2.data.corrupt_images import TooManyCorruptError
from centernet_d2.data.datasets.coco import read_coco
from centernet_d2.data.datasets.custom import register_custom_datasets, resolve_paths
from centernet_d2.data.datasets.voc import read_voc
from centernet_d2.data.formats.text import NotTextError, read_lines, read_text
from centernet_d2.data.image_io import CorruptImageError, read_image, set_exif_orientation
from centernet_d2.data.validation.checks import check_headers
from centernet_d2.data.validation.headers import HeaderReader
from centernet_d2.data.validation.issues import AnnotationError
from centernet_d2.data.validation.missing import explain_missing
from centernet_d2.evaluation.build import build_evaluator, check_evaluators


def _voc(root: Path, lines: str, *names: str) -> Path:
    for name in names:
        for folder, suffix in (("Annotations", ".xml"), ("JPEGImages", ".jpg")):
            (root / folder / f"{name}{suffix}").parent.mkdir(parents=True, exist_ok=True)
        size = "<size><width>8</width><height>6</height></size>"
        (root / f"Annotations/{name}.xml").write_text(f"<annotation>{size}</annotation>")
        Image.new("RGB", (8, 6)).save(root / f"JPEGImages/{name}.jpg")
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_bytes(lines.encode())
    return root


@pytest.mark.parametrize(
    ("lines", "there", "read"),
    [
        ("leaf (1)\nleaf (2)\n", ("leaf", "leaf (1)", "leaf (2)"), ["leaf (1)", "leaf (2)"]),
        ("leaf  1\r\nberry -1\r\n", ("leaf", "berry"), ["leaf", "berry"]),
        ("leaf 1\nleaf 0\n", ("leaf", "leaf 1", "leaf 0"), ["leaf 1", "leaf 0"]),
        ("\ufeffleaf\n", ("leaf",), ["leaf"]),
        ("sub/in side\n", ("sub/in side",), ["sub/in side"]),
    ],
)
def test_lines_of_a_voc_list_are_names(tmp_path: Path, lines: str, there: tuple[str, ...], read: list[str]) -> None:
    dataset_dicts, issues = read_voc(str(_voc(tmp_path, lines, *there)), "train", ["leaf"])
    assert issues == [] and [dataset_dict["image_id"] for dataset_dict in dataset_dicts] == read
    assert [dataset_dict["file_name"] for dataset_dict in dataset_dicts] == [
        f"{tmp_path}/JPEGImages/{name}.jpg" for name in read
    ]


def test_a_voc_line_that_means_two_things_is_a_error(tmp_path: Path) -> None:
    root = _voc(tmp_path, "leaf 1\nberry -1\n", "leaf", "leaf 1", "berry")
    (issue,) = read_voc(str(root), "train", [])[1]
    assert "'leaf 1', which may be" in issue.problem


def test_labels_beside_images_are_not_images(tmp_path: Path) -> None:
    root = _voc(tmp_path, "a\n", "a")
    for suffix in (".xml", ".txt", ".json", ".TXT"):
        (root / f"JPEGImages/a{suffix}").write_text("x")
    assert read_voc(str(root), "train", [])[0][0]["file_name"].endswith("a.jpg")


def test_text_in_the_encodings_of_windows(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        path.write_bytes("é\r\nb\u2028c\r\n".encode(encoding))
        assert read_lines(path) == ["é", "b\u2028c"]
    for content, said in (("é".encode("latin-1"), "Latin-1"), ("ab".encode("utf-16-le"), "UTF-16")):
        path.write_bytes(content)
        with pytest.raises(NotTextError, match=rf"a\.txt .*{said}"):
            read_text(path)


@pytest.mark.parametrize(
    ("there", "wanted", "said"),
    [
        ("a/b.png", "a\\b.png", "write / in place"),
        ("a.JPG", "a.jpg", "'a.JPG', which differs in upper and lower case"),
        ("a.png", "a.jpg", "'a.png', with another suffix"),
        (unicodedata.normalize("NFD", "é.png"), unicodedata.normalize("NFC", "é.png"), "Unicode form, decomposed"),
        ("a.png", "https://x.org/a.png", "is a URL"),
        ("a.png", "images/a.png", "a.png' is there"),
        ("images/a.png", "a.png", "images/a.png', in another folder"),
    ],
)
def test_what_is_there_instead(tmp_path: Path, there: str, wanted: str, said: str) -> None:
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).write_text("")
    assert said in explain_missing(str(tmp_path / wanted))
    assert explain_missing(str(tmp_path / "quite-else")) == "does not exist"


def _coco(folder: Path, **image: Any) -> Path:
    entry = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4], "area": 16, "iscrowd": 0}
    data = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 6, "width": 8, **image}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [entry],
    }
    path = folder / f"{uuid.uuid4().hex}.json"
    path.write_text(json.dumps(data), encoding="utf-8-sig")
    return path


def test_types_of_exporters_are_read_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = _coco(tmp_path, id="1", height=6.0, width="8")
    data = json.loads(read_text(path))
    changed = {**data["annotations"][0], "iscrowd": None, "bbox": ["1", 1, 4, "4.5"]}
    data["annotations"] = [{**changed, "id": number} for number in (1, 2)]
    path.write_text(json.dumps(data))
    with caplog.at_level(logging.WARNING, "centernet_d2"):
        coco = read_coco(str(path), str(tmp_path))
    (dataset_dict,) = coco.dataset_dicts
    assert (dataset_dict["image_id"], dataset_dict["height"], dataset_dict["width"], coco.issues) == (1, 6, 8, [])
    assert [(a["bbox"], a["iscrowd"]) for a in dataset_dict["annotations"]] == [([1, 1, 4, 4.5], 0)] * 2
    assert caplog.text.count("iscrowd of annotations is null, read as 0 (2 times)") == 1
    assert not coco.scores_itself


def test_absolute_names_are_taken_as_they_are(tmp_path: Path) -> None:
    path = _coco(tmp_path, file_name=str(tmp_path / "b.jpg"))
    assert read_coco(str(path), "elsewhere").dataset_dicts[0]["file_name"] == str(tmp_path / "b.jpg")


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sets").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DETECTRON2_DATASETS", "sets")
    assert resolve_paths("a.json", "images") == ("sets/a.json", "sets/images")
    (tmp_path / "a.json").write_text("")
    assert resolve_paths("a.json", "images") == ("a.json", "images")
    assert resolve_paths("/x/a.json", "images") == ("/x/a.json", "sets/images")


def _cfg(folder: Path, train: Path, test: Path | None = None) -> CfgNode:
    cfg, names = get_cfg(), [f"files_{uuid.uuid4().hex}" for _ in range(2)]
    cfg.DATASETS.CUSTOM = [
        [name, "coco", str(path), str(folder)] for name, path in zip(names, (train, test), strict=True) if path
    ]
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (names[0],), (names[1],) if test else ()
    cfg.OUTPUT_DIR = str(folder / "out")
    register_custom_datasets(cfg)
    return cfg


def _rotated(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 6)).save(path, exif=exif)


def test_a_rotated_photo_is_known_before_training(tmp_path: Path) -> None:
    _rotated(tmp_path / "a.jpg")
    sound, unrotated = _coco(tmp_path, height=8, width=6), _coco(tmp_path)
    check_headers(_cfg(tmp_path, sound))
    with pytest.raises(TooManyCorruptError, match="EXIF"):
        check_headers(_cfg(tmp_path, unrotated))
    with pytest.raises(AnnotationError, match=r"a\.jpg, image: .*EXIF orientation \(6\).*INPUT.EXIF_ORIENTATION"):
        check_headers(_cfg(tmp_path, sound, unrotated))


def test_the_switch_holds_for_the_dataset_dicts(tmp_path: Path) -> None:
    _rotated(tmp_path / "a.jpg")
    cfg = _cfg(tmp_path, _coco(tmp_path))
    cfg.INPUT.EXIF_ORIENTATION = False
    try:
        register_custom_datasets(cfg)
        check_headers(cfg)
        (dataset_dict,) = load_dataset_dicts(cfg.DATASETS.TRAIN[0])
    finally:
        set_exif_orientation(True)
    assert read_image(dataset_dict).shape == (6, 8, 3)
    with pytest.raises(CorruptImageError, match="EXIF"):
        read_image({**dataset_dict, "exif_orientation": True})


def test_headers_are_kept_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / "a.png")
    reader = HeaderReader(str(tmp_path))
    assert reader.read(str(tmp_path / "a.png")) == (6, 8, 0)
    reader.save()
    with monkeypatch.context() as patch:
        patch.setattr("centernet_d2.data.validation.headers.read_header", lambda _: pytest.fail("read again"))
        assert HeaderReader(str(tmp_path)).read(str(tmp_path / "a.png")) == (6, 8, 0)
    Image.fromarray(np.zeros((16, 18, 3), np.uint8)).save(tmp_path / "a.png")
    assert HeaderReader(str(tmp_path)).read(str(tmp_path / "a.png")) == (16, 18, 0)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_evaluation_reads_the_encodings_that_training_reads(tmp_path: Path, encoding: str) -> None:
    """The labels themselves as predictions; pycocotools stops at a byte-order mark."""
    path = _coco(tmp_path)
    path.write_text(read_text(path), encoding=encoding)
    cfg = _cfg(tmp_path, path, path)
    check_evaluators(cfg)
    (name,) = cfg.DATASETS.TEST
    (dataset_dict,) = load_dataset_dicts(name)
    found = Instances((6, 8))
    found.pred_boxes, found.scores = Boxes(torch.tensor([[1.0, 1, 5, 5]])), torch.ones(1)
    found.pred_classes = torch.zeros(1, dtype=torch.int64)
    evaluator = build_evaluator(cfg, name)
    evaluator.reset()
    evaluator.process([dataset_dict], [{"instances": found}])
    assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(100)
