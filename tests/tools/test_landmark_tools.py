"""The tools' own functions, and the comparison of runs from the command line."""

from __future__ import annotations

import sys

import cv2
import landmark_report
import pytest
import torch
from detectron2.structures import Boxes, Instances

from centernet_d2.data.schemas import CLOTHES294
from centernet_d2.evaluation.keypoints.errors import FaceError, write_errors
from centernet_d2.visualization.canvas import VisMetadata
from centernet_d2.visualization.visualizer import Visualizer


def write_run(path, distances, subsets=(None,)) -> str:
    normalizers = dict.fromkeys(("inter_ocular", "inter_pupil", "box_diagonal", "box_size"), 50.0)
    faces = [
        FaceError(i, "a.jpg", 0, subsets[i % len(subsets)], normalizers, distance, None if distance is None else 0.9)
        for i, distance in enumerate(distances)
    ]
    write_errors(path, faces)
    return str(path)


def run(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["landmark_report.py", *arguments])
    landmark_report.main()


def row(text: str, name: str) -> list[str]:
    (line, *_) = [line for line in text.splitlines() if f"| {name} " in line]
    return [cell.strip() for cell in line.split("|")[3:-1]]


def test_runs_are_compared(tmp_path, monkeypatch, capsys):
    one = write_run(tmp_path / "1.json", [1.0, 2.0, None, 4.5], ("common", "challenge"))
    two = write_run(tmp_path / "2.json", [0.0, 0.0])
    figure = tmp_path / "new" / "curves.png"
    run(monkeypatch, f"first={one}", f"second={two}", "--output", str(figure))
    text = capsys.readouterr().out
    # Errors 2, 4, infinite and 9 %.
    assert row(text, "first") == ["4", "25.00", "0.00", "5.00", "50.00", "25.00", "31.25", "37.50"]
    assert row(text, "first, common") == ["2", "50.00", "0.00", "2.00", "50.00", "50.00", "37.50", "40.00"]
    assert row(text, "second")[3:] == ["0.00", "0.00", "0.00", "100.00", "100.00"]
    assert cv2.imread(str(figure)).shape[0] > 300
    run(monkeypatch, f"first={one}", "--subset", "challenge", "--output", str(figure))
    assert "first, common" not in capsys.readouterr().out


def test_errors_are_sentences(tmp_path, monkeypatch):
    one = write_run(tmp_path / "1.json", [1.0])
    for arguments, sentence in (
        ([f"a={one}", f"a={one}"], "two runs are called a"),
        ([f"a={one}", "--subset", "common"], r"1\.json has no subset 'common' \(none at all\)"),
        ([f"a={tmp_path / 'absent.json'}"], r"absent\.json"),
    ):
        with pytest.raises(SystemExit, match=sentence):
            run(monkeypatch, *arguments)
    with pytest.raises(SystemExit):
        run(monkeypatch, one)


def test_the_demo_writes_a_clothing_own_keypoints():
    instances = Instances((100, 100), pred_boxes=Boxes(torch.zeros(1, 4)), scores=torch.tensor([0.9]))
    instances.pred_classes, instances.pred_keypoints = torch.tensor([8]), torch.arange(294.0 * 3).reshape(1, 294, 3)
    (entry,) = Visualizer(VisMetadata(list(CLOTHES294.class_names), CLOTHES294)).describe(instances)
    assert (entry["category"], entry["first_keypoint"], len(entry["keypoints"])) == ("skirt", 182, 8)
    assert entry["keypoints"][0] == [546, 547, 548]
    (whole,) = Visualizer().describe(instances)
    assert len(whole["keypoints"]) == 294 and whole["first_keypoint"] == 0
