"""Predictions on files: drawn images and videos, and JSON."""

from __future__ import annotations

import json
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from centernet_d2.api.sources import Sources
from centernet_d2.progress import track
from centernet_d2.video import Frame, VideoError, draw_frames, open_window, process_video


class JsonList:
    """Context manager: a JSON file of a list, written entry by entry; the list ends where the context does."""

    def __init__(self, path: Path) -> None:
        self._file, self.count = path.open("w"), 0

    def append(self, entry: Any) -> None:
        """Write an entry."""
        self._file.write((",\n" if self.count else "[\n") + textwrap.indent(json.dumps(entry, indent=1), " "))
        self.count += 1

    def __enter__(self) -> JsonList:
        return self

    def __exit__(self, *_: object) -> None:
        with self._file:
            self._file.write("\n]" if self.count else "[]")


@dataclass
class FileWriter:
    """Draws predictions into an output folder.

    Args:
        find: predictions of a frame.
        visualizer: see ``api.models.Model.make_visualizer``.
        output: folder, which exists.
        taken: names in it that must not be written over.
    """

    find: Callable[[Frame], Any]
    visualizer: Any
    output: Path
    taken: set[str] = field(default_factory=set)

    def draw(self, frame: Frame, predictions: Any) -> np.ndarray:
        """The drawn frame, (H, W, 3) uint8, BGR."""
        return self.visualizer.draw(frame.image, predictions, frame.dataset_dict, frame.starts)

    def draw_images(self, dataset_dicts: list[dict[str, Any]], sources: Sources) -> int:
        """Write the drawn images and ``results.json``, which is complete up to the last image after any error or
        Ctrl-C; returns how many images could be used.

        Raises:
            OSError: an image cannot be written.
        """
        start, objects = time.perf_counter(), 0
        drawn_frames = draw_frames(sources.read_all(dataset_dicts), self.find, self.draw)
        with JsonList(self.output / "results.json") as results:
            for drawn in track(drawn_frames, str(self.output), total=len(dataset_dicts)):
                file_name, (height, width) = dataset_dicts[drawn.frame.index]["file_name"], drawn.frame.image.shape[:2]
                image = self.make_output_name(file_name, ".jpg")
                (self.output / image).write_bytes(cv2.imencode(".jpg", drawn.image)[1].tobytes())
                entry = {"file_name": file_name, "height": height, "width": width, "image": image}
                entry["objects"] = self.visualizer.describe(drawn.predictions)
                results.append(entry)
                objects += len(entry["objects"])
        used, seconds = results.count, time.perf_counter() - start
        print(f"{objects} objects in {used} of {len(dataset_dicts)} images, {seconds:.1f} s: {self.output}")
        return used

    def draw_videos(self, videos: list[str], limit: int | None = None) -> int:
        """Process videos one by one; unreadable ones print a line on stderr. Returns how many could be used.

        Args:
            limit: of frames of each.
        """
        window, reason = open_window("centernet_d2")
        if window is None:
            print(f"no window: {reason}; the drawn videos are in {self.output}")
        used = 0
        for video in videos:
            try:
                path = self.output / self.make_output_name(video, ".mp4")
                describe = self.visualizer.describe
                process_video(video, path, self.find, self.draw, describe, window=window, limit=limit)
                used += 1
            except VideoError as error:
                print(f"left out: {error}", file=sys.stderr)
        return used

    def make_output_name(self, file_name: str, suffix: str) -> str:
        """A name in the output folder that is not taken, and is from now on."""
        stem = Path(file_name).stem.replace(":", "_")
        name, number = f"{stem}{suffix}", 1
        while name in self.taken:
            number += 1
            name = f"{stem}_{number}{suffix}"
        self.taken.add(name)
        return name
