"""Frames of files and cameras: how many, in which order, and what is corrupt."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from centernet_d2.video import Video, VideoError, is_video
from tests.helpers.videos import CODECS, number_of, write_video


@pytest.mark.parametrize("suffix", CODECS)
def test_every_frame_once_and_in_order(tmp_path, suffix):
    video = Video(str(write_video(tmp_path / f"a{suffix}", 25)))
    assert (video.live, video.rate, video.announced) == (False, 20.0, 25)
    frames = list(video.iterate_frames())
    assert [frame.index for frame in frames] == list(range(25)) == [number_of(frame.image) for frame in frames]
    assert [frame.seconds for frame in frames] == pytest.approx([k / 20 for k in range(25)])
    assert [frame.starts for frame in frames] == [True] + [False] * 24
    assert frames[3].image.shape == (64, 96, 3) and frames[3].image.dtype == np.uint8
    assert video.corrupt == [] and video.count_missing(25) == 0


def test_at_most_so_many(tmp_path):
    path = str(write_video(tmp_path / "a.mp4", 10))
    assert len(list(Video(path).iterate_frames(4))) == 4 and list(Video(path).iterate_frames(0)) == []
    assert len(list(Video(path).iterate_frames(40))) == 10


def test_files_without_frames_are_named(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "nothing.avi").write_bytes(b"")
    write_video(tmp_path / "empty.avi", 0)
    for name, reason in (
        ("absent.mp4", "does not exist"),
        ("text.mp4", "not a video"),
        ("nothing.avi", "not a video"),
        ("empty.avi", "no frame that can be decoded"),
    ):
        with pytest.raises(VideoError, match=rf"{name}: .*{reason}"):
            list(Video(str(tmp_path / name)).iterate_frames())


def test_corrupt_frames_are_counted_and_the_others_keep_their_numbers(tmp_path):
    path = write_video(tmp_path / "a.mp4", 30, (160, 120), noise=True)
    content = bytearray(path.read_bytes())
    center, tenth = len(content) // 2, len(content) // 10
    for k in range(center, center + tenth):
        content[k] = (content[k] * 7 + 13) % 256
    path.write_bytes(content)
    video = Video(str(path))
    frames = list(video.iterate_frames())
    indices = [frame.index for frame in frames]
    assert video.corrupt and sorted(indices + video.corrupt) + [30] * video.count_missing(len(frames)) == list(
        range(30)
    )
    # The damage reaches some frames that can be decoded; far from it all are what they should be.
    far = [frame for frame in frames if frame.index < 14 or frame.index > max(video.corrupt) + 4]
    assert len(far) > 18 and [number_of(frame.image) for frame in far] == [frame.index for frame in far]


def test_a_file_that_is_cut_off_ends(tmp_path):
    path = write_video(tmp_path / "a.avi", 30, (160, 120), noise=True)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    video = Video(str(path))
    read = len(list(video.iterate_frames()))
    assert 5 < read < 25 and video.announced == 30 and video.corrupt == [] and video.count_missing(read) == 30 - read


class FakeCapture:
    """Gives a frame for every 1 of ``pattern`` and fails at every 0, and for ever after its end."""

    def __init__(self, pattern: str, properties: dict[int, float]) -> None:
        self.pattern, self.properties, self.released = iter(pattern), properties, False

    def isOpened(self) -> bool:
        return True

    def get(self, key: int) -> float:
        return self.properties.get(key, 0.0)

    def read(self):
        assert not self.released
        ok = next(self.pattern, "0") == "1"
        return ok, np.zeros((4, 6, 3), np.uint8) if ok else None

    def release(self) -> None:
        self.released = True


def fake(monkeypatch, pattern: str, **properties: float) -> FakeCapture:
    capture = FakeCapture(pattern, {getattr(cv2, name): value for name, value in properties.items()})
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: capture)
    return capture


def test_failures_between_frames_are_corrupt_frames_and_those_at_the_end_are_not(monkeypatch, tmp_path):
    (tmp_path / "a.mov").touch()
    capture = fake(monkeypatch, "1100110", CAP_PROP_FRAME_COUNT=10, CAP_PROP_FPS=30)
    video = Video(str(tmp_path / "a.mov"))
    assert [frame.index for frame in video.iterate_frames()] == [0, 1, 4, 5]
    assert video.corrupt == [2, 3] and video.count_missing(4) == 4 and capture.released


@pytest.mark.parametrize("count", [0.0, -1.0, float("nan"), float("inf"), 1e12])
@pytest.mark.parametrize("rate", [0.0, -5.0, float("nan"), 1e9])
def test_files_may_say_nothing_or_nonsense(monkeypatch, tmp_path, count, rate):
    (tmp_path / "a.mov").touch()
    fake(monkeypatch, "111", CAP_PROP_FRAME_COUNT=count, CAP_PROP_FPS=rate)
    video = Video(str(tmp_path / "a.mov"))
    assert video.rate == 25 and len(list(video.iterate_frames())) == 3


def test_a_camera_may_miss_a_image_and_is_named_when_it_ends(monkeypatch):
    capture = fake(monkeypatch, "000101")
    video = Video("webcam")
    assert video.live and video.announced is None
    frames = video.iterate_frames()
    first, second = itertools.islice(frames, 2)
    assert (first.index, second.index) == (3, 5) and first.seconds < 0.01 and second.seconds >= first.seconds
    with pytest.raises(VideoError, match="webcam: the camera gives no image any more"):
        next(frames)
    assert capture.released and video.corrupt == [0, 1, 2, 4]


def test_cameras_have_numbers(monkeypatch):
    requested = []
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: requested.append(source) or FakeCapture("1", {}))
    for source in ("webcam", "webcam:0", "webcam:12"):
        Video(source)
    assert requested == [0, 0, 12]


def test_an_absent_camera_is_named(monkeypatch):
    monkeypatch.setattr(FakeCapture, "isOpened", lambda self: False)
    fake(monkeypatch, "")
    with pytest.raises(VideoError, match="webcam:7: no such camera"):
        Video("webcam:7")


def test_what_is_a_video():
    assert all(map(is_video, ("a.mp4", "b/c.MOV", "x.y.mkv", "webcam", "webcam:3")))
    assert not any(map(is_video, ("a.jpg", "mp4", "webcam:", "webcam:x", "my_webcam", "synthetic://a/1", "a.gif")))
