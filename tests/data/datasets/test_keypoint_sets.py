"""Registration of datasets with landmarks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.detection_utils import create_keypoint_hflip_indices

import centernet_d2  # noqa: F401  (registers)
from centernet_d2.data.datasets.builtin import KEYPOINTS
from centernet_d2.data.datasets.keypoint_sets import load_keypoint_dataset
from centernet_d2.data.schemas import CLOTHES294, EXTREME4, FACE19, FACE68, POSE17, SCHEMAS
from centernet_d2.data.validation.issues import AnnotationError


def written(folder: Path, schema, *annotations, categories=None) -> str:
    images = [{"id": 1, "file_name": "a.jpg", "height": 100, "width": 100, "subset": "common"}]
    data = {"images": images, "annotations": list(annotations), "categories": categories or schema.to_coco_categories()}
    (folder / "a.json").write_text(json.dumps(data))
    return str(folder / "a.json")


def annotation(schema, category=1, count=None, **changes) -> dict:
    keypoints = [10.0, 20.0, 2] * (count if count is not None else len(schema))
    box = {"bbox": [1, 2, 30, 40], "area": 1200, "iscrowd": 0, "num_keypoints": len(keypoints) // 3}
    return {"id": 1, "image_id": 1, "category_id": category, "keypoints": keypoints, **box, **changes}


@pytest.fixture
def name():
    yield "landmarks_for_a_test"
    MetadataCatalog.pop("landmarks_for_a_test", None)


def test_the_reference_sets_are_registered():
    for name, (schema, _, _) in KEYPOINTS.items():
        assert name in DatasetCatalog and MetadataCatalog.get(name).keypoint_schema == schema
        assert list(create_keypoint_hflip_indices([name])) == SCHEMAS[schema].flip_indices().tolist()


def test_dataset_dicts_have_the_schemas_classes(tmp_path, name):
    json_file = written(tmp_path, CLOTHES294, annotation(CLOTHES294, 11), annotation(CLOTHES294, 3, id=2))
    (dataset_dict,) = load_keypoint_dataset(name, CLOTHES294, json_file, str(tmp_path))
    assert [a["category_id"] for a in dataset_dict["annotations"]] == [10, 2]
    assert dataset_dict["annotations"][0]["keypoints"][:3] == [10.5, 20.5, 2]
    assert dataset_dict["subset"] == "common"
    assert len(MetadataCatalog.get(name).thing_classes) == 13


def test_the_only_class_may_have_any_id(tmp_path, name):
    json_file = written(tmp_path, FACE19, annotation(FACE19, 7), categories=[{"id": 7, "name": "person"}])
    (dataset_dict,) = load_keypoint_dataset(name, FACE19, json_file, str(tmp_path))
    assert dataset_dict["annotations"][0]["category_id"] == 0
    assert MetadataCatalog.get(name).thing_classes == ["face"]


def test_extreme_points_have_the_classes_of_the_file(tmp_path, name):
    """Also the file is evaluated on as it is, and another one may follow under the same name."""
    for numbers, complete in (((7, 90), True), ((3, 4, 5), False)):
        categories = [{"id": n, "name": f"thing {n}", **EXTREME4.to_coco_fields()} for n in numbers]
        last = annotation(EXTREME4, numbers[-1])
        if not complete:
            del last["area"]
        json_file = written(tmp_path, EXTREME4, last, categories=categories)
        (dataset_dict,) = load_keypoint_dataset(name, EXTREME4, json_file, str(tmp_path))
        metadata = MetadataCatalog.get(name)
        assert dataset_dict["annotations"][0]["category_id"] == len(numbers) - 1
        assert metadata.thing_classes == [f"thing {n}" for n in numbers]
        assert metadata.keypoint_schema == "extreme4" and metadata.evaluator_type == "coco"
        assert metadata.get("json_file") == (json_file if complete else None)


def test_poses_are_evaluated_on_their_file_as_it_is(tmp_path, name):
    """With its areas, those of the outlines; without all that pycocotools needs, Detectron2 writes a file."""
    for missing in (None, "num_keypoints"):
        person = annotation(POSE17)
        person.pop(missing, None)
        json_file = written(tmp_path, POSE17, person)
        load_keypoint_dataset(name, POSE17, json_file, str(tmp_path))
        assert MetadataCatalog.get(name).get("json_file") == (None if missing else json_file)


def test_coco_has_extreme_points_under_names_of_its_own():
    metadata = MetadataCatalog.get("coco_2017_val_extreme")
    assert len(metadata.thing_classes) == 80 and metadata.keypoint_schema == "extreme4"
    assert list(create_keypoint_hflip_indices(["coco_2017_train_extreme"])) == [0, 3, 2, 1]


@pytest.mark.parametrize(
    ("schema", "wrong", "categories", "message"),
    [
        (FACE68, {"count": 67}, None, r"a.jpg, annotation 1, keypoints: are 67 points, but the category has 68"),
        (
            FACE68,
            {"count": 5},
            [{"id": 1, "name": "face"}],
            r"a.jpg, annotation 1, keypoints: are 5 points, but face68",
        ),
        (CLOTHES294, {"category": 14}, [{"id": 14, "name": "hat"}], r"categories: has the id 14 \(hat\), not 1 to 13"),
        (CLOTHES294, {"category": 14}, None, r"category_id: is 14, but there is no such category"),
    ],
)
def test_errors_are_named(tmp_path, name, schema, wrong, categories, message):
    json_file = written(tmp_path, schema, annotation(schema, **wrong), categories=categories)
    with pytest.raises(AnnotationError, match=message):
        load_keypoint_dataset(name, schema, json_file, str(tmp_path))
