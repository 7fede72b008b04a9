"""The demo from the command line, with a network that finds what the test says."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import demo
import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from centernet_d2.video import Video
from tests.video.test_reading import fake
from tests.videos import number_of, write_video

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "Synthetic" / "shapes_1pt.yaml"


class Predictor:
    """Finds one object, whose left side is the number of the frame, and one that is not probable enough."""

    fails_at: int | None = None

    def __init__(self, cfg) -> None:
        pass

    def __call__(self, image):
        number = number_of(image)
        if number == self.fails_at:
            raise RuntimeError(f"the network fails at {number}")
        found = Instances(image.shape[:2])
        found.pred_boxes = Boxes(torch.tensor([[number, 10.0, 60.0, 50.0], [0.0, 0.0, 9.0, 9.0]]))
        found.scores, found.pred_classes = torch.tensor([0.9, 0.1]), torch.tensor([1, 0])
        return {"instances": found}


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs the demo into ``tmp_path/out``; gives the exit status."""
    monkeypatch.setattr(demo, "DefaultPredictor", Predictor)
    monkeypatch.setattr(demo, "open_window", lambda title: (None, "there is no screen"))

    def go(*inputs, options=()) -> int:
        command = ["demo.py", "--config-file", str(CONFIG), "--input", *map(str, inputs)]
        monkeypatch.setattr(sys, "argv", [*command, "--output", str(tmp_path / "out"), *options])
        return demo.main()

    return go


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def picture(path: Path, number: int = 2) -> Path:
    cv2.imwrite(str(path), np.full((80, 100, 3), 8 * number + 8, np.uint8))
    return path


def test_pictures_and_videos_side_by_side(run, tmp_path, capsys):
    inputs = picture(tmp_path / "a.png"), write_video(tmp_path / "clip.avi", 8), write_video(tmp_path / "clip.mp4", 3)
    assert run(*inputs) == 0
    out = tmp_path / "out"
    assert {p.name for p in out.iterdir()} == {
        *("a.jpg", "results.json", "clip.mp4", "clip.jsonl", "clip_2.mp4", "clip_2.jsonl")
    }
    (result,) = json.loads((out / "results.json").read_text())
    assert (result["picture"], result["height"], result["width"]) == ("a.jpg", 80, 100)
    entry = {"category_id": 1, "category": "rectangle", "score": 0.9, "box": [2.0, 10.0, 60.0, 50.0]}
    assert result["objects"] == [entry]
    lines = lines_of(out / "clip.jsonl")
    assert [line["frame"] for line in lines] == list(range(8)) == [line["objects"][0]["box"][0] for line in lines]
    assert len(list(Video(str(out / "clip.mp4")).frames())) == 8 and len(lines_of(out / "clip_2.jsonl")) == 3
    printed = capsys.readouterr().out
    assert "no window: there is no screen" in printed and "clip.avi: 8 of 8 frames" in printed


def test_a_box_is_drawn_into_the_film(run, tmp_path):
    assert run(write_video(tmp_path / "clip.avi", 2, (640, 480))) == 0
    source = list(Video(str(tmp_path / "clip.avi")).frames())
    film = list(Video(str(tmp_path / "out" / "clip.mp4")).frames())
    assert film[0].image.shape == (480, 640, 3)
    changed = np.abs(film[0].image.astype(int) - source[0].image).max(axis=2) > 60
    assert changed[20:40, :4].any() and changed[20:40, 58:63].any() and not changed[100:].any()


def test_a_folder_may_hold_both(run, tmp_path):
    (tmp_path / "both").mkdir()
    picture(tmp_path / "both" / "b.jpg")
    write_video(tmp_path / "both" / "a.mkv", 2)
    (tmp_path / "both" / "notes.txt").touch()
    assert run(tmp_path / "both") == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a.mp4", "a.jsonl", "b.jpg", "results.json"}


def test_what_is_read_is_not_written_over(run, tmp_path):
    (tmp_path / "out").mkdir()
    video, photo = write_video(tmp_path / "out" / "clip.mp4", 4), picture(tmp_path / "out" / "a.jpg")
    before = video.read_bytes(), photo.read_bytes()
    assert run(tmp_path / "out") == 0
    assert (video.read_bytes(), photo.read_bytes()) == before
    assert (tmp_path / "out" / "clip_2.mp4").exists() and (tmp_path / "out" / "a_2.jpg").exists()


def test_a_camera_until_there_are_enough_frames(run, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        fake(patch, "1" * 50, CAP_PROP_FPS=30)
        assert run("webcam:1", options=["--num-images", "5"]) == 0
    assert [line["frame"] for line in lines_of(tmp_path / "out" / "webcam_1.jsonl")] == list(range(5))
    assert (tmp_path / "out" / "webcam_1.mp4").exists()


def test_what_cannot_be_read_is_left_out(run, tmp_path, capsys):
    (tmp_path / "broken.mp4").write_text("no video")
    assert run(tmp_path / "broken.mp4") == 1
    assert run(tmp_path / "broken.mp4", write_video(tmp_path / "a.avi", 2)) == 0
    assert "left out: " in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"absent\.mp4: no picture there"):
        run(tmp_path / "absent.mp4")


def test_an_error_of_the_network_ends_the_run(run, tmp_path, monkeypatch):
    monkeypatch.setattr(Predictor, "fails_at", 3)
    with pytest.raises(RuntimeError, match="the network fails at 3"):
        run(write_video(tmp_path / "a.avi", 8))
    assert len(list(Video(str(tmp_path / "out" / "a.mp4")).frames())) == 3


def test_ctrl_c_says_so_and_ends(run, tmp_path, monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "film", interrupted)
    assert run(write_video(tmp_path / "a.avi", 8), write_video(tmp_path / "b.avi", 8)) == 130
    assert "stopped by Ctrl-C" in capsys.readouterr().err
