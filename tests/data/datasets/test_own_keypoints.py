"""Keypoints that a COCO file names itself."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from detectron2.data import MetadataCatalog

from centernet_d2.cli import check_data
from centernet_d2.config.resolution import resolve
from centernet_d2.data.build import build_train_loader
from centernet_d2.data.catalog import load_dataset_dicts
from centernet_d2.data.datasets.custom import register_custom_datasets
from centernet_d2.data.validation.checks import check_quick
from centernet_d2.data.validation.issues import AnnotationError
from centernet_d2.engine.setup import setup_cfg
from centernet_d2.structures.keypoint_schema import DEFAULT_SIGMA, get_schema
from tests.helpers.tiny import tiny_cfg

NAME = "own_keypoints_for_a_test"
CAT = {"id": 4, "name": "cat", "keypoints": ["left_ear", "right_ear", "tail"], "skeleton": [[1, 2], [2, 3]]}
HAMMER = {"id": 9, "name": "hammer", "keypoints": ["head", "tail"], "skeleton": [[1, 2]]}


def write(folder: Path, annotations, categories=(CAT,)) -> str:
    image = {"id": 1, "file_name": "a.png", "height": 100, "width": 120}
    data = {"images": [image], "categories": list(categories), "annotations": annotations}
    (folder / "a.json").write_text(json.dumps(data))
    cv2.imwrite(str(folder / "a.png"), np.full((100, 120, 3), 99, np.uint8))
    return str(folder / "a.json")


def annotate(number=1, category=4, points=(10, 20, 2, 30, 20, 1, 20, 60, 2), **changes) -> dict:
    entry = {"id": number, "image_id": 1, "category_id": category, "bbox": [5, 6, 40, 70], "keypoints": list(points)}
    entry |= {"area": 2000, "iscrowd": 0, "num_keypoints": 3, **changes}
    return {key: value for key, value in entry.items() if value is not None}


def configure(folder: Path, *opts):
    cfg = tiny_cfg("MODEL.CENTERNET.TASK", "KeypointRegressionTask", "MODEL.CENTERNET.NUM_CLASSES", 0, *opts)
    cfg.DATASETS.CUSTOM = [[NAME, "coco", str(folder / "a.json"), str(folder)]]
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (NAME,)
    return cfg


def resolve_own(folder: Path, *opts):
    return resolve(configure(folder, *opts))


def test_the_schema_is_that_of_the_file(tmp_path):
    write(tmp_path, [annotate()])
    cfg = resolve_own(tmp_path)
    schema = get_schema(cfg.MODEL.KEYPOINT.SCHEMA)
    assert schema.names == ("left_ear", "right_ear", "tail") and schema.class_names == ("cat",)
    assert schema.flip_pairs == ((0, 1),) and schema.chains == ((0, 1), (1, 2)) and schema.can_flip
    assert schema.sigmas == (DEFAULT_SIGMA,) * 3
    assert cfg.INPUT.AFFINE.FLIP_PROB == 0.5
    (dataset_dict,) = load_dataset_dicts(NAME)
    assert dataset_dict["annotations"][0]["keypoints"] == [10.5, 20.5, 2, 30.5, 20.5, 1, 20.5, 60.5, 2]
    assert MetadataCatalog.get(NAME).json_file == str(tmp_path / "a.json")


def test_a_config_carries_the_schema_without_the_files(tmp_path):
    write(tmp_path, [annotate()])
    cfg = resolve_own(tmp_path)
    (tmp_path / "config.yaml").write_text(cfg.dump())
    (tmp_path / "a.json").unlink()
    again = setup_cfg(str(tmp_path / "config.yaml"))
    assert again.MODEL.KEYPOINT.SCHEMA == cfg.MODEL.KEYPOINT.SCHEMA
    assert get_schema(again.MODEL.KEYPOINT.SCHEMA).names[2] == "tail"


def test_classes_have_keypoints_of_their_own(tmp_path):
    """Also one without any, as Roboflow's files have; a name of two classes is two keypoints."""
    nothing = {"id": 1, "name": "objects", "supercategory": "none"}
    hammer = annotate(2, 9, (50, 50, 2, 80, 50, 1), num_keypoints=2)
    plain = annotate(3, 1, keypoints=None, num_keypoints=None)
    write(tmp_path, [annotate(), hammer, plain], [CAT, HAMMER, nothing])
    schema = get_schema(resolve_own(tmp_path).MODEL.KEYPOINT.SCHEMA)
    assert schema.names == ("left_ear", "right_ear", "cat.tail", "head", "hammer.tail")
    assert schema.class_names == ("objects", "cat", "hammer") and schema.ranges == ((0, 0), (0, 3), (3, 5))
    cat, hammer, plain = load_dataset_dicts(NAME)[0]["annotations"]
    assert cat["keypoints"] == [10.5, 20.5, 2, 30.5, 20.5, 1, 20.5, 60.5, 2, *[0] * 6]
    assert hammer["keypoints"] == [*[0] * 9, 50.5, 50.5, 2, 80.5, 50.5, 1] and plain["keypoints"] == [0] * 15
    assert MetadataCatalog.get(NAME).get("json_file") is None  # pycocotools would miss keypoints there


@pytest.mark.parametrize(
    ("categories", "opts", "flips", "pairs"),
    [
        ([HAMMER], (), False, ()),
        ([HAMMER], ("DATASETS.KEYPOINTS.FLIP", "always"), True, ()),
        ([HAMMER], ("DATASETS.KEYPOINTS.FLIP_PAIRS", [["head", "tail"]]), True, ((0, 1),)),
        ([{**HAMMER, "keypoints": ["left_eye", "nose"]}], (), False, ()),
        ([{**HAMMER, "keypoints": ["tip"], "skeleton": []}], (), True, ()),
    ],
)
def test_images_are_flipped_only_if_that_is_right(tmp_path, categories, opts, flips, pairs):
    count = len(categories[0]["keypoints"])
    write(tmp_path, [annotate(1, 9, (50, 50, 2, 80, 50, 1)[: 3 * count], num_keypoints=count)], categories)
    cfg = resolve_own(tmp_path, *opts)
    assert get_schema(cfg.MODEL.KEYPOINT.SCHEMA).flip_pairs == pairs
    assert (cfg.INPUT.AFFINE.FLIP_PROB > 0) is flips and cfg.TEST.AUG.FLIP is flips


def test_a_flipped_image_has_the_keypoints_exchanged(tmp_path):
    write(tmp_path, [annotate()])
    cfg = resolve_own(tmp_path, "INPUT.AFFINE.FLIP_PROB", 1.0, "INPUT.AFFINE.MODE", "none", "DATALOADER.NUM_WORKERS", 0)
    sample = next(iter(build_train_loader(cfg)))[0]["instances"]
    points = sample.gt_keypoints.tensor[0]
    scale = 64 / 120
    assert points[0, 0].item() == pytest.approx((120 - 30.5) * scale, abs=1e-3)  # the left ear was the right one
    assert points[1, 0].item() == pytest.approx((120 - 10.5) * scale, abs=1e-3)
    assert points[0, 2] == 1 and points[1, 2] == 2


def test_visibility_may_be_absent(tmp_path, caplog):
    flat = annotate(1, points=(10, 20, 30, 20, 0, 0))
    nested = annotate(2, points=([10, 20], [30, 20], [20, 60]))
    triples = annotate(3, points=([10, 20, 1], [30, 20, 2], [0, 0, 0]))
    write(tmp_path, [flat, nested, triples])
    register_custom_datasets(configure(tmp_path))
    one, two, three = (a["keypoints"][2::3] for a in load_dataset_dicts(NAME)[0]["annotations"])
    assert one == [2, 2, 0] and two == [2, 2, 2] and three == [1, 2, 0]
    assert "without visibility" in caplog.text


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ((10, 20, 2, 30, 20, 2), "annotation 1, keypoints: are 2 points, but the category has 3"),
        ((10, 20, 2) * 4, "annotation 1, keypoints: are 4 points, but the category has 3"),
        ((10, 20, 3) * 3, "annotation 1, keypoints: have a visibility other than 0, 1 or 2"),
        ((10, 20, 2, 5), "annotation 1, keypoints: is .*not triples"),
        ((10, None, 2) * 3, "annotation 1, keypoints: have a value that is not a finite number"),
    ],
)
def test_other_keypoints_are_refused_by_annotation(tmp_path, points, message):
    write(tmp_path, [annotate(points=points)])
    with pytest.raises(AnnotationError, match=f"a.png, {message}"):
        resolve_own(tmp_path)


def test_categories_that_name_a_keypoint_twice_are_refused(tmp_path):
    write(tmp_path, [annotate()], [{**CAT, "keypoints": ["ear", "ear", "tail"]}])
    with pytest.raises(AnnotationError, match=r"a.json, categories: cat names the keypoint 'ear' 2 times"):
        resolve_own(tmp_path)
    write(tmp_path, [annotate()], [{**CAT, "keypoints": []}])
    with pytest.raises(ValueError, match='the categories of its file name no "keypoints"'):
        resolve_own(tmp_path)


def test_missing_boxes_are_those_of_the_keypoints_with_a_margin(tmp_path):
    write(tmp_path, [annotate(bbox=None, points=(10, 20, 2, 30, 20, 1, 90, 90, 0))])
    register_custom_datasets(configure(tmp_path, "DATASETS.KEYPOINTS.BOX_MARGIN", 0.25))
    box = load_dataset_dicts(NAME)[0]["annotations"][0]["bbox"]
    assert box == [10.5 - 5, 20.5 - 5, 20 + 10, 10]  # the longer side is 20 pixels; both points at one height
    write(tmp_path, [annotate(bbox=None, points=(10, 20, 2, 0, 0, 0, 90, 90, 0))])
    register_custom_datasets(configure(tmp_path))
    with pytest.raises(AnnotationError, match=r"a.png, annotation 1, bbox: is missing"):
        load_dataset_dicts(NAME)  # one keypoint spans no box


def test_two_sets_must_have_the_same_keypoints(tmp_path):
    write(tmp_path, [annotate()])
    (tmp_path / "b").mkdir()
    other = {**CAT, "keypoints": ["right_ear", "left_ear", "tail"]}
    write(tmp_path / "b", [annotate()], [other])
    cfg = configure(tmp_path)
    cfg.DATASETS.CUSTOM += [["own_keypoints_of_another", "coco", str(tmp_path / "b/a.json"), str(tmp_path)]]
    cfg.DATASETS.TEST = ("own_keypoints_of_another",)
    with pytest.raises(ValueError, match=r"has keypoints 3 keypoints \(right_ear, .*the model 3 keypoints \(left_ear"):
        resolve(cfg)


def test_what_was_inferred_is_said(tmp_path, capsys, caplog):
    write(tmp_path, [annotate()])
    check_data.main(["--json", str(tmp_path / "a.json"), "--image-root", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "cat: 3 keypoints (left_ear, right_ear, tail)" in shown
    assert "exchanged in a flipped image: left_ear - right_ear; the same: tail" in shown
    assert "OKS sigma 0.05, assumed for every keypoint" in shown
    write(tmp_path, [annotate(1, 9, (50, 50, 2, 80, 50, 1))], [HAMMER])
    with caplog.at_level(logging.INFO):
        check_quick(resolve_own(tmp_path))
    assert "images are not flipped" in caplog.text and "FLIP_PAIRS" in caplog.text


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("FLIP", "never", "FLIP is 'never', not one of auto, always"),
        ("FLIP_PAIRS", ["ab"], "not pairs of keypoint names"),
        ("FLIP_PAIRS", [["left_ear", "nose"]], "names the keypoint 'nose', not one of left_ear"),
        ("BOX_MARGIN", -1.0, "BOX_MARGIN is -1.0"),
    ],
)
def test_wrong_settings_are_named(tmp_path, key, value, message):
    write(tmp_path, [annotate()])
    with pytest.raises(ValueError, match=message):
        resolve_own(tmp_path, f"DATASETS.KEYPOINTS.{key}", value)
