"""What holds for all transforms, codings and label files, on random ones. `make test-reliability` draws many more."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("hypothesis")
from hypothesis import given
from hypothesis import strategies as st

from centernet_d2.data.datasets.coco import read_coco
from centernet_d2.data.formats.labels import FORMATS, read_labels
from centernet_d2.data.formats.labels.label_set import LabelSetBuilder
from centernet_d2.data.formats.pts import read_pts
from centernet_d2.data.formats.voc_xml import read_voc_xml
from centernet_d2.data.transforms.affine import AffineTransform
from centernet_d2.data.validation.issues import AnnotationError
from centernet_d2.geometry import build_affine_matrix, flip_matrix
from centernet_d2.modeling.heads.box3d_orientation import decode_angle, encode_angle
from centernet_d2.ops.box3d_geometry import project, unproject, wrap_angle
from centernet_d2.ops.grid_coding import compute_grid_points, encode_size, flip_grid_points
from centernet_d2.ops.lsnet.landmark_vectors import decode_vectors, encode_vectors
from tests.helpers.files import pts_text, write_image

sides = st.integers(1, 2000)
place = st.floats(-500, 2500)
angles = st.floats(-180, 180)
# Of the smallest numbers there is, a fraction of one is itself.
lengths = st.floats(-1e3, 1e3, allow_subnormal=False)
matrices = st.builds(
    build_affine_matrix, st.tuples(place, place), st.floats(0.05, 8), angles, st.tuples(sides, sides), st.booleans()
)
points = st.lists(st.tuples(place, place), min_size=1, max_size=8).map(lambda x: np.array(x, dtype=np.float64))
boxes = st.tuples(place, place, st.floats(0.5, 900), st.floats(0.5, 900)).map(
    lambda x: torch.tensor([x[0], x[1], x[0] + x[2], x[1] + x[3]], dtype=torch.float64)
)


@given(matrices, points)
def test_the_inverse_brings_points_back(matrix, where):
    transform = AffineTransform(matrix, (64, 64))
    np.testing.assert_allclose(transform.inverse().apply_coords(transform.apply_coords(where)), where, atol=1e-6)


@given(matrices, points, sides)
def test_flipping_twice_changes_nothing(matrix, where, width):
    transform = AffineTransform(flip_matrix(flip_matrix(matrix, width), width), (64, 64))
    np.testing.assert_allclose(transform.apply_coords(where), where @ matrix[:, :2].T + matrix[:, 2], atol=1e-9)


@given(matrices, boxes)
def test_a_warped_box_is_the_smallest_around_the_warped_corners(matrix, box):
    x1, y1, x2, y2 = box.tolist()
    corners = np.array([[x1, y1], [x2, y1], [x1, y2], [x2, y2]]) @ matrix[:, :2].T + matrix[:, 2]
    (warped,) = AffineTransform(matrix, (64, 64)).apply_box(np.array([[x1, y1, x2, y2]]))
    np.testing.assert_allclose(warped, [*corners.min(axis=0), *corners.max(axis=0)], atol=1e-6)


@given(boxes, st.sets(st.integers(0, 8), min_size=1), sides, st.sampled_from(["wh", "lt", "ltrb", "log_wh"]))
def test_warp_then_encode_is_encode_then_warp(box, flags, width, encoding):
    """For the flip, which exchanges points of the grid; distances to the left become those to the right."""
    flags = sorted(flags)
    x1, y1, x2, y2 = box.unbind()
    flipped = torch.stack([width - x2, y1, width - x1, y2])
    partners = flip_grid_points(flags)
    seen, expected = compute_grid_points(flipped, partners), compute_grid_points(box, flags)
    torch.testing.assert_close(seen, torch.stack([width - expected[:, 0], expected[:, 1]], dim=-1), atol=1e-6, rtol=0)
    sizes, of_flipped = encode_size(box, flags, encoding), encode_size(flipped, partners, encoding)
    order = [2, 1, 0, 3] if encoding == "ltrb" else [0, 1]
    if encoding == "lt":  # from the other side
        sizes = torch.stack([(x2 - x1) - sizes[:, 0], sizes[:, 1]], dim=-1)
    torch.testing.assert_close(of_flipped, sizes[:, order], atol=1e-6, rtol=0)


@given(st.lists(st.tuples(lengths, lengths), min_size=1), st.floats(0.0, 0.9))
def test_landmarks_come_back_from_their_vectors(displacements, alpha):
    given_ = torch.tensor(displacements, dtype=torch.float64)
    assert torch.equal(decode_vectors(encode_vectors(given_, alpha)).abs(), given_.abs())
    large = given_.abs() > 0
    assert torch.equal(decode_vectors(encode_vectors(given_, alpha))[large], given_[large])


@given(st.floats(-math.pi, math.pi))
def test_an_angle_comes_back_from_its_channels(angle):
    given_ = torch.tensor([angle], dtype=torch.float64)
    away = wrap_angle(decode_angle(encode_angle(given_)) - given_).abs()
    assert min(float(away), 2 * math.pi - float(away)) < 1e-5


@given(st.tuples(st.floats(-60, 60), st.floats(-5, 5), st.floats(1, 90)))
def test_a_location_comes_back_from_the_image(location):
    rows = [[707.0, 0.0, 604.0, 45.7], [0.0, 707.0, 180.5, -0.3], [0.0, 0.0, 1.0, 0.005]]
    calibration, given_ = torch.tensor(rows, dtype=torch.float64), torch.tensor(location, dtype=torch.float64)
    torch.testing.assert_close(unproject(project(given_, calibration), calibration), given_, atol=1e-6, rtol=0)


#: x, y, width, height in the 200x100 image, and class.
objects = st.lists(
    st.tuples(
        st.floats(0, 150), st.floats(0, 60), st.floats(1, 50), st.floats(1, 40), st.sampled_from(["cat", "a dog"])
    ),
    max_size=5,
)


@pytest.mark.parametrize("name", FORMATS)
@given(rows=objects)
def test_boxes_survive_a_label_format(name, rows):
    with TemporaryDirectory() as folder:
        write_image(Path(folder, "a", "one.png"), 200, 100)
        builder = LabelSetBuilder(Path(folder, "a"), ["cat", "a dog"])
        image = builder.add_image("one.png")
        for x, y, w, h, label in rows:
            builder.add_object(image, label, box=[x, y, x + w, y + h])
        FORMATS[name].write(builder.finish(), Path(folder, "b"))
        labels = read_labels(Path(folder, "b"), name)
        assert not labels.issues
        names = labels.get_class_names()
        found = [(*one["bbox"], names[one["category_id"]]) for _, ones in labels.list_objects() for one in ones]
        assert len(found) == len(rows)
        for one, expected in zip(found, rows, strict=True):
            # DOTA has no blanks.
            assert one[4].replace("_", " ") == expected[4] and one[:4] == pytest.approx(expected[:4], abs=1e-3)


words = st.one_of(
    st.text(max_size=8), st.floats().map(repr), st.integers().map(str), st.sampled_from(["nan", "1_0", "\uff11", ""])
)


@given(st.lists(st.lists(words, max_size=3), max_size=4), st.integers(0, 5))
def test_landmark_files_are_read_or_named(lines, place_):
    """Never anything but points or an issue, whatever stands in the file."""
    text = pts_text([[1, 2], [3, 4]]).split("\n")
    text[place_:place_] = [" ".join(line) for line in lines]
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.pts")
        path.write_text("\n".join(text), encoding="utf-8", errors="replace")
        where, issues = read_pts(path, 2)
    assert (where is None) == bool(issues) and (where is None or np.isfinite(where).all())


@given(words, words, words)
def test_voc_files_are_read_or_named(first, second, label):
    text = f"<annotation><object><name>{label}</name><bndbox><xmin>{first}</xmin><ymin>1</ymin><xmax>{second}</xmax>"
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.xml")
        path.write_text(f"{text}<ymax>9</ymax></bndbox></object></annotation>", encoding="utf-8", errors="replace")
        image, issues = read_voc_xml(str(path))
    assert len(image.objects) + len(issues) == 1
    assert all(math.isfinite(value) for one in image.objects for value in one.bbox)


values: Any = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just([]), st.just({}), st.just([1, 2])
)


@given(values, st.integers(0, 12), st.booleans())
def test_coco_files_are_read_or_named(value, number, remove):
    """One value of a sound file is replaced, or removed."""
    image = {"id": 1, "file_name": "a.png", "height": 80, "width": 100}
    entry = {"id": 5, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40], "area": 1200, "iscrowd": 0}
    data = copy.deepcopy({"images": [image], "annotations": [entry], "categories": [{"id": 1, "name": "x"}]})
    places: list[tuple[Any, str]] = [(data, key) for key in data]
    places += [(part, key) for key in data for part in data[key] for key in list(part)]
    owner, key = places[number % len(places)]
    if remove:
        del owner[key]
    else:
        owner[key] = value
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.json")
        path.write_text(json.dumps(data))
        try:
            coco = read_coco(str(path), folder)
        except AnnotationError:
            return
    for one in coco.dataset_dicts if not coco.issues else ():
        assert all(a["category_id"] == 0 and np.isfinite(a["bbox"]).all() for a in one["annotations"])
