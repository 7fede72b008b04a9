"""What a set of keypoints is: names, flip pairs under a flip, lines to draw, normalizers, and which classes own
which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

#: By name; ``data.schemas`` has one file for each.
SCHEMAS: dict[str, KeypointSchema] = {}


@dataclass(frozen=True)
class KeypointSchema:
    """Keypoints count from 0.

    Attributes:
        name: key of ``SCHEMAS``; the ``keypoint_schema`` of a dataset's metadata.
        names: of the keypoints, all different.
        class_names: of the dataset's classes; empty where any classes will do, each with all keypoints.
        flip_pairs: keypoints that exchange their roles in a flipped image; the others are their own flip pairs.
        chains: lines through keypoints, drawn as the skeleton; a closed one ends where it starts.
        ranges: (first, end) of each class's own keypoints, in the order of ``class_names``.
        evaluator: the ``evaluator_type`` of datasets with these keypoints.
        outer_eye_corners: right and left, as the person has them; None where there is no such keypoint.
        pupils: keypoints whose mean is the right and the left pupil; None as above.
        nose_tip: None as above.
        sigmas: of COCO's object keypoint similarity; None where nobody published any.
    """

    name: str
    names: tuple[str, ...]
    class_names: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    chains: tuple[tuple[int, ...], ...]
    ranges: tuple[tuple[int, int], ...]
    evaluator: str
    outer_eye_corners: tuple[int, int] | None = None
    pupils: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    nose_tip: int | None = None
    sigmas: tuple[float, ...] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def flip_indices(self) -> np.ndarray:
        """Return (K,) int64: keypoint k of a flipped image is keypoint ``flip_indices[k]`` of the image."""
        indices = np.arange(len(self))
        for a, b in self.flip_pairs:
            indices[[a, b]] = b, a
        return indices

    def get_class_range(self, label: int) -> tuple[int, int]:
        """Return (first, end) of the keypoints of class ``label``."""
        return self.ranges[label] if self.ranges else (0, len(self))

    def to_metadata(self) -> dict[str, Any]:
        """Return what Detectron2's ``MetadataCatalog`` needs."""
        edges = [(a, b) for chain in self.chains for a, b in pairwise(chain)]
        return {
            "keypoint_schema": self.name,
            "keypoint_names": list(self.names),
            "keypoint_flip_map": [(self.names[a], self.names[b]) for a, b in self.flip_pairs],
            "keypoint_connection_rules": [(self.names[a], self.names[b], (102, 204, 255)) for a, b in edges],
        }

    def to_coco_fields(self) -> dict[str, Any]:
        """Return the keypoint fields of an entry of "categories" in a COCO file."""
        skeleton = [[a + 1, b + 1] for chain in self.chains for a, b in pairwise(chain)]
        return {"keypoints": list(self.names), "skeleton": skeleton}

    def to_coco_categories(self) -> list[dict[str, Any]]:
        """Return the "categories" of a COCO file; ids count from 1."""
        return [
            {"id": i, "name": name, "supercategory": self.name, **self.to_coco_fields()}
            for i, name in enumerate(self.class_names, start=1)
        ]


def make_chain(first: int, last: int, closed: bool = False) -> tuple[int, ...]:
    """Return first, first + 1, ..., last, and first again if ``closed``."""
    return (*range(first, last + 1), *((first,) if closed else ()))


def get_schema(name: str) -> KeypointSchema:
    """Return the registered schema ``name``.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in SCHEMAS:
        raise ValueError(f"MODEL.KEYPOINT.SCHEMA is {name!r}, not one of {', '.join(SCHEMAS)}")
    return SCHEMAS[name]


def register_schema(schema: KeypointSchema) -> KeypointSchema:
    """Add a schema to :data:`SCHEMAS`; returns it.

    Raises:
        ValueError: an index out of range, an index in two flip pairs, names that repeat.
    """
    count = len(schema)
    flip_pairs = [k for pair in schema.flip_pairs for k in pair]
    used: Sequence[int] = [*flip_pairs, *(k for line in schema.chains for k in line)]
    if (
        len(set(schema.names)) != count
        or len(set(flip_pairs)) != len(flip_pairs)
        or not all(0 <= k < count for k in used)
    ):
        raise ValueError(f"the keypoint schema {schema.name} is inconsistent")
    if len(schema.ranges) != len(schema.class_names):
        raise ValueError(f"the keypoint schema {schema.name} needs one range per class")
    SCHEMAS[schema.name] = schema
    return schema
