"""Datasets named in the configuration, against hand-written files, Detectron2's readers and real samples."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.coco import convert_to_coco_json, load_coco_json
from detectron2.data.datasets.pascal_voc import load_voc_instances
from detectron2.structures import BoxMode
from PIL import Image

from centernet_d2.config import get_cfg
from centernet_d2.data.catalog import get_class_names, load_dataset_dicts
from centernet_d2.data.datasets.coco import load_coco
from centernet_d2.data.datasets.custom import get_location, register_custom_datasets, resolve_num_classes
from centernet_d2.data.datasets.voc import read_voc
from centernet_d2.data.validation.issues import AnnotationError


@pytest.fixture
def name() -> str:
    return f"test_datasets_{uuid.uuid4().hex}"


def _cfg(*entries: tuple[str, ...] | dict[str, Any]) -> CfgNode:
    cfg = get_cfg()
    cfg.DATASETS.CUSTOM = list(entries)
    register_custom_datasets(cfg)
    return cfg


def _coco(folder: Path, **changes: Any) -> str:
    box = {"image_id": 1, "area": 1.0, "iscrowd": 0}
    data = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 100, "width": 200}],
        "categories": [{"id": 90, "name": "dog"}, {"id": 7, "name": "cat"}],
        "annotations": [
            {"id": 5, "category_id": 90, "bbox": [1, 2, 3, 4], **box},
            {"id": 6, "category_id": 7, "bbox": [5, 6, 7, 8], **box, "iscrowd": 1},
        ],
        **changes,
    }
    path = folder / "a.json"
    path.write_text(json.dumps(data))
    return str(path)


def test_category_ids_become_classes_in_their_order(tmp_path: Path, name: str) -> None:
    cfg = _cfg((name, "coco", _coco(tmp_path), str(tmp_path)))
    cfg.DATASETS.TRAIN = (name,)
    assert resolve_num_classes(cfg) == 2
    assert get_class_names(name) == ["cat", "dog"]
    assert MetadataCatalog.get(name).thing_dataset_id_to_contiguous_id == {7: 0, 90: 1}
    (dataset_dict,) = load_dataset_dicts(name)
    assert dataset_dict["file_name"] == str(tmp_path / "a.jpg")
    found = [(a["category_id"], a["bbox"], a["iscrowd"], a["bbox_mode"]) for a in dataset_dict["annotations"]]
    assert found == [(1, [1, 2, 3, 4], 0, BoxMode.XYWH_ABS), (0, [5, 6, 7, 8], 1, BoxMode.XYWH_ABS)]


def test_registering_reads_no_file_and_twice_is_once(name: str, tmp_path: Path) -> None:
    entry = (name, "coco", "/absent/a.json", "/absent")
    for _ in range(2):
        _cfg(entry)
    with pytest.raises(FileNotFoundError, match=rf"{name}.*/absent/a\.json does not exist.*DETECTRON2_DATASETS"):
        load_dataset_dicts(name)
    # The same name for other files replaces.
    _cfg((name, "coco", _coco(tmp_path), str(tmp_path)))
    assert len(load_dataset_dicts(name)) == 1
    # The file may change between two readings.
    _coco(tmp_path, categories=[{"id": 7, "name": "cow"}, {"id": 90, "name": "pig"}])
    load_dataset_dicts(name)
    assert get_class_names(name) == ["cow", "pig"]


def test_relative_paths_start_at_the_dataset_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    _coco(tmp_path)
    _cfg((name, "coco", "a.json", "images"))
    assert load_dataset_dicts(name)[0]["file_name"] == str(tmp_path / "images" / "a.jpg")


@pytest.mark.parametrize(
    "entry",
    [
        ("a", "coco", "b"),
        "coco",
        ("a", "yolov5", "b", "c"),
        ("a", "coco", "b", 3),
        ("coco_2017_train", "coco", "b", "c"),
    ],
)
def test_bad_entries_are_named(entry: Any) -> None:
    with pytest.raises(ValueError, match=r"DATASETS\.CUSTOM"):
        _cfg(entry)


def test_an_entry_may_be_a_mapping(tmp_path: Path, name: str) -> None:
    mapping = {"name": name, "type": "coco", "json_file": _coco(tmp_path), "image_root": str(tmp_path)}
    _cfg(mapping, {"margin": 1.5, "type": "crops", "source": name, "name": f"{name}_crops"})
    assert get_location(name) == ("coco", str(tmp_path / "a.json"), str(tmp_path))
    assert load_dataset_dicts(name)[0]["file_name"] == str(tmp_path / "a.jpg")
    assert get_location(f"{name}_crops") == ("crops", name, "1.5")
    # The same values as a list are the same dataset.
    registered = DatasetCatalog[name]
    _cfg((name, "coco", mapping["json_file"], mapping["image_root"]))
    assert DatasetCatalog[name] is registered
    _cfg({"name": f"{name}_voc", "type": "voc", "root": str(tmp_path), "split": "train"})
    assert MetadataCatalog.get(f"{name}_voc").split == "train"


def test_mappings_from_a_config_file(tmp_path: Path, name: str) -> None:
    entry = f"{{name: {name}, type: coco, json_file: {_coco(tmp_path)}, image_root: {tmp_path}}}"
    (tmp_path / "a.yaml").write_text(f"DATASETS: {{CUSTOM: [{entry}], TRAIN: [{name}]}}")
    cfg = get_cfg()
    cfg.merge_from_file(str(tmp_path / "a.yaml"))
    register_custom_datasets(cfg)
    assert get_class_names(name) == ["cat", "dog"]
    # A dumped config registers the same.
    (tmp_path / "b.yaml").write_text(cfg.dump())
    again = get_cfg()
    again.merge_from_file(str(tmp_path / "b.yaml"))
    assert again.DATASETS.CUSTOM == cfg.DATASETS.CUSTOM


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type": "yolov5"}, r"the type of 'a' is 'yolov5', not one of coco, "),
        ({"type": None}, r"the type of 'a' is None"),
        ({"root": "c"}, r"must have the keys name, type, json_file, image_root, and no others"),
        ({"type": "voc"}, r"must have the keys name, type, root, split, and no others"),
        ({"json_file": 3}, r"must be four strings"),
    ],
)
def test_bad_mappings_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^DATASETS\.CUSTOM: .*{message}"):
        _cfg({"name": "a", "type": "coco", "json_file": "b", "image_root": "c", **changes})


def test_unknown_dataset_names_the_closest() -> None:
    with pytest.raises(KeyError, match="coco_2017_train"):
        load_dataset_dicts("coco_2017_trian")


@pytest.mark.parametrize("file_name", ["../a.jpg", "x/../../a.jpg", "..\\a.jpg"])
def test_file_names_may_not_leave_the_folder(tmp_path: Path, name: str, file_name: str) -> None:
    json_file = _coco(tmp_path, images=[{"id": 1, "file_name": file_name, "height": 100, "width": 200}])
    with pytest.raises(AnnotationError, match="leads out of the folder"):
        load_coco(name, json_file, str(tmp_path))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"images": 3}', "[" * 100_000])
def test_what_is_no_coco_file_is_said(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(AnnotationError, match=r"a\.json is not"):
        load_coco(name, str(tmp_path / "a.json"), str(tmp_path))


def test_number_of_classes_must_agree(tmp_path: Path, name: str) -> None:
    (tmp_path / "other").mkdir()
    other = _coco(tmp_path / "other", categories=[{"id": 7, "name": "cat"}, {"id": 90, "name": "cow"}])
    cfg = _cfg((name, "coco", _coco(tmp_path), "/x"), (f"{name}_val", "coco", other, "/x"))
    cfg.DATASETS.TRAIN = (name,)
    cfg.MODEL.CENTERNET.NUM_CLASSES = 80
    with pytest.raises(ValueError, match=rf"NUM_CLASSES is 80.*{name} has 2 classes \(cat, dog\).*set it to 2"):
        resolve_num_classes(cfg)
    cfg.MODEL.CENTERNET.NUM_CLASSES = 2
    assert resolve_num_classes(cfg) == 2
    cfg.DATASETS.TEST = (f"{name}_val",)
    with pytest.raises(ValueError, match=r"2 classes \(cat, dog\), but .*_val has 2 classes \(cat, cow\)"):
        resolve_num_classes(cfg)
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ()
    cfg.MODEL.CENTERNET.NUM_CLASSES = 0
    with pytest.raises(ValueError, match="names no dataset"):
        resolve_num_classes(cfg)


def test_prediction_needs_no_dataset(name: str) -> None:
    cfg = _cfg((name, "coco", "/absent/a.json", "/absent"))
    cfg.DATASETS.TRAIN = (name,)
    cfg.MODEL.CENTERNET.NUM_CLASSES = 4
    assert resolve_num_classes(cfg) == 4
    cfg.MODEL.CENTERNET.NUM_CLASSES = 0
    with pytest.raises(FileNotFoundError):
        resolve_num_classes(cfg)


def test_a_file_that_pycocotools_cannot_score_is_left_to_the_evaluator(tmp_path: Path, name: str) -> None:
    load_coco(name, _coco(tmp_path), str(tmp_path))
    assert MetadataCatalog.get(name).json_file == str(tmp_path / "a.json")
    bare = [{"id": 0, "image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4]}]
    load_coco(name, _coco(tmp_path, annotations=bare), str(tmp_path))
    assert MetadataCatalog.get(name).get("json_file") is None


@pytest.mark.parametrize(
    ("json_file", "folder"), [("voc/instances.json", "voc/images"), ("coco_person/test_coco.json", "coco_person")]
)
def test_real_coco_files_are_read_as_detectron2_reads_them(
    shared_data: Path, name: str, json_file: str, folder: str
) -> None:
    ours = load_coco(name, str(shared_data / json_file), str(shared_data / folder))
    theirs = load_coco_json(str(shared_data / json_file), str(shared_data / folder), f"{name}_theirs")
    keys = ("bbox", "bbox_mode", "category_id", "iscrowd", "keypoints")
    assert len(ours) == len(theirs) > 0
    for one, other in zip(sorted(ours, key=lambda r: r["image_id"]), theirs, strict=True):
        assert {k: one[k] for k in ("file_name", "height", "width", "image_id")} == {
            k: other[k] for k in ("file_name", "height", "width", "image_id")
        }
        for annotation in other["annotations"]:
            points = np.array(annotation.get("keypoints", [])).reshape(-1, 3)
            points[points[:, 2] == 0] = 0  # without a place, which Detectron2 moves by half a pixel all the same
            annotation.update({"keypoints": points.flatten().tolist()} if len(points) else {})
        assert [{k: a.get(k) for k in keys} for a in one["annotations"]] == [
            {k: a.get(k) for k in keys} for a in other["annotations"]
        ]
    assert MetadataCatalog.get(name).thing_classes == MetadataCatalog.get(f"{name}_theirs").thing_classes


def _voc(root: Path, *objects: str, size: str = "<size><width>60</width><height>40</height></size>") -> Path:
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "ImageSets/Main/train.txt").write_text("2007_1 \n\n")
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(root / "JPEGImages/2007_1.png")
    (root / "Annotations/2007_1.xml").write_text(f"<annotation>{size}{''.join(objects)}</annotation>")
    return root


def _object(name: str = "cat", difficult: int = 0, box: tuple[object, ...] = (1, 1, 60, 40)) -> str:
    corners = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{corners}</bndbox></object>"


def test_voc_boxes_count_from_one_and_include_their_ends(tmp_path: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part></object>"
    root = _voc(tmp_path, _object(), _object("dog", 1, (7, 8, 7, 9.5)).replace("</object>", part))
    ((dataset_dict,), issues) = read_voc(str(root), "train", ["cat", "dog"])
    assert not issues
    assert dataset_dict["file_name"] == str(root / "JPEGImages/2007_1.png")
    assert (dataset_dict["height"], dataset_dict["width"]) == (40, 60)
    found = [(a["category_id"], a["bbox"], a["iscrowd"]) for a in dataset_dict["annotations"]]
    assert found == [(0, [0, 0, 60, 40], 0), (1, [6, 7, 7, 9.5], 1)]


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>"])
def test_voc_size_comes_from_the_image_where_the_file_lacks_it(tmp_path: Path, size: str) -> None:
    ((dataset_dict,), issues) = read_voc(str(_voc(tmp_path, _object(), size=size)), "train", ["cat"])
    assert not issues
    assert (dataset_dict["height"], dataset_dict["width"]) == (40, 60)


@pytest.mark.parametrize(
    ("text", "number", "field"),
    [
        (_object(box=("x", 1, 2, 3)), 2, "bndbox/xmin"),
        (_object(box=(1, "nan", 2, 3)), 2, "bndbox/ymin"),
        (_object("cow"), 2, "name"),
        (_object(""), 2, "name"),
        (_object(difficult=3), 2, "difficult"),
        ("<object><name>cat</name></object>", 2, "bndbox"),
        ("<object>", None, "file"),
    ],
)
def test_voc_errors_have_file_object_and_field(tmp_path: Path, text: str, number: int | None, field: str) -> None:
    root = _voc(tmp_path, _object(), text)
    _, issues = read_voc(str(root), "train", ["cat"])
    assert [(f.file, f.annotation_id, f.field) for f in issues] == [
        (str(root / "Annotations/2007_1.xml"), number, field)
    ]


def test_voc_folder_without_the_layout_is_named(tmp_path: Path, name: str) -> None:
    _cfg((name, "voc", str(tmp_path), "train"))
    with pytest.raises(FileNotFoundError, match=rf"{name}.*Annotations does not exist"):
        load_dataset_dicts(name)
    _voc(tmp_path, _object())
    _cfg((name, "voc", str(tmp_path), "val"))
    with pytest.raises(FileNotFoundError, match=r"val\.txt does not exist"):
        load_dataset_dicts(name)


def test_bccd_is_read_in_its_layout(shared_data: Path, name: str, tmp_path: Path) -> None:
    root = shared_data / "bccd"
    cfg = _cfg((f"{name}_train", "voc", str(root), "train"), (f"{name}_val", "voc", str(root), "val"))
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (f"{name}_train",), (f"{name}_val",)
    assert resolve_num_classes(cfg) == 3
    assert get_class_names(f"{name}_val") == ["Platelets", "RBC", "WBC"]
    train, val = load_dataset_dicts(f"{name}_train"), load_dataset_dicts(f"{name}_val")
    assert (len(train), len(val)) == (205, 87)
    boxes = Counter(a["category_id"] for dataset_dict in train + val for a in dataset_dict["annotations"])
    assert sum(boxes.values()) == 3943
    theirs = load_voc_instances(str(root), "val", ["Platelets", "RBC", "WBC"])
    for one, other in zip(val, theirs, strict=True):
        assert (one["file_name"], one["height"], one["width"]) == (other["file_name"], other["height"], other["width"])
        assert [(a["bbox"], a["category_id"]) for a in one["annotations"]] == [
            (a["bbox"], a["category_id"]) for a in other["annotations"]
        ]
    # Detectron2's evaluator turns the dataset dicts into a COCO file by itself.
    convert_to_coco_json(f"{name}_val", str(tmp_path / "val.json"), allow_cached=False)
    written = json.loads((tmp_path / "val.json").read_text())
    assert len(written["annotations"]) == sum(len(dataset_dict["annotations"]) for dataset_dict in val)
    assert [image["id"] for image in written["images"]] == [dataset_dict["image_id"] for dataset_dict in val]


def test_reference_voc_names_stay_and_absent_files_are_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cfg = get_cfg()
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("voc_2007_trainval", "voc_2012_trainval"), ("voc_2007_test",)
    assert resolve_num_classes(cfg) == 20
    assert MetadataCatalog.get("voc_2007_test").evaluator_type == "pascal_voc"
    if Path(MetadataCatalog.get("voc_2007_test").dirname).exists():
        pytest.skip("the published VOC is here")
    with pytest.raises(FileNotFoundError, match=r"voc_2007_test: .*VOC2007.*does not exist"):
        load_dataset_dicts("voc_2007_test")
    assert "voc_2012_val" in DatasetCatalog
