"""Predictions on files: drawn images and videos, and JSON."""

from __future__ import annotations

import json
import sys
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
        """Write the drawn images and ``results.json``; returns how many images could be used."""
        results, start = [], time.perf_counter()
        drawn_frames = draw_frames(sources.read_all(dataset_dicts), self.find, self.draw)
        for drawn in track(drawn_frames, str(self.output), total=len(dataset_dicts)):
            file_name, (height, width) = dataset_dicts[drawn.frame.index]["file_name"], drawn.frame.image.shape[:2]
            image = self.make_output_name(file_name, ".jpg")
            cv2.imwrite(str(self.output / image), drawn.image)
            entry = {"file_name": file_name, "height": height, "width": width, "image": image}
            results.append({**entry, "objects": self.visualizer.describe(drawn.predictions)})
        (self.output / "results.json").write_text(json.dumps(results, indent=1))
        predictions, seconds = sum(len(r["objects"]) for r in results), time.perf_counter() - start
        print(f"{predictions} objects in {len(results)} of {len(dataset_dicts)} images, {seconds:.1f} s: {self.output}")
        return len(results)

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
