"""Predicts on a video or camera and writes a video, JSON lines, and a window."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from centernet_d2.progress import Progress
from centernet_d2.video.pipeline import draw_frames
from centernet_d2.video.reader import Frame, Video
from centernet_d2.video.writer import VideoWriter, Window

# Frames that wait before each stage; fewer for cameras, which need current images.
_CAPACITY, _LIVE_CAPACITY = 4, 1
# Most frame numbers in one message.
_MOST_TOLD = 20


def process_video(
    source: str,
    path: Path,
    predict: Callable[[Frame], Any],
    draw: Callable[[Frame, Any], np.ndarray],
    describe: Callable[[Any], Any],
    *,
    window: Window | None = None,
    limit: int | None = None,
) -> int:
    """Write ``path`` (MP4) and, beside it, a ``.jsonl`` with a line for each frame: "frame" (its number in the source),
    "seconds" and "objects". Progress is printed. After any error or Ctrl-C the files are complete up to that frame.

    Args:
        source: as :class:`Video` has it.
        predict, draw: see :func:`draw_frames`.
        describe: "objects" of what ``predict`` found.
        window: shows the frames as well; ends the video where it is closed.
        limit: of frames.

    Returns:
        The number of frames.

    Raises:
        VideoError: the source cannot be read, or the video not be written.
        Whatever ``predict``, ``draw`` or ``describe`` raises.
    """
    video = Video(source)
    num_frames, start = 0, time.perf_counter()
    capacity = _LIVE_CAPACITY if video.live else _CAPACITY
    progress = Progress(source, min(filter(None, (limit, video.announced)), default=None), "frames")
    frames = draw_frames(video.iterate_frames(limit), predict, draw, capacity)
    try:
        with closing(frames), VideoWriter(path, video.rate) as writer, path.with_suffix(".jsonl").open("w") as lines:
            for drawn in frames:
                writer.write(drawn.image, writer.count_copies_at(drawn.frame.seconds) if video.live else 1)
                lines.write(json.dumps(_make_entry(drawn.frame, describe(drawn.predictions))) + "\n")
                num_frames += 1
                if window and not window.show(drawn.image):
                    break
                progress.advance()
            else:
                missing = video.count_missing(num_frames)
                if missing and (limit is None or num_frames < limit):
                    print(f"{source}: the last {missing} frames cannot be read", file=sys.stderr)
    finally:
        progress.close()
        print(f"{_format_progress(video, num_frames, time.perf_counter() - start)}: {path}")
        _print_corrupt(video)
    return num_frames


def _make_entry(frame: Frame, objects: Any) -> dict[str, Any]:
    return {"frame": frame.index, "seconds": round(frame.seconds, 3), "objects": objects}


def _print_corrupt(video: Video) -> None:
    if video.corrupt:
        numbers = ", ".join(map(str, video.corrupt[:_MOST_TOLD])) + ", ..." * (len(video.corrupt) > _MOST_TOLD)
        print(f"{video.source}: {len(video.corrupt)} corrupt frames are left out: {numbers}", file=sys.stderr)


def _format_progress(video: Video, num_frames: int, seconds: float) -> str:
    of_all = f" of {video.announced}" if video.announced else ""
    return f"{video.source}: {num_frames}{of_all} frames, {num_frames / max(seconds, 1e-3):.1f} a second"
