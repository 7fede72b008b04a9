"""Faces as entries of a COCO file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from centernet_d2.data.preparation.faces import convert_pts
from tests.helpers.files import face_points, pts_text, write_image


def test_object_of_a_face(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg")
    (tmp_path / "a.pts").write_text(pts_text(face_points()))
    result = convert_pts(tmp_path, "a.jpg", tmp_path / "a.pts", subset="common")
    assert result.image == {"file_name": "a.jpg", "height": 80, "width": 100, "subset": "common"}
    assert not result.issues
    (face,) = result.objects
    points = np.reshape(face["keypoints"], (68, 3))
    np.testing.assert_array_equal(points[:, :2], face_points())
    assert set(points[:, 2]) == {2}
    x, y, width, height = face["bbox"]
    (x1, y1), (x2, y2) = face_points().min(axis=0) + 0.5, face_points().max(axis=0) + 0.5
    np.testing.assert_allclose([x, y, x + width, y + height], [x1, y1, x2, y2], atol=1e-3)
    np.testing.assert_allclose(face["area"], (x2 - x1) * (y2 - y1), atol=1e-3)
    assert (face["num_keypoints"], face["iscrowd"], face["category_id"]) == (68, 0, 1)


def test_points_outside(tmp_path: Path) -> None:
    """The image is 100 wide: from -0.5 to 99.5; a fifth of it is 20."""
    write_image(tmp_path / "a.jpg")
    points = face_points()
    cases: list[tuple[float, int, str]] = [
        *[(-0.5, 68, ""), (-20.4, 34, ""), (119.4, 34, "")],
        *[(-20.6, 1, "one is far outside the 100x80 image, at (-20.6, "), (119.6, 1, "one is far outside")],
        *[(-0.6, 35, "35 of 68 are outside the 100x80 image"), (99.6, 68, "68 of 68 are outside")],
    ]
    for x, number, problem in cases:
        moved = points.copy()
        moved[:number, 0] = x
        moved[-1, 0] += number == 68 and problem == ""
        (tmp_path / "a.pts").write_text(pts_text(moved))
        result = convert_pts(tmp_path, "a.jpg", tmp_path / "a.pts")
        assert len(result.objects) == (problem == "")
        assert [f.problem[: len(problem)] for f in result.issues] == ([problem] if problem else [])


def test_face_without_extent(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg")
    (tmp_path / "a.pts").write_text(pts_text(np.full((68, 2), 5.0)))
    result = convert_pts(tmp_path, "a.jpg", tmp_path / "a.pts")
    assert [str(issue) for issue in result.issues] == [
        f"{tmp_path}/a.pts, box: from (5.5, 5.5) to (5.5, 5.5) has no area"
    ]
    assert result.image is None
