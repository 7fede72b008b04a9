"""Registers COCO-format files with keypoints: those of ``datasets/prepare_*.py`` and custom ones."""

from __future__ import annotations

import functools
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from centernet_d2.data.datasets.coco import CocoFile, count_from_1, read_coco, set_coco_metadata, set_metadata
from centernet_d2.data.image_io import DatasetDict
from centernet_d2.data.schemas import SCHEMAS, KeypointSchema
from centernet_d2.data.validation.issues import AnnotationIssue, raise_issues
from centernet_d2.structures.keypoint_schema import OWN_PREFIX, find_schema, get_schema


def register_keypoint_dataset(name: str, schema_name: str, json_file: str, image_root: str) -> None:
    """Register a COCO-format dataset with the keypoints of ``schema_name``; the file is read at first use.

    Category ids number the schema's classes from 1. A schema with one class accepts any single id; one without classes
    takes those of the file.
    """
    schema = SCHEMAS[schema_name]
    DatasetCatalog.register(name, lambda: load_keypoint_dataset(name, schema, json_file, image_root))
    values = {"image_root": image_root, **make_keypoint_metadata(schema)}
    if schema.evaluator == "coco":
        # The evaluator needs values that only the file has. Without classes here, the file is read for them.
        values.pop("thing_classes", None)
    MetadataCatalog.get(name).set(**values)


def make_keypoint_metadata(schema: KeypointSchema) -> dict[str, Any]:
    """Return the metadata of any dataset with this schema: keypoint names, flip pairs, classes, evaluator."""
    classes = {"thing_classes": list(schema.class_names)} if schema.class_names else {}
    return {**classes, "evaluator_type": schema.evaluator, **schema.to_metadata()}


def read_keypoint_dataset(schema: KeypointSchema, json_file: str, image_root: str) -> CocoFile:
    """Read the file, with keypoints and boxes in continuous image coordinates, and the schema's classes if it has any.

    Raises:
        FileNotFoundError, AnnotationError: no such file, or it is not a COCO file.
    """
    coco = read_coco(json_file, image_root)
    if schema.class_names:
        _use_classes(coco, schema, json_file)
    for dataset_dict in coco.dataset_dicts:
        for annotation in dataset_dict["annotations"]:
            count = len(annotation.get("keypoints", ())) // 3
            if count not in (0, len(schema)):
                problem = f"are {count} points, but {schema.name} has {len(schema)}"
                coco.issues.append(AnnotationIssue(dataset_dict["file_name"], annotation["id"], "keypoints", problem))
    return coco


def _use_classes(coco: CocoFile, schema: KeypointSchema, json_file: str) -> None:
    """Number the classes in the order of the schema, in place."""
    classes = dict(enumerate(number - 1 for number in coco.dataset_ids))
    if len(schema.class_names) == len(coco.dataset_ids) == 1:
        classes = {0: 0}
    for index, number in classes.items():
        if not 0 <= number < len(schema.class_names):
            problem = f"has the id {number + 1} ({coco.class_names[index]}), not 1 to {len(schema.class_names)}"
            coco.issues.append(AnnotationIssue(json_file, None, "categories", problem))
    for dataset_dict in coco.dataset_dicts:
        for annotation in dataset_dict["annotations"]:
            annotation["category_id"] = classes[annotation["category_id"]]
    coco.class_names = list(schema.class_names)


def load_keypoint_dataset(name: str, schema: KeypointSchema, json_file: str, image_root: str) -> list[DatasetDict]:
    """Load the dataset dicts and set the metadata of ``name``.

    Raises:
        FileNotFoundError: no such file.
        AnnotationError: the first errors, each with file, annotation id and field.
    """
    coco = read_keypoint_dataset(schema, json_file, image_root)
    raise_issues(f"dataset {name}, {json_file}", coco.issues)
    values = {"image_root": image_root, **make_keypoint_metadata(schema)}
    if schema.evaluator == "coco":
        set_coco_metadata(name, coco, json_file, values)
    else:
        ids = count_from_1(schema.class_names) if len(schema.class_names) > 1 else coco.dataset_ids
        set_metadata(name, {**values, "thing_dataset_id_to_contiguous_id": ids})
    return coco.dataset_dicts


def resolve_schema(cfg: CfgNode) -> KeypointSchema:
    """Return the schema that ``MODEL.KEYPOINT.SCHEMA`` names, or else that of the datasets.

    Raises:
        ValueError: there is none, or the config and the datasets disagree.
    """
    wanted = cfg.MODEL.KEYPOINT.SCHEMA
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        if wanted and name not in DatasetCatalog:
            continue  # registered by the training script only; prediction needs no dataset
        schema = MetadataCatalog.get(name).get("keypoint_schema") if name in DatasetCatalog else None
        if schema is None and wanted.startswith(OWN_PREFIX) and not MetadataCatalog.get(name).get("thing_classes"):
            continue  # its file is absent, else it would have been read for its classes
        if schema is None:
            raise ValueError(
                f"dataset {name} has no keypoint schema, which the task {cfg.MODEL.CENTERNET.TASK} needs: "
                'the categories of its file name no "keypoints"'
            )
        wanted = wanted or schema
        if schema != wanted:
            theirs, ours = (getattr(find_schema(text), "title", text) for text in (schema, wanted))
            where = "in names, classes, flip pairs or skeleton" if theirs == ours else "(MODEL.KEYPOINT.SCHEMA)"
            raise ValueError(f"dataset {name} has keypoints {theirs}, the model {ours} {where}")
    return get_schema(wanted)


#: Types of ``DATASETS.CUSTOM``: schema name -> function with the keyword arguments name, json_file and image_root.
KEYPOINT_TYPES = {
    schema_name: functools.partial(register_keypoint_dataset, schema_name=schema_name) for schema_name in SCHEMAS
}
