"""The tools' own functions, and the comparison of runs from the command line."""

from __future__ import annotations

import sys

import cv2
import landmark_report
import numpy as np
import pytest
import torch
import visualize_data
from demo import to_json
from detectron2.structures import Boxes, Instances

from centernet_d2.data.datasets.custom import register_custom_datasets
from centernet_d2.data.landmarks import CLOTHES294
from centernet_d2.evaluation.landmark_errors import FaceError, write_errors
from tests.tiny import tiny_cfg


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


def test_faults_are_sentences(tmp_path, monkeypatch):
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


def test_the_demo_writes_a_garments_own_landmarks():
    instances = Instances((100, 100), pred_boxes=Boxes(torch.zeros(1, 4)), scores=torch.tensor([0.9]))
    instances.pred_classes, instances.pred_keypoints = torch.tensor([8]), torch.arange(294.0 * 3).reshape(1, 294, 3)
    (entry,) = to_json(instances, list(CLOTHES294.class_names), 0.3, CLOTHES294)
    assert (entry["category"], entry["first_keypoint"], len(entry["keypoints"])) == ("skirt", 182, 8)
    assert entry["keypoints"][0] == [546, 547, 548]
    (whole,) = to_json(instances, None, 0.3)
    assert len(whole["keypoints"]) == 294 and whole["first_keypoint"] == 0


def test_target_maps_are_drawn_as_heatmaps():
    """A channel per class and point becomes one per class; landmark channels stay."""
    maps = {"heatmap": torch.full((1, 6, 4, 5), -20.0), "offset": torch.zeros(1, 2, 4, 5)}
    maps["heatmap"][0, 3, 1, 2] = 20
    (classes,) = visualize_data.class_heatmaps(tiny_cfg(), maps)
    assert np.argwhere(classes > 0.5).tolist() == [[1, 1, 2]]
    maps["landmark_heatmap"] = torch.zeros(1, 68, 4, 5)
    assert [x.shape for x in visualize_data.class_heatmaps(tiny_cfg(), maps)] == [(3, 4, 5), (68, 4, 5)]
    assert visualize_data.class_heatmaps(tiny_cfg(), {"offset": maps["offset"]}) == []


@pytest.mark.parametrize("draw", [visualize_data.draw_annotations, visualize_data.draw_loader])
def test_data_with_landmarks_can_be_drawn(draw, shared_data):
    folder = shared_data / "faces68"
    cfg = tiny_cfg(
        *("MODEL.KEYPOINT_ON", True, "MODEL.CENTERNET.TASK", "LandmarkHeatmapTask", "DATALOADER.NUM_WORKERS", 0),
        *("MODEL.CENTERNET.NUM_CLASSES", 1, "DATASETS.TRAIN", ("tools_faces68",), "DATASETS.TEST", ()),
        *("DATASETS.CUSTOM", [["tools_faces68", "face68", str(folder / "val.json"), str(folder / "val")]]),
    )
    register_custom_datasets(cfg)
    picture = next(draw(cfg))
    assert picture.dtype == np.uint8 and picture.shape[0] >= 400
    # The jaw's colour, which is nowhere in a photo of a face.
    jaw = np.abs(picture.astype(int) - [255, 190, 60]).max(axis=2) < 40
    assert jaw.sum() > 50
