"""The tables of landmarks: rules that they keep, and the official numbers."""

from __future__ import annotations

import json
import uuid
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import MetadataCatalog
from detectron2.data.detection_utils import create_keypoint_hflip_indices

from centernet_d2.data.schemas import CLOTHES294, EXTREME4, FACE5, FACE19, FACE68, SCHEMAS, KeypointSchema
from centernet_d2.data.schemas.face5 import from_face68
from centernet_d2.structures.keypoint_schema import register_schema

WITH_CLASSES = {name: schema for name, schema in SCHEMAS.items() if schema.class_names}
OWN = pytest.mark.parametrize("schema", WITH_CLASSES.values(), ids=WITH_CLASSES)
ALL = pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)


@OWN
def test_ranges_follow_each_other_and_flips_and_lines_stay_inside(schema: KeypointSchema) -> None:
    bounds = [0, *(end for _, end in schema.ranges)]
    assert list(schema.ranges) == list(pairwise(bounds)) and bounds[-1] == len(schema)
    owner = np.repeat(np.arange(len(schema.ranges)), np.diff(bounds))
    indices = schema.flip_indices()
    assert (indices[indices] == np.arange(len(schema))).all()
    assert (owner[indices] == owner).all()
    assert (indices != np.arange(len(schema))).sum() == 2 * len(schema.flip_pairs)
    assert all(len(set(owner[list(line)])) == 1 for line in schema.chains)


@ALL
def test_a_line_is_flipped_to_a_line(schema: KeypointSchema) -> None:
    """The skeleton of a flipped image is the flipped skeleton."""
    indices = schema.flip_indices()
    edges = {frozenset(edge) for line in schema.chains for edge in pairwise(line)}
    flipped = {frozenset(int(indices[k]) for k in edge) for edge in edges}
    assert edges == flipped


@ALL
def test_metadata_is_detectron2s(schema: KeypointSchema) -> None:
    name = f"test_schemas_{uuid.uuid4().hex}"
    metadata = MetadataCatalog.get(name).set(**schema.to_metadata())
    assert create_keypoint_hflip_indices(name) == schema.flip_indices().tolist()
    known = set(metadata.keypoint_names)
    assert len(known) == len(schema)
    assert all({a, b} <= known and len(color) == 3 for a, b, color in metadata.keypoint_connection_rules)


@OWN
def test_coco_categories(schema: KeypointSchema) -> None:
    categories = schema.to_coco_categories()
    assert [entry["id"] for entry in categories] == list(range(1, len(schema.class_names) + 1))
    assert [entry["name"] for entry in categories] == list(schema.class_names)
    assert all(entry["keypoints"] == list(schema.names) for entry in categories)
    edges = [(a - 1, b - 1) for a, b in categories[0]["skeleton"]]
    assert edges == [edge for line in schema.chains for edge in pairwise(line)]


def test_clothes_have_the_keypoints_of_the_publication() -> None:
    counts = [end - first for first, end in CLOTHES294.ranges]
    assert counts == [25, 33, 31, 39, 15, 15, 10, 14, 8, 29, 37, 19, 19] and sum(counts) == len(CLOTHES294) == 294
    assert CLOTHES294.sigmas is not None and len(CLOTHES294.sigmas) == 294
    # Flip pairs are equally hard to place; the official table has three exceptions, two in the front of an open
    # clothing item.
    sigmas = np.array(CLOTHES294.sigmas)
    unequal = [(a, b) for a, b in CLOTHES294.flip_pairs if sigmas[a] != sigmas[b]]
    assert unequal == [(59, 83), (61, 63), (233, 247)]


def test_clothes_agree_with_the_official_tables(shared_data: Path) -> None:
    file = shared_data.parent / "spec" / "deepfashion2_tables.json"
    if not file.is_file():
        pytest.skip(f"no tables at {file}")
    tables = json.loads(file.read_text())
    assert [[first, end - 1] for first, end in CLOTHES294.ranges] == list(tables["category_ranges"].values())
    assert sorted(map(list, CLOTHES294.flip_pairs)) == sorted(tables["flip_pairs_0based"])
    assert CLOTHES294.sigmas == tuple(tables["oks_sigmas"])


def test_a_flipped_face_exchanges_left_and_right() -> None:
    center = [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]
    indices = FACE68.flip_indices()
    assert np.flatnonzero(indices == np.arange(68)).tolist() == center and len(FACE68.flip_pairs) == 29
    assert indices[[0, 17, 36, 37, 40, 41, 31, 48, 60]].tolist() == [16, 26, 45, 44, 47, 46, 35, 54, 64]
    for schema in (FACE68, FACE19):
        assert schema.outer_eye_corners is not None and schema.pupils is not None and schema.nose_tip is not None
        indices = schema.flip_indices()
        right, left = schema.outer_eye_corners
        assert indices[right] == left and indices[schema.nose_tip] == schema.nose_tip
        assert set(indices[list(schema.pupils[0])]) == set(schema.pupils[1])


def test_faces_as_annotated_look_like_their_flipped_images(shared_data: Path) -> None:
    """The mean of many real faces, that turn either way, is symmetric."""
    data = json.loads((shared_data / "faces68" / "val.json").read_text())
    points = np.array([a["keypoints"] for a in data["annotations"]], dtype=float).reshape(-1, 68, 3)[..., :2]
    centered = points - points.mean(axis=1, keepdims=True)
    mean = (centered / np.linalg.norm(centered, axis=(1, 2), keepdims=True)).mean(axis=0)
    flipped = mean[FACE68.flip_indices()] * (-1, 1)
    assert np.abs(mean - flipped).max() < 0.05 * np.ptp(mean[:, 0])


def test_five_points_of_68() -> None:
    """Eyes, nose and mouth by hand; flipped 68 points give the flipped five."""
    points = np.random.default_rng(0).uniform(0, 100, (3, 68, 2))
    five = from_face68(points)
    assert five.shape == (3, 5, 2) and FACE5.names[2] == "nose"
    assert five[1, 0] == pytest.approx(np.mean([points[1, k] for k in (36, 37, 38, 39, 40, 41)], axis=0))
    assert np.array_equal(five[2, 2:], points[2, [30, 48, 54]])
    flipped = from_face68(points[:, FACE68.flip_indices()] * (-1, 1))
    assert flipped == pytest.approx(five[:, FACE5.flip_indices()] * (-1, 1))


def test_extreme_points_belong_to_any_class() -> None:
    assert (
        EXTREME4.class_names == ()
        and EXTREME4.get_class_range(79) == (0, 4)
        and CLOTHES294.get_class_range(1) == (25, 58)
    )
    assert EXTREME4.flip_indices().tolist() == [0, 3, 2, 1]


def test_inconsistent_schemas_are_refused() -> None:
    names = {"name": "x", "names": ("a", "b"), "class_names": ("c",), "evaluator": "coco"}
    good = {**names, "chains": (), "ranges": ((0, 2),)}
    register_schema(KeypointSchema(**good, flip_pairs=((0, 1),)))
    for pairs in (((0, 2),), ((0, 1), (1, 0)), ((-1, 0),)):
        with pytest.raises(ValueError, match="the keypoint schema x is inconsistent"):
            register_schema(KeypointSchema(**good, flip_pairs=pairs))
    with pytest.raises(ValueError, match="one range per class"):
        register_schema(KeypointSchema(**{**good, "ranges": ()}, flip_pairs=()))
