"""A video has every frame, in order, and is complete whatever ended it."""

from __future__ import annotations

import _thread
import json
import signal

import cv2
import numpy as np
import pytest

from centernet_d2.video import Video, VideoError, VideoWriter, open_window, process_video
from centernet_d2.video import writer as writing_module
from tests.helpers.videos import number_of, write_video
from tests.video.test_reader import fake


def shoot(source, path, predict=number_of, **options) -> int:
    """The objects of a frame are its number; the image is twice as wide."""

    def find(frame):
        return predict(frame.image)

    return process_video(
        str(source), path, find, lambda frame, predictions: np.hstack([frame.image] * 2), lambda x: [x], **options
    )


def read_result(path) -> tuple[list[int], list[dict]]:
    """Numbers of the frames in the video, and the lines beside it."""
    frames = [number_of(frame.image) for frame in Video(str(path)).iterate_frames()]
    return frames, [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()]


def test_every_frame_is_synthetic_and_described(tmp_path, capsys):
    source, path = write_video(tmp_path / "a.avi", 25), tmp_path / "video.mp4"
    assert shoot(source, path) == 25
    frames, lines = read_result(path)
    assert frames == list(range(25))
    assert lines == [{"frame": k, "seconds": pytest.approx(k / 20), "objects": [k]} for k in range(25)]
    video = Video(str(path))
    assert video.rate == 20 and next(video.iterate_frames()).image.shape == (64, 192, 3)
    out, err = capsys.readouterr()
    assert "a.avi: 25 of 25 frames" in out and err == ""


def test_an_error_in_the_center_leaves_a_complete_video(tmp_path):
    source, path = write_video(tmp_path / "a.avi", 25), tmp_path / "video.mp4"

    def predict(image):
        if number_of(image) == 9:
            raise RuntimeError("out of memory")
        return number_of(image)

    with pytest.raises(RuntimeError, match="out of memory"):
        shoot(source, path, predict)
    frames, lines = read_result(path)
    assert frames == list(range(9)) == [line["frame"] for line in lines]


@pytest.fixture
def interruptible():
    """Python's own handler: shells start background jobs with the signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_leaves_a_complete_video(tmp_path, capsys, interruptible):
    source, path = write_video(tmp_path / "a.avi", 25), tmp_path / "video.mp4"

    def predict(image):
        if number_of(image) == 12:
            _thread.interrupt_main()
        return number_of(image)

    with pytest.raises(KeyboardInterrupt):
        shoot(source, path, predict)
    frames, lines = read_result(path)
    # Frame 12 was at the network: at least those are missing that could not have come through since.
    assert 0 < len(frames) < 25 and frames == list(range(len(frames)))
    assert len(lines) in (len(frames), len(frames) - 1)
    assert "frames, " in capsys.readouterr().out


class ClosedWindow:
    def __init__(self, after: int) -> None:
        self.after, self.shown = after, []

    def show(self, image) -> bool:
        self.shown.append(number_of(image))
        return len(self.shown) < self.after


def test_closing_the_window_ends_the_video(tmp_path, capsys):
    source, path, window = write_video(tmp_path / "a.avi", 25), tmp_path / "video.mp4", ClosedWindow(6)
    assert shoot(source, path, window=window) == 6
    assert window.shown == read_result(path)[0] == list(range(6))
    assert capsys.readouterr().err == ""


def test_corrupt_and_missing_frames_are_given(tmp_path, monkeypatch, capsys):
    (tmp_path / "a.mov").touch()
    with monkeypatch.context() as patch:
        fake(patch, "110011", CAP_PROP_FRAME_COUNT=10, CAP_PROP_FPS=30)
        assert shoot(tmp_path / "a.mov", tmp_path / "video.mp4") == 4
    error = capsys.readouterr().err
    assert "a.mov: 2 corrupt frames are left out: 2, 3\n" in error
    assert "a.mov: the last 4 frames cannot be read" in error
    assert [line["frame"] for line in read_result(tmp_path / "video.mp4")[1]] == [0, 1, 4, 5]


def test_a_limit_is_not_a_error(tmp_path, capsys):
    source = write_video(tmp_path / "a.avi", 25)
    assert shoot(source, tmp_path / "video.mp4", limit=7) == 7
    assert capsys.readouterr().err == ""


def test_an_empty_video_is_named(tmp_path):
    source = write_video(tmp_path / "empty.avi", 0)
    with pytest.raises(VideoError, match=r"empty\.avi: has no frame"):
        shoot(source, tmp_path / "video.mp4")


def test_a_video_that_cannot_be_written_is_named(tmp_path):
    source = write_video(tmp_path / "a.avi", 3)
    (tmp_path / "video.mp4").mkdir()
    with pytest.raises(VideoError, match=r"video\.mp4: OpenCV cannot write"):
        shoot(source, tmp_path / "video.mp4")


def test_a_cameras_video_lasts_as_long_as_what_was_recorded(tmp_path):
    """Images at 0, 0.1, 0.42 and 0.43 s, at ten frames a second: the last one comes too early for a frame."""
    with VideoWriter(tmp_path / "video.mp4", 10) as one:
        copies = []
        for k, seconds in enumerate((0.0, 0.1, 0.42, 0.43)):
            copies.append(one.count_copies_at(seconds))
            one.write(np.full((32, 32, 3), 8 * k + 8, np.uint8), copies[-1])
    assert copies == [1, 1, 3, 0]
    assert [number_of(frame.image) for frame in Video(str(tmp_path / "video.mp4")).iterate_frames()] == [0, 1, 2, 2, 2]


def test_images_of_another_size_are_fitted_in(tmp_path):
    with VideoWriter(tmp_path / "video.mp4", 10) as one:
        one.write(np.full((32, 48, 3), 8, np.uint8))
        one.write(np.full((64, 20, 3), 16, np.uint8))
    frames = list(Video(str(tmp_path / "video.mp4")).iterate_frames())
    assert [frame.image.shape for frame in frames] == [(32, 48, 3)] * 2
    assert [number_of(frame.image) for frame in frames] == [0, 1]


def test_why_there_is_no_window(monkeypatch):
    monkeypatch.setattr(writing_module.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert open_window("a") == (None, "there is no screen")
    monkeypatch.setenv("DISPLAY", ":0")

    def refuse(*arguments):
        raise cv2.error("The function is not implemented")

    monkeypatch.setattr(cv2, "namedWindow", refuse)
    window, reason = open_window("a")
    assert window is None and "opencv-python-headless cannot" in reason


@pytest.mark.parametrize(("key", "visible", "goes_on"), [(-1, 1.0, True), (27, 1.0, False), (-1, 0.0, False)])
def test_a_window_says_when_it_is_closed(monkeypatch, key, visible, goes_on):
    shown = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "namedWindow", lambda *arguments: None)
    monkeypatch.setattr(cv2, "imshow", lambda title, image: shown.append(title))
    monkeypatch.setattr(cv2, "waitKey", lambda milliseconds: key)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *arguments: visible)
    window, _ = open_window("a title")
    assert window is not None and window.show(np.zeros((4, 4, 3), np.uint8)) is goes_on and shown == ["a title"]
