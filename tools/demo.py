#!/usr/bin/env python
"""Detect objects in images, folders, glob patterns, registered data sets, videos or a camera's pictures.

Drawn pictures and results.json, drawn videos (<name>.mp4) and <name>.jsonl (a line for each frame) are written to the
output folder: boxes, landmarks, masks, boxes in space with the ground seen from above, and tracks, as the model gives.
Where there is a screen, a window shows videos as well: Escape or q ends one. Ctrl-C ends everything, and the files of
a video are complete up to there.
"""

from __future__ import annotations

import argparse
import glob
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.structures import Instances

from centernet_d2.data.image_io import BrokenImageError, read_image
from centernet_d2.engine.predictor import Predictor
from centernet_d2.engine.setup import setup_cfg
from centernet_d2.modeling.meta_arch import CenterNet
from centernet_d2.video import VIDEO_SUFFIXES, Frame, VideoError, draw_frames, film, is_video, open_window
from centernet_d2.visualization.visualizer import Artist

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
INTERRUPTED = 130


def find_records(source: str) -> list[dict[str, Any]]:
    """Records (``file_name`` at least) of a file, the pictures and videos of a folder, a glob pattern, a registered
    data set or a camera.

    Raises:
        FileNotFoundError: it is none of these, or holds no picture.
    """
    path = Path(source)
    if path.is_dir():
        names = sorted(str(p) for p in path.iterdir() if p.suffix.lower() in SUFFIXES | VIDEO_SUFFIXES)
    elif path.is_file():
        names = [source]
    elif source in DatasetCatalog:
        return DatasetCatalog.get(source)
    elif is_video(source) and not path.suffix:
        names = [source]
    else:
        names = sorted(name for name in glob.glob(source, recursive=True) if Path(name).is_file())
    if not names:
        raise FileNotFoundError(
            f"{source}: no picture there (a file, a folder, a quoted glob pattern, a data set or webcam)"
        )
    return [{"file_name": name} for name in names]


@dataclass(frozen=True)
class Network:
    """What is done with every frame: the model finds objects, the artist draws and tells them."""

    model: CenterNet
    image_format: str
    artist: Artist

    @classmethod
    def load(cls, cfg: CfgNode, threshold: float) -> Network:
        model = Predictor(cfg).model
        return cls(model, cfg.INPUT.FORMAT, Artist.from_config(cfg, threshold))

    def find(self, frame: Frame) -> Instances:
        """The model gets what evaluation gives it: a data set's record but for the annotations, and the picture."""
        if frame.starts:
            self.model.reset()
        image = frame.image if self.image_format == "BGR" else frame.image[:, :, ::-1]
        sample = {key: value for key, value in frame.record.items() if key != "annotations"}
        sample["height"], sample["width"] = image.shape[:2]
        sample["image"] = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        (result,) = self.model([sample])
        return result["instances"].to("cpu")

    def draw(self, frame: Frame, found: Instances) -> np.ndarray:
        return self.artist.draw(frame.image, found, frame.record, frame.starts)

    def describe(self, found: Instances) -> list[dict[str, Any]]:
        return self.artist.describe(found)


def read_all(records: list[dict[str, Any]]) -> Iterator[Frame]:
    """The pictures of records, numbered as these; one that cannot be read costs a line on stderr.

    Records with the same "video_id" that follow each other are frames of one video.
    """
    video = None
    for index, record in enumerate(records):
        try:
            image = read_image(record)
        except BrokenImageError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        starts = record.get("video_id") is None or record["video_id"] != video
        video = record.get("video_id")
        yield Frame(index, 0.0, image, starts, record)


def output_name(file_name: str, suffix: str, taken: set[str]) -> str:
    """A name of its own for what is drawn."""
    stem = Path(file_name).stem.replace(":", "_")
    name, number = f"{stem}{suffix}", 1
    while name in taken:
        number += 1
        name = f"{stem}_{number}{suffix}"
    taken.add(name)
    return name


def draw_pictures(records: list[dict[str, Any]], network: Network, output: Path, taken: set[str]) -> int:
    """Write the drawn pictures and ``results.json``; returns how many pictures could be used."""
    results, start = [], time.perf_counter()
    for drawn in draw_frames(read_all(records), network.find, network.draw):
        file_name, (height, width) = records[drawn.frame.index]["file_name"], drawn.frame.image.shape[:2]
        picture = output_name(file_name, ".jpg", taken)
        cv2.imwrite(str(output / picture), drawn.picture)
        entry = {"file_name": file_name, "height": height, "width": width, "picture": picture}
        results.append({**entry, "objects": network.describe(drawn.found)})
    (output / "results.json").write_text(json.dumps(results, indent=1))
    found, seconds = sum(len(r["objects"]) for r in results), time.perf_counter() - start
    print(f"{found} objects in {len(results)} of {len(records)} pictures, {seconds:.1f} s: {output}")
    return len(results)


def draw_videos(sources: list[str], network: Network, output: Path, taken: set[str], limit: int | None) -> int:
    """One after the other; what cannot be read costs a line on stderr. Returns how many could be used."""
    window, reason = open_window("centernet_d2")
    if window is None:
        print(f"no window: {reason}; the drawn videos are in {output}")
    used = 0
    for source in sources:
        try:
            path = output / output_name(source, ".mp4", taken)
            film(source, path, network.find, network.draw, network.describe, window=window, limit=limit)
            used += 1
        except VideoError as error:
            print(f"left out: {error}", file=sys.stderr)
    return used


def run(args: argparse.Namespace) -> int:
    """Returns the exit status: 1 where no picture and no video could be used, 130 after Ctrl-C."""
    cfg = setup_cfg(args.config_file, [*(["MODEL.WEIGHTS", args.weights] if args.weights else []), *args.opts])
    try:
        records = [record for source in args.input for record in find_records(source)]
    except FileNotFoundError as error:
        sys.exit(str(error))
    pictures = [record for record in records if not is_video(record["file_name"])][: args.num_images]
    videos = [record["file_name"] for record in records if is_video(record["file_name"])]
    network = Network.load(cfg, args.confidence_threshold)
    args.output.mkdir(parents=True, exist_ok=True)
    # What is read must not be written over.
    paths = [Path(record["file_name"]).resolve() for record in records]
    taken = {path.name for path in paths if path.parent == args.output.resolve()}
    used = 0
    try:
        if pictures:
            used += draw_pictures(pictures, network, args.output, taken)
        if videos:
            used += draw_videos(videos, network, args.output, taken, args.num_images)
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        return INTERRUPTED
    return 0 if used else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--weights", help="checkpoint, in place of the config's MODEL.WEIGHTS")
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        help="images, videos, folders, glob patterns, names of data sets; webcam, webcam:1 for a camera",
    )
    parser.add_argument("--num-images", type=int, help="at most so many pictures, and frames of each video")
    parser.add_argument("--output", type=Path, default=Path("output/demo"))
    parser.add_argument("--confidence-threshold", type=float, default=0.3)
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY=value", help="config keys to change")
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
