""".pts files: real ones, and every way of being corrupt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from centernet_d2.data.formats.pts import read_pts
from tests.helpers.files import face_points, pts_text

GOOD = pts_text(face_points())


def test_real_files(shared_data: Path) -> None:
    for path in sorted((shared_data / "300vw").glob("*/annot/*.pts")):
        points, issues = read_pts(path, 68)
        numbers = [float(number) for number in path.read_text().split("{")[1].split("}")[0].split()]
        np.testing.assert_array_equal(points, np.reshape(numbers, (68, 2)) - 1)
        assert issues == []


def test_lines_of_any_system_and_blank_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.pts"
    for text in (GOOD, GOOD.replace("\n", "\r\n"), GOOD + "\n \n\n", GOOD.rstrip(), GOOD.replace(" 1", "  \t1")):
        path.write_bytes(text.encode())
        points, issues = read_pts(path, 68)
        np.testing.assert_allclose(points, face_points(), atol=1e-9)
        assert issues == []


ERRORS = {
    "version": [
        GOOD.replace("version: 1", "version: 2"),
        GOOD.split("\n", 1)[1],
        "",
        GOOD.replace("version", "Version"),
    ],
    "n_points": [
        pts_text(face_points(count=67)),
        GOOD.replace("n_points:  68", "n_points: 67"),
        GOOD.replace("n_points:  68", "n_points: many"),
        GOOD.replace("n_points:  68\n", ""),
        "version: 1",
    ],
    "points": [
        GOOD.replace("}", ""),
        GOOD.replace("{", ""),
        GOOD.replace("{\n", "{\nnan 3\n", 1).replace("68", "69"),
        GOOD.replace("{\n", "{\n1e999 3\n", 1),
        GOOD.replace("{\n", "{\nten 3\n", 1),
        GOOD.replace("{\n", "{\n3\n", 1),
        GOOD.replace("{\n", "{\n1 2 3\n", 1),
    ],
}


@pytest.mark.parametrize(("field", "text"), [(field, text) for field, texts in ERRORS.items() for text in texts])
def test_errors_have_file_and_field(tmp_path: Path, field: str, text: str) -> None:
    path = tmp_path / "a.pts"
    path.write_text(text)
    points, (issue,) = read_pts(path, 68)
    assert points is None
    assert (issue.file, issue.field) == (str(path), field)
    assert "\n" not in str(issue)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.pts").write_bytes(b"\xff\xfe\x00version: 1")
    (tmp_path / "b.pts").mkdir()
    for name, problem in (("a", "is not text"), ("b", "cannot be read"), ("c", "does not exist")):
        _, (issue,) = read_pts(tmp_path / f"{name}.pts", 68)
        assert str(issue).startswith(f"{tmp_path / name}.pts, file: {problem}")
