"""The demo from the command line, with a network that finds what the test says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image

from centernet_d2.api import files
from centernet_d2.api.sources import Sources
from centernet_d2.cli import predict
from centernet_d2.structures.model_metadata import ModelMetadata
from centernet_d2.video import Frame, Video
from tests.helpers.videos import number_of, write_video
from tests.video.test_reader import fake

# What the model was given.
samples: list[dict] = []
CONFIG = Path(__file__).resolve().parents[2] / "configs" / "Synthetic" / "shapes_1pt.yaml"


class Predictor:
    """Its model finds one object, whose left side is the number of the frame, and one that is not probable enough."""

    fails_at: int | None = None
    extra: dict[str, torch.Tensor] = {}
    metadata = ModelMetadata(("a", "b"), (5, 8))

    def __init__(self, cfg) -> None:
        self.model = self
        samples.clear()

    def reset(self):
        pass

    def __call__(self, batch):
        (sample,) = batch
        samples.append(sample)
        number = number_of(sample["image"].permute(1, 2, 0).numpy())
        if number == self.fails_at:
            raise RuntimeError(f"the network fails at {number}")
        predictions = Instances((sample["height"], sample["width"]))
        predictions.pred_boxes = Boxes(torch.tensor([[number, 10.0, 60.0, 50.0], [0.0, 0.0, 9.0, 9.0]]))
        predictions.scores, predictions.pred_classes = torch.tensor([0.9, 0.1]), torch.tensor([1, 0])
        for name, values in self.extra.items():
            predictions.set(name, values)
        return [{"instances": predictions}]


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs the demo into ``tmp_path/out``; gives the exit status."""
    monkeypatch.setattr("centernet_d2.engine.predictor.Predictor", Predictor)
    monkeypatch.setattr(files, "open_window", lambda title: (None, "there is no screen"))

    def go(*inputs, options=()) -> int:
        command = ["--config-file", str(CONFIG), "--input", *map(str, inputs)]
        return predict.main([*command, "--output", str(tmp_path / "out"), *options])

    return go


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def image(path: Path, number: int = 2) -> Path:
    cv2.imwrite(str(path), np.full((80, 100, 3), 8 * number + 8, np.uint8))
    return path


def test_images_and_videos_side_by_side(run, tmp_path, capsys):
    inputs = image(tmp_path / "a.png"), write_video(tmp_path / "clip.avi", 8), write_video(tmp_path / "clip.mp4", 3)
    assert run(*inputs) == 0
    out = tmp_path / "out"
    assert {p.name for p in out.iterdir()} == {
        *("a.jpg", "results.json", "clip.mp4", "clip.jsonl", "clip_2.mp4", "clip_2.jsonl")
    }
    (result,) = json.loads((out / "results.json").read_text())
    assert (result["image"], result["height"], result["width"]) == ("a.jpg", 80, 100)
    entry = {"category_id": 8, "category_name": "b", "category": "b", "score": 0.9, "box": [2.0, 10.0, 60.0, 50.0]}
    assert result["objects"] == [entry]
    lines = lines_of(out / "clip.jsonl")
    assert [line["frame"] for line in lines] == list(range(8)) == [line["objects"][0]["box"][0] for line in lines]
    assert len(list(Video(str(out / "clip.mp4")).iterate_frames())) == 8 and len(lines_of(out / "clip_2.jsonl")) == 3
    printed = capsys.readouterr().out
    assert "no window: there is no screen" in printed and "clip.avi: 8 of 8 frames" in printed


def test_a_box_is_synthetic_into_the_video(run, tmp_path):
    assert run(write_video(tmp_path / "clip.avi", 2, (640, 480))) == 0
    source = list(Video(str(tmp_path / "clip.avi")).iterate_frames())
    process_video = list(Video(str(tmp_path / "out" / "clip.mp4")).iterate_frames())
    assert process_video[0].image.shape == (480, 640, 3)
    changed = np.abs(process_video[0].image.astype(int) - source[0].image).max(axis=2) > 60
    assert changed[20:40, :4].any() and changed[20:40, 58:63].any() and not changed[100:].any()


def test_results_are_complete_up_to_an_error(run, tmp_path, monkeypatch):
    inputs = [image(tmp_path / f"{k}.png", k) for k in range(6)]
    monkeypatch.setattr(Predictor, "fails_at", 4)
    with pytest.raises(RuntimeError, match="the network fails at 4"):
        run(*inputs)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [one["objects"][0]["box"][0] for one in results] == [0, 1, 2, 3]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("name", ["results.json", "a.jpg"])
def test_a_full_disk_is_one_sentence(run, tmp_path, capsys, monkeypatch, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).symlink_to("/dev/full")
    assert run(image(tmp_path / "a.png")) == 1
    error = capsys.readouterr().err
    assert "No space left on device" in error and "Traceback" not in error


def test_a_folder_may_hold_both(run, tmp_path):
    (tmp_path / "both").mkdir()
    image(tmp_path / "both" / "b.jpg")
    write_video(tmp_path / "both" / "a.mkv", 2)
    (tmp_path / "both" / "notes.txt").touch()
    assert run(tmp_path / "both") == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a.mp4", "a.jsonl", "b.jpg", "results.json"}


def test_what_is_read_is_not_written_over(run, tmp_path):
    (tmp_path / "out").mkdir()
    video, photo = write_video(tmp_path / "out" / "clip.mp4", 4), image(tmp_path / "out" / "a.jpg")
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
    assert run(tmp_path / "absent.mp4") == 1
    assert "absent.mp4: no image there" in capsys.readouterr().err


def test_an_error_of_the_network_ends_the_run(run, tmp_path, monkeypatch):
    monkeypatch.setattr(Predictor, "fails_at", 3)
    with pytest.raises(RuntimeError, match="the network fails at 3"):
        run(write_video(tmp_path / "a.avi", 8))
    assert len(list(Video(str(tmp_path / "out" / "a.mp4")).iterate_frames())) == 3


def test_ctrl_c_says_so_and_ends(run, tmp_path, monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "process_video", interrupted)
    assert run(write_video(tmp_path / "a.avi", 8), write_video(tmp_path / "b.avi", 8)) == 130
    assert "stopped by Ctrl-C" in capsys.readouterr().err


def street(monkeypatch) -> None:
    """The model's two objects are 20 m ahead, and 5 m to the right of that."""
    extra = {
        "pred_locations": torch.tensor([[0.0, 1.6, 20.0], [5.0, 1.6, 20.0]]),
        "pred_dimensions": torch.tensor([[1.5, 1.6, 4.0]] * 2),
        "pred_rotation_y": torch.tensor([0.5, 0.0]),
        "pred_alpha": torch.tensor([0.4, 0.0]),
        "pred_depth": torch.tensor([20.0, 20.0]),
    }
    monkeypatch.setattr(Predictor, "extra", extra)


def test_a_video_with_the_ground_beside_it(run, tmp_path, monkeypatch):
    street(monkeypatch)
    assert run(write_video(tmp_path / "clip.avi", 3, (640, 480))) == 0
    frames = list(Video(str(tmp_path / "out" / "clip.mp4")).iterate_frames())
    assert [frame.image.shape for frame in frames] == [(480, 640 + 480, 3)] * 3
    for line in lines_of(tmp_path / "out" / "clip.jsonl"):
        (entry,) = line["objects"]
        assert entry["location"] == pytest.approx([0, 1.6, 20]) and entry["rotation_y"] == pytest.approx(0.5)
        assert entry["dimensions"] == pytest.approx([1.5, 1.6, 4]) and entry["depth"] == 20
        assert entry["alpha"] == pytest.approx(0.4)


def test_the_model_gets_what_a_dataset_knows(run, monkeypatch):
    street(monkeypatch)
    assert run("synthetic_boxes3d_val", options=["--num-images", "2"]) == 0
    assert [sample["image_id"] for sample in samples] == [0, 1]
    for sample in samples:
        assert (sample["height"], sample["width"], np.shape(sample["calib"])) == (128, 256, (3, 4))
        assert sample["image"].shape == (3, 128, 256) and sample["image"].dtype == torch.uint8
        assert "annotations" not in sample


@pytest.mark.parametrize(("order", "values"), [("BGR", [10, 20, 30]), ("RGB", [30, 20, 10])])
def test_channels_come_in_the_models_order(run, tmp_path, order, values):
    image = np.zeros((80, 100, 3), np.uint8)
    image[:] = (10, 20, 30)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    assert run(tmp_path / "a.png", options=["INPUT.FORMAT", order]) == 0
    assert samples[0]["image"][:, 5, 7].tolist() == values


def test_trails_are_of_one_video(run, tmp_path, monkeypatch):
    """The same frames come out for the same video, whatever was drawn before."""
    monkeypatch.setattr(Predictor, "extra", {"pred_track_ids": torch.tensor([6, 7])})
    assert run(*(write_video(tmp_path / f"{name}.avi", 20, (320, 240)) for name in "ab")) == 0
    first, second = (list(Video(str(tmp_path / "out" / f"{name}.mp4")).iterate_frames()) for name in "ab")
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, second, strict=True))
    lines = lines_of(tmp_path / "out" / "a.jsonl")
    assert [[entry["track_id"] for entry in line["objects"]] for line in lines] == [[6]] * 20


def test_the_network_starts_again_with_each_video_and_image(run, tmp_path, monkeypatch):
    events, find = [], Predictor.__call__
    monkeypatch.setattr(Predictor, "reset", lambda self: events.append("start"))
    monkeypatch.setattr(Predictor, "__call__", lambda self, batch: events.append("find") or find(self, batch))
    assert run(write_video(tmp_path / "a.avi", 3), write_video(tmp_path / "b.avi", 1)) == 0
    assert events == ["start", "find", "find", "find", "start", "find"]
    events.clear()
    assert run(*(image(tmp_path / f"{k}.png") for k in range(2))) == 0
    assert events == ["start", "find"] * 2


def test_frames_of_a_datasets_videos(tmp_path, capsys):
    """The first of each video that can be read starts it; images of no video are on their own."""
    files = [str(image(tmp_path / f"{k}.png")) for k in range(6)]
    dataset_dicts = [{"file_name": name, "video_id": video} for name, video in zip(files, [1, 1, 2, 2], strict=False)]
    dataset_dicts[2]["file_name"] = str(tmp_path / "absent.png")
    frames = list(Sources(True).read_all([*dataset_dicts, {"file_name": files[4]}, {"file_name": files[5]}]))
    assert [(frame.index, frame.starts) for frame in frames] == [(0, True), (1, False), (3, True), (4, True), (5, True)]
    assert frames[1].dataset_dict is dataset_dicts[1] and "absent.png" in capsys.readouterr().err


def test_the_visualizer_gets_all_that_is_known_of_a_frame(tmp_path):
    class Listener:
        def draw(self, *arguments):
            return arguments

    writer = files.FileWriter(lambda frame: None, Listener(), tmp_path)
    image, dataset_dict = np.zeros((4, 6, 3), np.uint8), {"calib": 1}
    for starts in (True, False):
        drawn = writer.draw(Frame(3, 0.1, image, starts, dataset_dict), "found")
        assert drawn == (image, "found", dataset_dict, starts)


def test_a_phones_folder(run, tmp_path, capsys):
    """All that Pillow reads, in sub-folders too; what it does not read is named; hidden files are nobody's."""
    folder = tmp_path / "phone"
    (folder / "2024" / "may").mkdir(parents=True)
    image = Image.fromarray(np.full((80, 100, 3), 24, np.uint8))
    for name, kind in {"a.jfif": "JPEG", "b.JPE": "JPEG", "c.tga": "TGA", "d.jp2": "JPEG2000"}.items():
        image.save(folder / name, format=kind)
    image.save(folder / "2024" / "may" / "e.png")
    (folder / "f.heic").write_bytes(b"something")
    (folder / "2024" / "notes.txt").touch()
    (folder / "._a.jpg").touch()
    (folder / "empty.png").touch()
    assert run(folder) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {Path(one["file_name"]).name for one in results} == {"a.jfif", "b.JPE", "c.tga", "d.jp2", "e.png"}
    printed = capsys.readouterr().err
    assert "2 files that are no images or videos read here" in printed and "empty.png" in printed
    assert "f.heic" in printed and "notes.txt" in printed and "._a.jpg" not in printed


def test_what_was_synthetic_is_no_input_of_the_next_run(run, tmp_path):
    image(tmp_path / "a.jpg")
    for _ in range(2):
        assert run(tmp_path) == 0
        assert len(json.loads((tmp_path / "out" / "results.json").read_text())) == 1


def test_one_empty_input_does_not_stop_the_others(run, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty", tmp_path / "absent.jpg", image(tmp_path / "a.png")) == 0
    printed = capsys.readouterr().err
    assert f"left out: {tmp_path / 'empty'}: no image there" in printed and "absent.jpg: no image" in printed
    assert run(tmp_path / "empty", tmp_path / "absent.jpg") == 1
    assert re.search(r"(?s)empty: no image there.*absent", capsys.readouterr().err)


def test_config_keys_after_the_inputs(run, tmp_path, monkeypatch, capsys):
    assert run(image(tmp_path / "a.png"), "INPUT.FORMAT=RGB", "TEST.DETECTIONS_PER_IMAGE", "5") == 0
    (result,) = json.loads((tmp_path / "out" / "results.json").read_text())
    assert result["file_name"] == str(tmp_path / "a.png")
    assert run(tmp_path / "a.png", "INPUT.FORMAL=RGB") == 1
    assert "no config key 'INPUT.FORMAL'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run("SEED=3")
    assert "only config keys" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    image(tmp_path / "A=1.png")
    sources, options = predict.split_options(["A=1.png", "SEED", "3", "IMG_1.png", "B.C=(1, 2)", "clip"])
    assert (sources, options) == (["A=1.png", "IMG_1.png", "clip"], ["SEED", "3", "B.C=(1, 2)"])


def test_no_weights_no_demo(tmp_path, capsys):
    """In one sentence, and no random boxes."""
    command = ["--config-file", str(CONFIG), "--input", str(image(tmp_path / "a.png"))]
    assert predict.main([*command, "--output", str(tmp_path / "out"), "MODEL.DEVICE=cpu"]) == 1
    assert "no weights to predict with" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_inputs_stand_anywhere(run, tmp_path):
    """Before, between and after options, and config keys among them."""
    a, b = (image(tmp_path / name) for name in ("a.png", "b.png"))
    line = ["TEST.DETECTIONS_PER_IMAGE=5", str(a), "--config-file", str(CONFIG), str(b), "--output"]
    assert predict.main([*line, str(tmp_path / "out"), "INPUT.FORMAT", "RGB"]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [Path(one["file_name"]).name for one in results] == ["a.png", "b.png"]
