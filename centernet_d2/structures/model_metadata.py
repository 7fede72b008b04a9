"""What the outputs of a model mean: class names, the dataset's category ids, keypoints.

A model carries its metadata (``model.metadata``). It comes from the training dataset, is written to ``config.yaml``
(MODEL.METADATA), every checkpoint and every export, and is read back from there where the dataset is absent.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from detectron2.config import CfgNode
from detectron2.data.catalog import Metadata

from centernet_d2.registry import get_required_fields
from centernet_d2.structures.keypoint_schema import KeypointSchema, find_schema, get_schema

_logger = logging.getLogger(__name__)
#: Where a checkpoint keeps it, beside "model".
CHECKPOINT_KEY = "metadata"


@dataclass(frozen=True)
class ModelMetadata:
    """
    Attributes:
        class_names: in the order of ``pred_classes``; empty where not known.
        category_ids: the dataset's own id of each class, as COCO files have them; 0, 1, ... where it has none.
        keypoint_schema: a name for ``structures.keypoint_schema.find_schema``; "" without keypoints.
        keypoint_names: in the order of ``pred_keypoints``.
        keypoint_flip_pairs: indices of keypoints that change positions in a flipped image.
    """

    class_names: tuple[str, ...] = ()
    category_ids: tuple[int, ...] = ()
    keypoint_schema: str = ""
    keypoint_names: tuple[str, ...] = ()
    keypoint_flip_pairs: tuple[tuple[int, int], ...] = ()

    @classmethod
    def build(cls, names: Sequence[str], ids: Sequence[int], schema: KeypointSchema | None) -> ModelMetadata:
        ids = tuple(ids) or tuple(range(len(names)))
        if schema is None:
            return cls(tuple(names), ids)
        return cls(tuple(names), ids, schema.name, schema.names, schema.flip_pairs)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> ModelMetadata:
        """Return the metadata of a config whose values are resolved (``config.resolution``)."""
        schema = get_schema(cfg.MODEL.KEYPOINT.SCHEMA) if "keypoints" in get_required_fields(cfg) else None
        return cls.build(cfg.MODEL.METADATA.CLASS_NAMES, cfg.MODEL.METADATA.CATEGORY_IDS, schema)

    @classmethod
    def from_dict(cls, values: Any) -> ModelMetadata | None:
        """Invert :meth:`to_dict`; return None if ``values`` is something else (of another program)."""
        if not isinstance(values, Mapping) or not set(cls.__dataclass_fields__) <= set(values):
            return None
        pairs = tuple((int(a), int(b)) for a, b in values["keypoint_flip_pairs"])
        names, ids = tuple(map(str, values["class_names"])), tuple(map(int, values["category_ids"]))
        schema, keypoints = str(values["keypoint_schema"]), tuple(map(str, values["keypoint_names"]))
        return cls(names, ids, schema, keypoints, pairs) if len(names) == len(ids) else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, strings and numbers, as JSON and checkpoints take them."""
        pairs = [list(pair) for pair in self.keypoint_flip_pairs]
        values = {name: list(x) if isinstance(x, tuple) else x for name, x in asdict(self).items()}
        return {**values, "keypoint_flip_pairs": pairs}

    @property
    def schema(self) -> KeypointSchema | None:
        """The keypoints' schema; None if there is none, or this version does not know it."""
        return find_schema(self.keypoint_schema)

    def convert_to_detectron2(self, name: str = "model") -> Metadata:
        """Return the same as Detectron2's ``Metadata``, for its ``Visualizer``; it is in no catalog."""
        to_contiguous = {number: index for index, number in enumerate(self.category_ids)}
        values = self.schema.to_metadata() if self.schema else {}
        if self.class_names:
            values |= {"thing_classes": list(self.class_names), "thing_dataset_id_to_contiguous_id": to_contiguous}
        return Metadata(name=name, **values)


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


def describe_classes(owner: str, names: Sequence[str]) -> str:
    """Return "<owner> has 2 classes (cat, dog)", for messages."""
    shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    return f"{owner} has {len(names)} classes ({shown})"
