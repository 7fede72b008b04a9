"""Keypoints of one's own: a schema from the categories of a COCO file, without code."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from centernet_d2.data.datasets.coco import CocoFile, read_coco, set_coco_metadata
from centernet_d2.data.image_io import DatasetDict
from centernet_d2.data.schemas.flip_pairs import Pair, infer_flip_pairs
from centernet_d2.data.validation.issues import AnnotationIssue, raise_issues
from centernet_d2.structures.keypoint_schema import KeypointSchema, make_own_schema

_logger = logging.getLogger(__name__)
FLIPS = ("auto", "always")


class KeypointSettings(NamedTuple):
    """``DATASETS.KEYPOINTS``: see ``config.defaults.input``."""

    flip_pairs: tuple[tuple[str, str], ...] = ()
    flip: str = "auto"
    box_margin: float = 0.1

    @classmethod
    def from_config(cls, cfg: CfgNode) -> KeypointSettings:
        """
        Raises:
            ValueError: a value that the key does not have.
        """
        keys = cfg.DATASETS.KEYPOINTS
        pairs = tuple(tuple(pair) if isinstance(pair, list | tuple) else (pair,) for pair in keys.FLIP_PAIRS)
        if not all(len(pair) == 2 and all(isinstance(name, str) for name in pair) for pair in pairs):
            raise ValueError(f"DATASETS.KEYPOINTS.FLIP_PAIRS is {keys.FLIP_PAIRS!r}, not pairs of keypoint names")
        if keys.FLIP not in FLIPS:
            raise ValueError(f"DATASETS.KEYPOINTS.FLIP is {keys.FLIP!r}, not one of {', '.join(FLIPS)}")
        if not keys.BOX_MARGIN >= 0:
            raise ValueError(f"DATASETS.KEYPOINTS.BOX_MARGIN is {keys.BOX_MARGIN}, not 0 or more")
        return cls(pairs, keys.FLIP, keys.BOX_MARGIN)


def register_own_coco(
    name: str, json_file: str, image_root: str, settings: KeypointSettings, evaluator_type: str = "coco"
) -> None:
    """Register a COCO file of one's own, with the keypoints that its categories name; it is read at first use."""
    DatasetCatalog.register(name, lambda: _load(name, json_file, image_root, settings, evaluator_type))
    MetadataCatalog.get(name).set(image_root=image_root, evaluator_type=evaluator_type)


def _load(
    name: str, json_file: str, image_root: str, settings: KeypointSettings, evaluator_type: str
) -> list[DatasetDict]:
    coco, schema = read_own_coco(json_file, image_root, settings)
    raise_issues(f"dataset {name}, {json_file}", coco.issues)
    values = {"image_root": image_root, "evaluator_type": evaluator_type, **(schema.to_metadata() if schema else {})}
    set_coco_metadata(name, coco, json_file, values)
    return coco.dataset_dicts


def read_own_coco(
    json_file: str, image_root: str, settings: KeypointSettings
) -> tuple[CocoFile, KeypointSchema | None]:
    """Read a COCO file and its keypoints' schema; raises as ``read_coco`` and :func:`use_own_keypoints`."""
    coco = read_coco(json_file, image_root, settings.box_margin)
    return coco, use_own_keypoints(coco, json_file, settings)


def use_own_keypoints(coco: CocoFile, json_file: str, settings: KeypointSettings) -> KeypointSchema | None:
    """Return the schema of the file's keypoints; None if no category names any.

    Each object gets the keypoints of all classes, those of others unlabeled, in place. Errors of the categories are
    added to ``coco.issues``, and None is returned then, too.

    Raises:
        ValueError: ``settings.flip_pairs`` names a keypoint that there is not.
    """
    own = [category.get("keypoints") or [] for category in coco.categories]
    errors = [error for category in coco.categories for error in _find_errors(category)]
    coco.issues += [AnnotationIssue(json_file, None, "categories", error) for error in errors]
    if errors or not any(own) or len(set(coco.class_names)) < len(own):
        return None
    schema = _build_schema(coco, own, settings)
    numbers = [number for number, names in enumerate(own) if names]
    coco.scores_itself &= len(own) == 1
    for dataset_dict in coco.dataset_dicts:
        for annotation in dataset_dict["annotations"]:
            first, end = schema.ranges[annotation["category_id"]]
            points = annotation.get("keypoints")
            coco.scores_itself &= points is not None
            if points is not None and len(points) != 3 * (end - first):
                problem = f"are {len(points) // 3} points, but the category has {end - first}"
                coco.issues.append(AnnotationIssue(dataset_dict["file_name"], annotation["id"], "keypoints", problem))
            elif len(numbers) > 1 or points is None or first == end:
                annotation["keypoints"] = [0.0] * 3 * len(schema)
                annotation["keypoints"][3 * first : 3 * end] = points or [0.0] * 3 * (end - first)
    return schema


def describe_own_keypoints(schema: KeypointSchema) -> list[str]:
    """Return lines that say the keypoints, flip pairs and sigmas."""
    names, lines = schema.names, []
    paired = {k for pair in schema.flip_pairs for k in pair}
    for name, (first, end) in zip(schema.class_names, schema.ranges, strict=True):
        lines.append(f"{name}: {end - first} keypoints" + (f" ({', '.join(names[first:end])})" if end > first else ""))
    pairs = ", ".join(f"{names[a]} - {names[b]}" for a, b in schema.flip_pairs)
    middle = ", ".join(name for k, name in enumerate(names) if k not in paired)
    if schema.can_flip:
        lines.append(f"exchanged in a flipped image: {pairs or 'none'}; the same: {middle or 'none'}")
    else:
        lines.append(
            "images are not flipped, because the names do not say what a flip exchanges (found: "
            f"{pairs or 'no pair'}): give DATASETS.KEYPOINTS.FLIP_PAIRS, or DATASETS.KEYPOINTS.FLIP always if every "
            "other keypoint lies on the axis of symmetry"
        )
    return [*lines, describe_sigmas(schema, ())]


def describe_sigmas(schema: KeypointSchema, given: Sequence[float]) -> str:
    """Return a line with the sigmas of object keypoint similarity, and where they come from."""
    sigmas = list(given or schema.sigmas or ())
    if not given and len(set(sigmas)) == 1:
        reason = "assumed for every keypoint: an error of a tenth of sqrt(area) has similarity 0.61"
        return f"OKS sigma {sigmas[0]:g}, {reason} (TEST.KEYPOINT_OKS_SIGMAS sets others)"
    source = "of TEST.KEYPOINT_OKS_SIGMAS" if given else "of COCO's keypoints of these names"
    return f"OKS sigmas {source}: " + ", ".join(f"{n} {s:g}" for n, s in zip(schema.names, sigmas, strict=False))


def _find_errors(category: dict[str, Any]) -> list[str]:
    names = category.get("keypoints") or []
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        return [f"{category['name']} has the keypoints {str(names)[:60]}, not a list of names"]
    return [f"{category['name']} names the keypoint {name!r} {n} times" for name, n in Counter(names).items() if n > 1]


def _build_schema(coco: CocoFile, own: list[list[str]], settings: KeypointSettings) -> KeypointSchema:
    counts = Counter(name for names in own for name in names)
    names: list[str] = []
    ranges, pairs, edges = [], [], []
    can_flip = True
    for category, keypoints in zip(coco.categories, own, strict=True):
        start = len(names)
        ranges.append((start, start + len(keypoints)))
        # The same name in two classes is two keypoints.
        names += [f"{category['name']}.{name}" if counts[name] > 1 else name for name in keypoints]
        lines = _read_edges(category, len(keypoints))
        found, alone = infer_flip_pairs(keypoints, lines)
        edges += [(start + a, start + b) for a, b in lines]
        if isinstance(category.get("flip_pairs"), list):  # of a format that says them
            found, alone, known = [(a, b) for a, b in category["flip_pairs"]], [], True
        else:
            known = bool(found) or len(keypoints) < 2
        pairs += [(start + a, start + b) for a, b in found]
        can_flip &= known and not alone
    if settings.flip_pairs:
        pairs = [(_find_name(a, names), _find_name(b, names)) for a, b in settings.flip_pairs]
    can_flip |= bool(settings.flip_pairs) or settings.flip == "always"
    return make_own_schema(names, coco.class_names, ranges, pairs, edges, can_flip)


def _find_name(name: str, names: list[str]) -> int:
    if name not in names:
        raise ValueError(f"DATASETS.KEYPOINTS.FLIP_PAIRS names the keypoint {name!r}, not one of {', '.join(names)}")
    return names.index(name)


def _read_edges(category: dict[str, Any], count: int) -> list[Pair]:
    """Return the skeleton's lines, counted from 0; lines to keypoints that there are not are left out, with a warning.

    COCO counts from 1. A skeleton with a 0 counts from 0.
    """
    skeleton = category.get("skeleton") or []
    try:
        lines = [(int(a), int(b)) for a, b in skeleton]
    except (TypeError, ValueError):
        _logger.warning("The skeleton of %s is not a list of pairs, and is not drawn", category["name"])
        return []
    first = 0 if any(0 in line for line in lines) else 1
    edges = [(a - first, b - first) for a, b in lines if first <= min(a, b) and max(a, b) < count + first]
    if len(edges) < len(lines):
        _logger.warning("The skeleton of %s has lines to keypoints that it does not have", category["name"])
    return edges
