"""What a set of keypoints is: names, flip pairs under a flip, lines to draw, normalizers, and which classes own
which."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

#: By name; ``data.schemas`` has one file for each.
SCHEMAS: dict[str, KeypointSchema] = {}
#: What the name of a schema made from a dataset's file starts with. The rest is the schema itself as JSON, so that a
#: config, a checkpoint and an exported file that have the name have all of it. (Without a letter in front, the config
#: would read the text as a mapping.)
OWN_PREFIX = "own:"
#: Of keypoints for which nobody published any: an error of 10 percent of the object's size, sqrt(area), then has a
#: similarity of exp(-1/2) = 0.61. COCO's lie between 0.025 (eyes) and 0.107 (hips).
DEFAULT_SIGMA = 0.05


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
        can_flip: whether a flipped image shows such objects, too, with the flip pairs exchanged.
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
    can_flip: bool = True

    @property
    def own(self) -> bool:
        """Whether the schema is made from a dataset's file, not one of :data:`SCHEMAS`."""
        return self.name.startswith(OWN_PREFIX)

    @property
    def title(self) -> str:
        """The schema's name in messages."""
        shown = ", ".join(self.names[:8]) + (", ..." if len(self) > 8 else "")
        return f"{len(self)} keypoints ({shown})" if self.own else self.name

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


def find_schema(name: str | None) -> KeypointSchema | None:
    """Return the schema ``name``, registered or made from a dataset's file; None if there is none of that name."""
    if name and name.startswith(OWN_PREFIX):
        return _parse_own_schema(name)
    return SCHEMAS.get(name or "")


def get_schema(name: str) -> KeypointSchema:
    """Return the schema ``name``, registered or made from a dataset's file.

    Raises:
        ValueError: there is none of that name.
    """
    schema = find_schema(name)
    if schema is None:
        raise ValueError(f"MODEL.KEYPOINT.SCHEMA is {name!r}, not one of {', '.join(SCHEMAS)}")
    return schema


def make_own_schema(
    names: Sequence[str],
    class_names: Sequence[str],
    ranges: Sequence[tuple[int, int]],
    flip_pairs: Sequence[tuple[int, int]],
    edges: Sequence[tuple[int, int]],
    can_flip: bool,
) -> KeypointSchema:
    """Make the schema of a dataset's own keypoints; its name describes it completely (:data:`OWN_PREFIX`).

    ``edges`` are the lines to draw. The sigmas are those of COCO's persons where all the names are theirs, else
    :data:`DEFAULT_SIGMA`.

    Raises:
        ValueError: as :func:`check_schema`.
    """
    values = {"names": names, "classes": class_names, "ranges": ranges, "flip_pairs": flip_pairs, "edges": edges}
    return _parse_own_schema(OWN_PREFIX + json.dumps({**values, "can_flip": can_flip}, separators=(",", ":")))


@functools.lru_cache(maxsize=64)
def _parse_own_schema(name: str) -> KeypointSchema:
    try:
        values = json.loads(name.removeprefix(OWN_PREFIX))
        names = tuple(values["names"])
        pairs, edges, ranges = (tuple((a, b) for a, b in values[key]) for key in ("flip_pairs", "edges", "ranges"))
        known = dict(zip(SCHEMAS["pose17"].names, SCHEMAS["pose17"].sigmas or (), strict=True))
        sigmas = tuple(known[k] for k in names) if set(names) <= set(known) else (DEFAULT_SIGMA,) * len(names)
        classes, can_flip = tuple(values["classes"]), bool(values["can_flip"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"MODEL.KEYPOINT.SCHEMA is {name[:80]!r}, which describes no keypoints: {error!r}") from None
    schema = KeypointSchema(name, names, classes, pairs, edges, ranges, "coco", sigmas=sigmas, can_flip=can_flip)
    return check_schema(schema)


def check_schema(schema: KeypointSchema) -> KeypointSchema:
    """Return the schema unchanged.

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
        raise ValueError(f"the keypoint schema {schema.title} is inconsistent")
    if len(schema.ranges) != len(schema.class_names):
        raise ValueError(f"the keypoint schema {schema.title} needs one range per class")
    return schema


def register_schema(schema: KeypointSchema) -> KeypointSchema:
    """Add a schema to :data:`SCHEMAS`; returns it. Raises as :func:`check_schema`."""
    SCHEMAS[schema.name] = check_schema(schema)
    return schema
