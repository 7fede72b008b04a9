"""Figures of four faces by hand, subsets, tables, and the file that keeps them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from centernet_d2.evaluation.keypoints.errors import (
    FaceError,
    compute_percentages,
    format_tables,
    group_by_subset,
    read_errors,
    summarize,
    write_errors,
)


def make_face(distance: float | None, score: float | None, subset: str | None = None, **changes) -> FaceError:
    lengths = {"inter_ocular": 10.0, "inter_pupil": None, "box_diagonal": 20.0, "box_size": 40.0, **changes}
    return FaceError(1, "a.png", 0, subset, lengths, distance, score, None if score is None else [[1.0, 2.0, 0.5]])


FACES = [
    make_face(1.0, 0.9, "a"),
    make_face(1.05, 0.31, "b", box_diagonal=None),
    make_face(0.81, 0.3, "b"),
    make_face(None, None, "b"),
]


def read_rows(text: str) -> list[list[str]]:
    """Return the cells below the head of a table."""
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in text.splitlines() if row.startswith("|")][2:]


def test_figures_by_hand():
    """Errors of 10, 10.5 and 8.1 % between the eyes, of 2.5, 2.625 and 2.025 % of the box; one face is missed."""
    expected = {
        "faces": 4,
        "missed": 25,
        "reference_missed": 50,
        "NME_inter_ocular": math.inf,
        "NME_inter_ocular_found": 28.6 / 3,
        "not_normalized_inter_ocular": 0,
        "FR8_inter_ocular": 100,
        "FR10_inter_ocular": 50,
        "AUC8_inter_ocular": 0,
        "AUC10_inter_ocular": 100 * 0.19 / 4,
        "NME_box_diagonal": math.inf,
        "NME_box_diagonal_found": 9.05 / 2,
        "FR8_box_diagonal": 100 / 3,
        "FR10_box_diagonal": 100 / 3,
        "not_normalized_box_diagonal": 25,
        "AUC8_box_diagonal": 100 * (2 - 9.05 / 8) / 3,
        "AUC10_box_diagonal": 100 * (2 - 9.05 / 10) / 3,
        "NME_box_size": math.inf,
        "NME_box_size_found": 7.15 / 3,
        "FR8_box_size": 25,
        "FR10_box_size": 25,
        "AUC8_box_size": 100 * (3 - 7.15 / 8) / 4,
        "AUC10_box_size": 100 * (3 - 7.15 / 10) / 4,
        # Of the first two faces, whose scores are above 0.3.
        "not_normalized_box_size": 0,
        "reference_NME_inter_ocular": 10.25,
        "reference_FR10_inter_ocular": 50,
    }
    assert summarize(FACES) == pytest.approx(expected)


def test_subsets_have_figures_of_their_own():
    groups = group_by_subset(FACES)
    assert {name: len(faces) for name, faces in groups.items()} == {"": 4, "a": 1, "b": 3}
    assert list(group_by_subset(FACES[1:])) == [""] and list(group_by_subset([make_face(1.0, 0.5)] * 2)) == [""]
    assert compute_percentages(FACES[:3], "box_diagonal").tolist() == pytest.approx([5, 4.05])


def test_tables_have_a_row_of_each_normalizer_and_group():
    text = format_tables({name or "all": summarize(faces) for name, faces in group_by_subset(FACES).items()})
    ours, reference = text.split("The reference's figures")
    rows = read_rows(ours)
    assert [row[:2] for row in rows] == [
        [name, group] for name in ("inter_ocular", "box_diagonal", "box_size") for group in ("all", "a", "b")
    ]
    assert rows[0][2:] == ["4", "25.00", "0.00", "9.53", "100.00", "50.00", "0.00", "4.75"]
    rows = read_rows(reference)
    assert rows[0] == ["inter_ocular", "all", "50.00", "10.25", "50.00"] and len(rows) == 3


def test_what_is_written_is_read(tmp_path):
    further = {"a": math.nan, "b": [1.0, math.inf], "c": {"d": 2.5}}
    write_errors(tmp_path / "a.json", FACES, further=further)
    assert read_errors(tmp_path / "a.json") == FACES
    data = json.loads((tmp_path / "a.json").read_text())
    assert data["further"] == {"a": None, "b": [1.0, None], "c": {"d": 2.5}}
    with pytest.raises(FileNotFoundError):
        read_errors(tmp_path / "b.json")
    assert np.isnan(make_face(1.0, 0.5, inter_ocular=None).compute_error("inter_ocular"))
    assert make_face(None, None).compute_error("box_size") == math.inf
