#!/usr/bin/env python
"""Detect objects in images, folders, glob patterns, registered datasets, videos or a camera's images.

Drawn images and results.json, drawn videos (<name>.mp4) and <name>.jsonl (a line for each frame) are written to the
output folder: boxes, landmarks, masks, 3D boxes with the ground seen from above, and tracks, as the model gives.
With a display, a window shows videos as well: Escape or q closes it. After Ctrl-C the files of a video are complete up
to that frame.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, metavar="FILE", help="config.yaml of a training, or another")
    parser.add_argument("--weights", metavar="FILE", help="checkpoint, instead of the config's MODEL.WEIGHTS")
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        help="images, videos, folders with their sub-folders, glob patterns, names of datasets; webcam, webcam:1 for a "
        "camera",
    )
    parser.add_argument("--num-images", type=int, help="at most so many images, and frames of each video")
    parser.add_argument(
        "--output", type=Path, default=Path("output/demo"), help="folder that is written to (default: %(default)s)"
    )
    parser.add_argument(
        "--confidence-threshold", type=float, default=0.3, help="least score of what is drawn (default: %(default)s)"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY=value", help="config keys to change")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    parse()  # --help and option errors come before the slow imports below

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.structures import Instances

from centernet_d2.config import get_cfg
from centernet_d2.data.formats.image_files import image_suffixes
from centernet_d2.data.image_io import CorruptImageError, read_image
from centernet_d2.engine.predictor import Predictor
from centernet_d2.engine.setup import setup_cfg
from centernet_d2.modeling.meta_arch import CenterNet
from centernet_d2.video import VIDEO_SUFFIXES, Frame, VideoError, draw_frames, is_video, open_window, process_video
from centernet_d2.visualization.visualizer import Visualizer

INTERRUPTED = 130
_NUM_NAMED = 10
_KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)*(=.*)?", re.DOTALL)


def find_files(folder: Path, skip: Path | None = None) -> list[str]:
    """The images and videos of a folder and its sub-folders, sorted; hidden files are left out.

    Files of other kinds are counted and named on stderr.

    Args:
        skip: a folder below that is not searched, such as that of the output.
    """
    known, names, unread, seen = image_suffixes() | VIDEO_SUFFIXES, [], [], set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        real = Path(parent).resolve()
        if real in seen or (real == skip and real != folder.resolve()):
            folders.clear()
            continue
        seen.add(real)
        for file in sorted(name for name in files if not name.startswith(".")):
            (names if Path(file).suffix.lower() in known else unread).append(str(Path(parent, file)))
    if unread:
        shown = ", ".join(unread[:_NUM_NAMED]) + ", ..." * (len(unread) > _NUM_NAMED)
        print(f"left out: {len(unread)} files that are no images or videos read here: {shown}", file=sys.stderr)
    return names


def find_inputs(source: str, skip: Path | None = None) -> list[dict[str, Any]]:
    """Dataset dicts (``file_name`` at least) of a file, the images and videos of a folder and its sub-folders, a glob
    pattern, a registered dataset or a camera.

    Raises:
        FileNotFoundError: it is none of these, or holds no image.
    """
    path = Path(source)
    if path.is_dir():
        names = find_files(path, skip)
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
            f"{source}: no image there (a file, a folder, a quoted glob pattern, a dataset or webcam)"
        )
    return [{"file_name": name} for name in names]


def find_all(sources: list[str], skip: Path | None = None) -> list[dict[str, Any]]:
    """The dataset dicts of all inputs; an input without images prints a line on stderr, or ends the program if no
    input is left."""
    dataset_dicts, reasons = [], []
    for source in sources:
        try:
            dataset_dicts += find_inputs(source, skip)
        except (FileNotFoundError, ValueError) as error:
            reasons.append(str(error))
    if not dataset_dicts:
        sys.exit("\n".join(reasons))
    for reason in reasons:
        print(f"left out: {reason}", file=sys.stderr)
    return dataset_dicts


def split_options(inputs: list[str]) -> tuple[list[str], list[str]]:
    """What follows ``--input``, and the config keys with their values among it (``KEY=value`` or ``KEY value``).

    A file of such a name is an input.
    """
    sources, options = [], []
    rest = iter(inputs)
    for text in rest:
        is_key = _KEY.fullmatch(text) and ("=" in text or text.partition(".")[0] in get_cfg())
        if not is_key or Path(text).exists():
            sources.append(text)
            continue
        options.append(text)
        if "=" not in text and (value := next(rest, None)) is not None:
            options.append(value)
    return sources, options


@dataclass(frozen=True)
class Network:
    """Predict and draw each frame."""

    model: CenterNet
    image_format: str
    visualizer: Visualizer

    @classmethod
    def load(cls, cfg: CfgNode, threshold: float) -> Network:
        model = Predictor(cfg).model
        return cls(model, cfg.INPUT.FORMAT, Visualizer.from_config(cfg, threshold, model.metadata))

    def find(self, frame: Frame) -> Instances:
        """The model's input as in evaluation: the dataset dict without annotations, and the image."""
        if frame.starts:
            self.model.reset()
        image = frame.image if self.image_format == "BGR" else frame.image[:, :, ::-1]
        sample = {key: value for key, value in frame.dataset_dict.items() if key != "annotations"}
        sample["height"], sample["width"] = image.shape[:2]
        sample["image"] = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        (result,) = self.model([sample])
        return result["instances"].to("cpu")

    def draw(self, frame: Frame, predictions: Instances) -> np.ndarray:
        return self.visualizer.draw(frame.image, predictions, frame.dataset_dict, frame.starts)

    def describe(self, predictions: Instances) -> list[dict[str, Any]]:
        return self.visualizer.describe(predictions)


def read_all(dataset_dicts: list[dict[str, Any]]) -> Iterator[Frame]:
    """The images of dataset dicts, numbered as these; unreadable ones print a line on stderr.

    Dataset dicts with the same "video_id" that follow each other are frames of one video.
    """
    video = None
    for index, dataset_dict in enumerate(dataset_dicts):
        try:
            image = read_image(dataset_dict)
        except CorruptImageError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        starts = dataset_dict.get("video_id") is None or dataset_dict["video_id"] != video
        video = dataset_dict.get("video_id")
        yield Frame(index, 0.0, image, starts, dataset_dict)


def make_output_name(file_name: str, suffix: str, taken: set[str]) -> str:
    """A unique name for the drawn image."""
    stem = Path(file_name).stem.replace(":", "_")
    name, number = f"{stem}{suffix}", 1
    while name in taken:
        number += 1
        name = f"{stem}_{number}{suffix}"
    taken.add(name)
    return name


def draw_images(dataset_dicts: list[dict[str, Any]], network: Network, output: Path, taken: set[str]) -> int:
    """Write the drawn images and ``results.json``; returns how many images could be used."""
    results, start = [], time.perf_counter()
    for drawn in draw_frames(read_all(dataset_dicts), network.find, network.draw):
        file_name, (height, width) = dataset_dicts[drawn.frame.index]["file_name"], drawn.frame.image.shape[:2]
        image = make_output_name(file_name, ".jpg", taken)
        cv2.imwrite(str(output / image), drawn.image)
        entry = {"file_name": file_name, "height": height, "width": width, "image": image}
        results.append({**entry, "objects": network.describe(drawn.predictions)})
    (output / "results.json").write_text(json.dumps(results, indent=1))
    predictions, seconds = sum(len(r["objects"]) for r in results), time.perf_counter() - start
    print(f"{predictions} objects in {len(results)} of {len(dataset_dicts)} images, {seconds:.1f} s: {output}")
    return len(results)


def draw_videos(sources: list[str], network: Network, output: Path, taken: set[str], limit: int | None) -> int:
    """Process videos one by one; unreadable ones print a line on stderr. Returns how many could be used."""
    window, reason = open_window("centernet_d2")
    if window is None:
        print(f"no window: {reason}; the drawn videos are in {output}")
    used = 0
    for source in sources:
        try:
            path = output / make_output_name(source, ".mp4", taken)
            process_video(source, path, network.find, network.draw, network.describe, window=window, limit=limit)
            used += 1
        except VideoError as error:
            print(f"left out: {error}", file=sys.stderr)
    return used


def run(args: argparse.Namespace) -> int:
    """Returns the exit status: 1 where no image and no video could be used, 130 after Ctrl-C."""
    cfg = setup_cfg(args.config_file, [*(["MODEL.WEIGHTS", args.weights] if args.weights else []), *args.opts])
    dataset_dicts = find_all(args.input, args.output.resolve())
    images = [dataset_dict for dataset_dict in dataset_dicts if not is_video(dataset_dict["file_name"])][
        : args.num_images
    ]
    videos = [dataset_dict["file_name"] for dataset_dict in dataset_dicts if is_video(dataset_dict["file_name"])]
    try:
        network = Network.load(cfg, args.confidence_threshold)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    args.output.mkdir(parents=True, exist_ok=True)
    # Outputs must not overwrite inputs.
    paths = [Path(dataset_dict["file_name"]).resolve() for dataset_dict in dataset_dicts]
    taken = {path.name for path in paths if path.parent == args.output.resolve()}
    used = 0
    try:
        if images:
            used += draw_images(images, network, args.output, taken)
        if videos:
            used += draw_videos(videos, network, args.output, taken, args.num_images)
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        return INTERRUPTED
    return 0 if used else 1


def main() -> int:
    args = parse()
    args.input, options = split_options(args.input)
    args.opts = [*options, *args.opts]
    if not args.input:
        sys.exit(f"--input names no input, only config keys ({', '.join(options)})")
    return run(args)


if __name__ == "__main__":
    sys.exit(main())
