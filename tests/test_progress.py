"""Lines of progress: what they say, how often they come."""

from __future__ import annotations

import io

import pytest

from centernet_d2 import progress
from centernet_d2.progress import Progress, describe_progress, format_seconds, track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time; tests set its only entry."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def run(stream: io.StringIO, clock: list[float], steps: int, seconds: float, done: float = 0) -> str:
    """Advance by one image every ``seconds``."""
    shown = Progress("photos", 100, done=done, stream=stream)
    for _ in range(steps):
        clock[0] += seconds
        shown.advance()
    shown.close()
    return stream.getvalue()


def test_a_log_gets_a_line_every_ten_seconds(clock):
    lines = run(io.StringIO(), clock, 24, 1.0).splitlines()
    assert lines == [
        "photos: 10 of 100 images, 1.0 images/s, 1:30 left",
        "photos: 20 of 100 images, 1.0 images/s, 1:20 left",
    ]


def test_a_terminal_gets_one_line_that_changes(clock):
    text = run(Terminal(), clock, 8, 0.25)
    assert text.count("\r") == 4 and text.count("\n") == 1 and text.endswith("\n")
    assert "photos: 8 of 100 images, 4.0 images/s, 0:23 left" in text


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_what_is_quick_says_nothing(stream, clock):
    assert run(stream, clock, 40, 0.01) == ""


def test_a_resumed_count_has_the_speed_of_what_is_new(clock):
    assert run(io.StringIO(), clock, 10, 1.0, done=50) == "photos: 60 of 100 images, 1.0 images/s, 0:40 left\n"


def test_without_a_total_there_is_no_time_left():
    assert describe_progress("camera", 30, None, "frames", 15) == "camera: 30 frames, 15.0 frames/s"
    assert describe_progress("video", 31, 30, "frames", 15) == "video: 31 of 30 frames, 15.0 frames/s"


def test_times():
    assert [format_seconds(x) for x in (0, 59.6, 125, 3725)] == ["0:00", "1:00", "2:05", "1:02:05"]


def test_items_come_through_in_order(clock, capsys):
    seen = []
    for item in track(iter("abc"), "letters", "letters", total=3):
        seen.append(item)
        clock[0] += 6
    assert seen == ["a", "b", "c"]
    assert capsys.readouterr().err == "letters: 2 of 3 letters, 0.2 letters/s, 0:06 left\n"
