"""Objects with landmarks, from COCO-format files: those of ``datasets/prepare_*.py`` and one's own."""

from __future__ import annotations

import functools
import os
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from centernet_d2.data.datasets.coco import CocoFile, read_coco, set_coco_metadata, set_metadata
from centernet_d2.data.image_io import Record
from centernet_d2.data.schemas import EXTREME4, POSE17, SCHEMES, LandmarkScheme
from centernet_d2.data.validation.issues import Finding, raise_findings

#: Folder under DETECTRON2_DATASETS -> scheme and splits; ``<folder>/annotations/<split>.json`` names pictures in the
#: folder, and the set is called ``<folder>_<split>``.
PUBLISHED = {
    "300w": ("face68", ("train", "common", "challenge", "full", "test")),
    "300vw": ("face68", ("train", "test_1", "test_2", "test_3")),
    "aflw": ("face19", ("train", "full", "frontal")),
    "deepfashion2": ("clothes294", ("train", "validation")),
}

DETECTRON2_POSES = [f"keypoints_coco_{split}" for split in ("2014_train", "2014_val", "2017_train", "2017_val")]


def register_landmarks(name: str, scheme_name: str, json_file: str, image_root: str) -> None:
    """Register a COCO-format set whose objects have the landmarks of ``scheme_name``; the file is read at first use.

    Category ids count the scheme's classes from 1; where it has one class, any single id will do, and where it has
    none, the classes are those of the file.
    """
    scheme = SCHEMES[scheme_name]
    DatasetCatalog.register(name, lambda: load_landmarks(name, scheme, json_file, image_root))
    values = {"image_root": image_root, **landmark_metadata(scheme)}
    if scheme.evaluator == "coco":
        # What the evaluator needs is only known when the file has been read, so let the classes be asked for.
        values.pop("thing_classes", None)
    MetadataCatalog.get(name).set(**values)


def landmark_metadata(scheme: LandmarkScheme) -> dict[str, Any]:
    """Metadata of any data set with these landmarks: names, twins, the scheme's classes, evaluator."""
    classes = {"thing_classes": list(scheme.class_names)} if scheme.class_names else {}
    return {**classes, "evaluator_type": scheme.evaluator, **scheme.metadata()}


def read_landmarks(scheme: LandmarkScheme, json_file: str, image_root: str) -> CocoFile:
    """The file, with keypoints and boxes in continuous picture coordinates, and, where the scheme has classes, these.

    Raises:
        FileNotFoundError, AnnotationError: no such file, or nothing that can be read as such a file.
    """
    coco = read_coco(json_file, image_root)
    if scheme.class_names:
        _use_classes(coco, scheme, json_file)
    for record in coco.records:
        for annotation in record["annotations"]:
            count = len(annotation.get("keypoints", ())) // 3
            if count not in (0, len(scheme)):
                problem = f"are {count} points, but {scheme.name} has {len(scheme)}"
                coco.findings.append(Finding(record["file_name"], annotation["id"], "keypoints", problem))
    return coco


def _use_classes(coco: CocoFile, scheme: LandmarkScheme, json_file: str) -> None:
    """Count classes in the order of the scheme, in place."""
    classes = dict(enumerate(number - 1 for number in coco.dataset_ids))
    if len(scheme.class_names) == len(coco.dataset_ids) == 1:
        classes = {0: 0}
    for index, number in classes.items():
        if not 0 <= number < len(scheme.class_names):
            problem = f"has the id {number + 1} ({coco.class_names[index]}), not 1 to {len(scheme.class_names)}"
            coco.findings.append(Finding(json_file, None, "categories", problem))
    for record in coco.records:
        for annotation in record["annotations"]:
            annotation["category_id"] = classes[annotation["category_id"]]
    coco.class_names = list(scheme.class_names)


def load_landmarks(name: str, scheme: LandmarkScheme, json_file: str, image_root: str) -> list[Record]:
    """The records; sets the metadata of ``name``.

    Raises:
        FileNotFoundError: no such file.
        AnnotationError: the first faults, each with file, annotation id and field.
    """
    coco = read_landmarks(scheme, json_file, image_root)
    raise_findings(f"data set {name}, {json_file}", coco.findings)
    values = {"image_root": image_root, **landmark_metadata(scheme)}
    if scheme.evaluator == "coco":
        set_coco_metadata(name, coco, json_file, values)
    else:
        set_metadata(name, values)
    return coco.records


def scheme_of(cfg: CfgNode) -> LandmarkScheme:
    """The scheme that ``MODEL.LANDMARK.SCHEME`` names, or the data sets have.

    Raises:
        ValueError: there is none, or the configuration and the data sets do not agree.
    """
    wanted = cfg.MODEL.LANDMARK.SCHEME
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        found = MetadataCatalog.get(name).get("landmark_scheme") if name in DatasetCatalog else None
        if found is None:
            raise ValueError(f"data set {name} has no landmark scheme, which the task {cfg.MODEL.CENTERNET.TASK} needs")
        wanted = wanted or found
        if found != wanted:
            raise ValueError(f"data set {name} has landmarks {found}, the model {wanted} (MODEL.LANDMARK.SCHEME)")
    if wanted not in SCHEMES:
        raise ValueError(f"MODEL.LANDMARK.SCHEME is {wanted!r}, not one of {', '.join(SCHEMES)}")
    if not cfg.MODEL.KEYPOINT_ON:
        raise ValueError(f"the task {cfg.MODEL.CENTERNET.TASK} needs MODEL.KEYPOINT_ON: True")
    return SCHEMES[wanted]


def register_published_landmarks(root: str) -> None:
    """The sets of ``PUBLISHED``, COCO with extreme points, and the scheme of those that Detectron2 registers."""
    for name in DETECTRON2_POSES:
        MetadataCatalog.get(name).landmark_scheme = POSE17.name
    for folder, (scheme_name, splits) in PUBLISHED.items():
        for split in splits:
            json_file = os.path.join(root, folder, "annotations", f"{split}.json")
            register_landmarks(f"{folder}_{split}", scheme_name, json_file, os.path.join(root, folder))
    for split in ("train", "val"):
        name, coco = f"coco_2017_{split}_extreme", MetadataCatalog.get(f"coco_2017_{split}")
        json_file = os.path.join(root, "coco", "annotations", f"instances_{split}2017_extreme.json")
        register_landmarks(name, EXTREME4.name, json_file, os.path.join(root, "coco", f"{split}2017"))
        MetadataCatalog.get(name).set(thing_classes=coco.thing_classes)


def _register(scheme_name: str, name: str, json_file: str, image_root: str) -> None:
    register_landmarks(name, scheme_name, json_file, image_root)


#: For ``DATASETS.CUSTOM``: kind -> function of name, JSON file and picture folder.
LANDMARK_KINDS = {scheme_name: functools.partial(_register, scheme_name) for scheme_name in SCHEMES}
