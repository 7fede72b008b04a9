"""Every label format written and read back, registered as a dataset, and edited on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from centernet_d2.cli import convert_labels
from centernet_d2.data.catalog import load_dataset_dicts
from centernet_d2.data.datasets.custom import register_custom_datasets
from centernet_d2.data.formats.labels import FORMATS, read_labels, recognize_format
from centernet_d2.data.validation.issues import AnnotationError
from tests.helpers.labels import CAT_BOX, HEIGHT, WIDTH, describe, draw, list_found, make_set, put
from tests.helpers.tiny import tiny_cfg


@pytest.mark.parametrize("kind", ["boxes", "outlines", "keypoints"])
@pytest.mark.parametrize("name", FORMATS)
def test_what_is_written_is_read_back(tmp_path, name, kind):
    if name == "voc_folder" and kind != "boxes":
        pytest.skip("Pascal VOC has boxes only")
    if name == "dota":
        pytest.skip("DOTA has rectangles only: test_oriented_labels.py")
    ours = make_set(tmp_path / "a", kind == "keypoints", kind == "outlines")
    FORMATS[name].write(ours, tmp_path / "b")
    assert recognize_format(tmp_path / "b") == name
    theirs = read_labels(tmp_path / "b")
    expected = list_found(ours)
    if name == "cvat" and kind == "keypoints":  # a skeleton has no box
        expected = [(*one[:2], (0, 0, 0, 0), *one[3:]) for one in expected]
    if name == "labelme":  # and this no visibility
        expected = [(*one[:4], {k: (x, y, 2) for k, (x, y, _) in one[4].items()}) for one in expected]
    assert not theirs.issues and list_found(theirs) == expected
    splits = {Path(image["file_name"]).name: image.get("split") for image in theirs.data["images"]}
    assert splits == {f"bild {k} ü.png": ("train", "train", "val")[k] for k in range(3)}


def test_rotated_photos_have_their_upright_size(tmp_path):
    path = tmp_path / "images/a.jpg"
    path.parent.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # shown rotated by 90 degrees
    Image.new("RGB", (HEIGHT, WIDTH)).save(path, exif=exif)
    put(tmp_path / "labels/a.txt", "0 0.3 0.35 0.4 0.5")
    put(tmp_path / "classes.txt", "cat")
    labels = read_labels(tmp_path)
    assert describe(tmp_path, labels) == ("yolo", [], [("a.jpg", *CAT_BOX[1:])])
    assert (labels.data["images"][0]["width"], labels.data["images"][0]["height"]) == (WIDTH, HEIGHT)


def test_empty_and_absent_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_labels(tmp_path / "nowhere")
    with pytest.raises(AnnotationError, match="none of the label formats"):
        read_labels(tmp_path)
    put(tmp_path / "x/a.json", {"imagePath": "gone.png", "shapes": []})
    put(tmp_path / "x/b.json", "")
    issues = [str(issue) for issue in read_labels(tmp_path / "x").issues]
    assert "gone.png, image: " in issues[0] and "b.json, file: is not JSON" in issues[1]


def test_a_custom_dataset_names_the_format_or_auto(tmp_path):
    ours = make_set(tmp_path / "a", True, False)
    FORMATS["yolo"].write(ours, tmp_path / "b")
    cfg = tiny_cfg()
    cfg.DATASETS.CUSTOM = [
        [f"labels_{kind}_{split}", kind, str(tmp_path / "b"), split]
        for kind in ("auto", "yolo")
        for split in ("val", "all")
    ]
    register_custom_datasets(cfg)
    for kind in ("auto", "yolo"):
        (dataset_dict,) = load_dataset_dicts(f"labels_{kind}_val")
        one, two = dataset_dict["annotations"]
        assert one["bbox"] == pytest.approx([0.25, 5.5, 40, 30.125]) and two["category_id"] == 1
        # Three classes have these keypoints each; those of the second come after those of the first.
        assert two["keypoints"][6:9] == pytest.approx([30 / 4 + 10.25, 20 / 4 + 5.5, 2]) and not any(
            two["keypoints"][:6]
        )
        assert len(load_dataset_dicts(f"labels_{kind}_all")) == 3
    cfg.DATASETS.CUSTOM = [["labels_nowhere", "auto", str(tmp_path / "b"), "test"]]
    register_custom_datasets(cfg)
    with pytest.raises(AnnotationError, match="no split 'test': it has train, val"):
        load_dataset_dicts("labels_nowhere")


def test_classes_and_splits_are_edited_on_the_command_line(tmp_path, capsys):
    folder = tmp_path / "a"
    for number in range(40):
        cv2.imwrite(str(draw(folder / f"video{number // 4}_{number}.png")), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        shapes = [{"label": x, "points": [[1, 1], [9, 9]], "shape_type": "rectangle"} for x in ("cat", "dog", "car")]
        data = {"imagePath": f"video{number // 4}_{number}.png", "imageHeight": HEIGHT, "imageWidth": WIDTH}
        put(folder / f"video{number // 4}_{number}.json", {**data, "shapes": shapes})
    options = ["--rename", "cat=animal", "--rename", "dog=animal", "--ignore", "car", "--val", "0.3"]
    for output in ("one", "two"):
        status = convert_labels.main([str(folder), str(tmp_path / output), *options, "--group", "(video[0-9]+)_"])
        assert status == 0
    assert "40 images, 80 objects, 1 classes" in capsys.readouterr().out
    files = {split: json.loads((tmp_path / f"one/{split}.json").read_text()) for split in ("train", "val")}
    groups = {s: {Path(i["file_name"]).name.split("_")[0] for i in data["images"]} for s, data in files.items()}
    assert groups["train"] and groups["val"] and not groups["train"] & groups["val"]
    assert sum(len(data["images"]) for data in files.values()) == 40
    for split in ("train", "val"):
        assert (tmp_path / f"one/{split}.json").read_text() == (tmp_path / f"two/{split}.json").read_text()
    assert convert_labels.main([str(folder), str(tmp_path / "three"), "--rename", "lion=cat"]) == 1
    assert "there is no class lion: the classes are car, cat, dog" in capsys.readouterr().err
