"""What the outputs of a model mean: class names, the dataset's category ids, keypoints.

A model carries its metadata (``model.metadata``). It comes from the training dataset, is written to ``config.yaml``
(MODEL.METADATA), every checkpoint and every export, and is read back from there where the dataset is absent.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data.catalog import Metadata

from centernet_d2.checkpoint.reading import load_file
from centernet_d2.data.catalog import class_names
from centernet_d2.data.datasets.custom import category_ids, describe_classes, resolve_num_classes
from centernet_d2.data.schemas import SCHEMAS, KeypointSchema
from centernet_d2.visualization.draw_keypoints import find_schema

_logger = logging.getLogger(__name__)
#: Where a checkpoint keeps it, beside "model".
CHECKPOINT_KEY = "metadata"


@dataclass(frozen=True)
class ModelMetadata:
    """
    Attributes:
        class_names: in the order of ``pred_classes``; empty where not known.
        category_ids: the dataset's own id of each class, as COCO files have them; 0, 1, ... where it has none.
        keypoint_scheme: key of ``data.schemas.SCHEMES``; "" without keypoints.
        keypoint_names: in the order of ``pred_keypoints``.
        keypoint_flip_pairs: indices of keypoints that change places in a flipped image.
    """

    class_names: tuple[str, ...] = ()
    category_ids: tuple[int, ...] = ()
    keypoint_scheme: str = ""
    keypoint_names: tuple[str, ...] = ()
    keypoint_flip_pairs: tuple[tuple[int, int], ...] = ()

    @classmethod
    def build(cls, names: Sequence[str], ids: Sequence[int], schema: KeypointSchema | None) -> ModelMetadata:
        ids = tuple(ids) or tuple(range(len(names)))
        if schema is None:
            return cls(tuple(names), ids)
        return cls(tuple(names), ids, schema.name, schema.names, schema.flip_pairs)

    @classmethod
    def from_dict(cls, values: Any) -> ModelMetadata | None:
        """The reverse of :meth:`to_dict`; None where ``values`` is something else (of another program)."""
        if not isinstance(values, Mapping) or not set(cls.__dataclass_fields__) <= set(values):
            return None
        pairs = tuple((int(a), int(b)) for a, b in values["keypoint_flip_pairs"])
        names, ids = tuple(map(str, values["class_names"])), tuple(map(int, values["category_ids"]))
        schema, keypoints = str(values["keypoint_scheme"]), tuple(map(str, values["keypoint_names"]))
        return cls(names, ids, schema, keypoints, pairs) if len(names) == len(ids) else None

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, strings and numbers, as JSON and checkpoints take them."""
        pairs = [list(pair) for pair in self.keypoint_flip_pairs]
        values = {name: list(x) if isinstance(x, tuple) else x for name, x in asdict(self).items()}
        return {**values, "keypoint_flip_pairs": pairs}

    @property
    def schema(self) -> KeypointSchema | None:
        """Of the keypoints; None where there is none, or this version does not know it."""
        return SCHEMAS.get(self.keypoint_scheme)

    def for_detectron2(self, name: str = "model") -> Metadata:
        """The same as Detectron2's ``Metadata``, for its ``Visualizer``; it is in no catalog."""
        to_contiguous = {number: index for index, number in enumerate(self.category_ids)}
        values = self.schema.metadata() if self.schema else {}
        if self.class_names:
            values |= {"thing_classes": list(self.class_names), "thing_dataset_id_to_contiguous_id": to_contiguous}
        return Metadata(name=name, **values)


def resolve_metadata(cfg: CfgNode) -> ModelMetadata:
    """Of the model of a config whose ``DATASETS.CUSTOM`` is registered.

    The datasets say it where their files are there; else MODEL.METADATA; else the checkpoint MODEL.WEIGHTS.

    Raises:
        ValueError: MODEL.METADATA, MODEL.CENTERNET.NUM_CLASSES and the datasets do not agree.
        FileNotFoundError: the number of classes is said nowhere, and the datasets' files are absent.
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
        saved = None if names or wanted else _saved_metadata(cfg.MODEL.WEIGHTS)
        if not names and saved is None:
            raise
    known = _of_datasets(cfg)
    if known is not None:
        data_set, found = known
        if names and wanted and found != names:
            ours, theirs = ("MODEL.METADATA.CLASS_NAMES", names), (f"dataset {data_set}", found)
            raise ValueError(
                f"{describe_classes(*ours)}, but {describe_classes(*theirs)}. Set MODEL.METADATA.CLASS_NAMES and "
                "CATEGORY_IDS to [] to take the dataset's"
            )
        names, ids = found, category_ids(data_set) or (ids if found == names else [])
    elif saved is not None:
        names, ids = list(saved.class_names), list(saved.category_ids)
    return ModelMetadata.build(names, ids, find_schema(cfg) if cfg.MODEL.KEYPOINT_ON else None)


def write_metadata(cfg: CfgNode, metadata: ModelMetadata) -> None:
    """Into the config, in place: it then describes the model without any dataset."""
    cfg.MODEL.METADATA.CLASS_NAMES = list(metadata.class_names)
    cfg.MODEL.METADATA.CATEGORY_IDS = list(metadata.category_ids)
    cfg.MODEL.CENTERNET.NUM_CLASSES = len(metadata.class_names) or cfg.MODEL.CENTERNET.NUM_CLASSES
    cfg.MODEL.KEYPOINT.SCHEMA = cfg.MODEL.KEYPOINT.SCHEMA or metadata.keypoint_scheme


def check_same_classes(ours: ModelMetadata, theirs: Sequence[str], of_ours: str, of_theirs: str) -> None:
    """Compare the class names of two sources, such as a checkpoint and the dataset it is evaluated on.

    Different names may be other words for the same classes, and get a warning.

    Raises:
        ValueError: the same names in another order; every score would be wrong.
    """
    if not ours.class_names or not theirs or list(ours.class_names) == list(theirs):
        return
    text = f"{describe_classes(of_ours, ours.class_names)}, but {describe_classes(of_theirs, theirs)}"
    if sorted(ours.class_names) == sorted(theirs):
        raise ValueError(f"{text}: the same classes in another order")
    _logger.warning("%s: class k of the one is taken for class k of the other", text)


def _of_datasets(cfg: CfgNode) -> tuple[str, list[str]] | None:
    """The first of the datasets that says its class names, and these; None where the files of all are absent."""
    for data_set in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        try:
            return data_set, class_names(data_set)
        except (FileNotFoundError, KeyError):
            continue
    return None


def _saved_metadata(path: str) -> ModelMetadata | None:
    """Of a checkpoint on this machine; None where there is none, or it does not say."""
    if not path or not Path(path).is_file():
        return None
    return ModelMetadata.from_dict(load_file(path, mmap=True).get(CHECKPOINT_KEY))
