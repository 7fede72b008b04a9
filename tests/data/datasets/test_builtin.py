"""The built-in datasets: all names, their evaluators and keypoint schemas."""

from __future__ import annotations

import subprocess
import sys

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

import centernet_d2.data  # noqa: F401  (registers)

# Evaluator -> names.
BUILTIN = {
    "coco": [
        *(f"crowdhuman_{split}{part}" for split in ("train", "val") for part in ("", "_visible", "_head")),
        *("coco_2017_train_extreme", "coco_2017_val_extreme", "wider_face_train"),
        *(f"keypoints_coco_{name}" for name in ("2014_train", "2014_val", "2017_train", "2017_val")),
    ],
    "wider_face": ["wider_face_val"],
    "face_landmarks": [
        *(f"300w_{split}" for split in ("train", "common", "challenge", "full", "test")),
        *(f"300vw_{split}" for split in ("train", "test_1", "test_2", "test_3")),
        *(f"aflw_{split}" for split in ("train", "full", "frontal")),
    ],
    "clothes_landmarks": ["deepfashion2_train", "deepfashion2_validation"],
    "kitti": [f"kitti_{split}_{part}" for split in ("3dop", "subcnn") for part in ("train", "val")],
    "tracking": [f"mot17_{split}" for split in ("train", "train_half", "val_half", "test")],
    "pascal_voc": [
        *(f"shwd_{split}" for split in ("trainval", "train", "val", "test")),
        *(f"voc_{name}" for name in ("2007_trainval", "2007_train", "2007_val", "2007_test")),
        *(f"voc_{name}" for name in ("2012_trainval", "2012_train", "2012_val")),
    ],
}
SCHEMAS = {"300w": "face68", "300vw": "face68", "aflw": "face19", "deepfashion2": "clothes294", "keypoints": "pose17"}


@pytest.mark.parametrize(("evaluator", "name"), [(key, name) for key, names in BUILTIN.items() for name in names])
def test_builtin_datasets_have_their_evaluator_and_schema(evaluator: str, name: str) -> None:
    metadata = MetadataCatalog.get(name)
    assert name in DatasetCatalog and metadata.evaluator_type == evaluator
    schema = "extreme4" if name.endswith("_extreme") else SCHEMAS.get(name.split("_")[0])
    assert metadata.get("keypoint_schema") == schema


def test_no_other_dataset_of_these_families_is_registered() -> None:
    names = {name for names in BUILTIN.values() for name in names}
    prefixes = tuple(sorted({name.split("_")[0] + "_" for name in names} - {"coco_", "keypoints_"}))
    # In a process of its own: other tests register datasets, too.
    code = "import centernet_d2.data; from detectron2.data import DatasetCatalog; print(*DatasetCatalog.list())"
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {name for name in listed if name.startswith(prefixes)} == {
        name for name in names if name.startswith(prefixes)
    }
