"""Resolves a model's metadata (classes, category ids, keypoints) from its datasets."""

from __future__ import annotations

from pathlib import Path

from detectron2.config import CfgNode

from centernet_d2.checkpoint.reading import load_file
from centernet_d2.config.resolution import register_resolver
from centernet_d2.data.catalog import get_class_names
from centernet_d2.data.datasets.custom import read_category_ids, register_custom_datasets, resolve_num_classes
from centernet_d2.data.datasets.keypoint_sets import resolve_schema
from centernet_d2.data.transforms.input_shape import match_aspect
from centernet_d2.registry import get_required_fields
from centernet_d2.structures.model_metadata import CHECKPOINT_KEY, ModelMetadata, describe_classes


@register_resolver
def resolve_dataset_values(cfg: CfgNode) -> None:
    """Register ``DATASETS.CUSTOM`` and fill the datasets' values into ``cfg``, for ``config.resolution.resolve``."""
    register_custom_datasets(cfg)
    write_metadata(cfg, resolve_metadata(cfg))
    match_aspect(cfg)


def resolve_metadata(cfg: CfgNode) -> ModelMetadata:
    """Return the metadata of a config's model; ``DATASETS.CUSTOM`` must be registered.

    It comes from the datasets if their files exist, else from MODEL.METADATA, else from the checkpoint MODEL.WEIGHTS.

    Raises:
        ValueError: MODEL.METADATA, MODEL.CENTERNET.NUM_CLASSES and the datasets disagree.
        FileNotFoundError: nothing gives the number of classes, and the datasets' files are absent.
    """
    settings, wanted = cfg.MODEL.METADATA, cfg.MODEL.CENTERNET.NUM_CLASSES
    names, ids = list(settings.CLASS_NAMES), list(settings.CATEGORY_IDS)
    if (ids and len(ids) != len(names)) or len(set(ids)) != len(ids):
        raise ValueError(
            f"MODEL.METADATA.CATEGORY_IDS is {ids}: it must have one id of its own for each of the {len(names)} "
            "MODEL.METADATA.CLASS_NAMES"
        )
    if names and wanted not in (0, len(names)):
        raise ValueError(
            f"MODEL.CENTERNET.NUM_CLASSES is {wanted}, but {describe_classes('MODEL.METADATA.CLASS_NAMES', names)}"
        )
    saved = None
    try:
        resolve_num_classes(cfg)
    except (FileNotFoundError, KeyError, ValueError) as error:
        if isinstance(error, ValueError) and (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
            raise
        saved = None if names or wanted else _load_saved_metadata(cfg.MODEL.WEIGHTS)
        if not names and saved is None:
            raise
    from_datasets = _find_class_names(cfg)
    if from_datasets is not None:
        dataset_name, dataset_classes = from_datasets
        if names and wanted and dataset_classes != names:
            ours, theirs = ("MODEL.METADATA.CLASS_NAMES", names), (f"dataset {dataset_name}", dataset_classes)
            raise ValueError(
                f"{describe_classes(*ours)}, but {describe_classes(*theirs)}. Set MODEL.METADATA.CLASS_NAMES and "
                "CATEGORY_IDS to [] to take the dataset's"
            )
        names, ids = dataset_classes, read_category_ids(dataset_name) or (ids if dataset_classes == names else [])
    elif saved is not None:
        names, ids = list(saved.class_names), list(saved.category_ids)
    return ModelMetadata.build(names, ids, resolve_schema(cfg) if "keypoints" in get_required_fields(cfg) else None)


def write_metadata(cfg: CfgNode, metadata: ModelMetadata) -> None:
    """Write ``metadata`` into ``cfg``, which then describes the model without any dataset."""
    cfg.MODEL.METADATA.CLASS_NAMES = list(metadata.class_names)
    cfg.MODEL.METADATA.CATEGORY_IDS = list(metadata.category_ids)
    cfg.MODEL.CENTERNET.NUM_CLASSES = len(metadata.class_names) or cfg.MODEL.CENTERNET.NUM_CLASSES
    cfg.MODEL.KEYPOINT.SCHEMA = cfg.MODEL.KEYPOINT.SCHEMA or metadata.keypoint_schema
    schema = metadata.schema
    if schema is not None and not schema.can_flip:
        cfg.INPUT.AFFINE.FLIP_PROB, cfg.TEST.AUG.FLIP = 0.0, False


def _find_class_names(cfg: CfgNode) -> tuple[str, list[str]] | None:
    """Return the first dataset that has class names, and these; None if the files of all are absent."""
    for dataset_name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        try:
            return dataset_name, get_class_names(dataset_name)
        except (FileNotFoundError, KeyError):
            continue
    return None


def _load_saved_metadata(path: str) -> ModelMetadata | None:
    """Return the metadata in a local checkpoint; None if there is no file or it has none."""
    if not path or not Path(path).is_file():
        return None
    return ModelMetadata.from_dict(load_file(path, mmap=True).get(CHECKPOINT_KEY))
