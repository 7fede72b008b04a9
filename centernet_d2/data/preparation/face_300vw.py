"""300VW (Shen et al. 2015): 114 videos, 68 landmarks in every frame."""

from __future__ import annotations

import os
import pickle
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from centernet_d2.data.formats.image_files import list_image_suffixes
from centernet_d2.data.formats.numbers import parse_digits
from centernet_d2.data.preparation.conversion import Summary, convert
from centernet_d2.data.preparation.faces import convert_pts
from centernet_d2.data.schemas import FACE68
from centernet_d2.data.validation.issues import AnnotationIssue
from centernet_d2.progress import track

#: The challenge's test videos: well lit, unconstrained light, arbitrary conditions. The others are to train on.
TEST_VIDEOS = {
    "test_1": "114 124 125 126 150 158 401 402 505 506 507 508 509 510 511 514 515 518 519 520 521 522 524 525 537 538 "
    "540 541 546 547 548",
    "test_2": "203 208 211 212 213 214 218 224 403 404 405 406 407 408 409 412 550 551 553",
    "test_3": "410 411 516 517 526 528 529 530 531 533 557 558 559 562",
}
_SPLIT_OF = {video: split for split, videos in TEST_VIDEOS.items() for video in videos.split()}
_NUM_VIDEOS = {"train": 50, "test_1": 31, "test_2": 19, "test_3": 14}
_EXTRACTED = "extraction"
_FRAME_FOLDERS = ("imgs", "images", _EXTRACTED)


class Frame(NamedTuple):
    """Names relative to the root; ``image`` is where it should be, where there is none."""

    image: str
    pts: str


def convert_300vw(root: Path, every: int = 1) -> list[Summary]:
    """Write ``root/annotations/{train,test_1,test_2,test_3}.json``, those of which there are videos.

    A video is a folder with its number as name, ``annot/*.pts``, and images of the same numbers in ``imgs/``,
    ``images/`` or ``extraction/``. Frames that are in none of them are extracted from ``vid.avi`` to ``extraction/``,
    counted from 1. Frames that a ``broken_frames.npy`` below ``root`` lists are left out without an issue.

    Args:
        every: take each video's first annotated frame, and then every so many.

    Raises:
        OSError: files cannot be read or written.
        ValueError: broken_frames.npy cannot be understood.
    """
    corrupt: dict[str, list[int]] = {}
    for path in sorted(root.rglob("broken_frames.npy")):
        corrupt.update(read_corrupt_frames(path))
    # Of a video that is there twice, the copy that is less deep.
    deepest_first = sorted({pts.parent.parent for pts in root.rglob("annot/*.pts")}, key=lambda x: (-len(x.parts), x))
    videos = sorted({folder.name: folder for folder in deepest_first}.items())
    summaries = []
    for split, known in _NUM_VIDEOS.items():
        folders = [folder for name, folder in videos if _SPLIT_OF.get(name, "train") == split]
        if folders:
            summaries.append(_convert_split(root, split, folders, corrupt, every))
            if len(folders) != known:
                summaries[-1].notes.append(f"{len(folders)} videos, but {known} are known")
    return summaries


def _convert_split(
    root: Path, split: str, folders: Sequence[Path], corrupt: dict[str, list[int]], every: int
) -> Summary:
    frames: list[Frame] = []
    issues = []
    for folder in folders:
        try:
            frames += list_video_frames(root, folder, corrupt.get(folder.name, ()), every)
        except VideoError as error:
            issues.append(AnnotationIssue(str(folder / "vid.avi"), None, "video", str(error)))
    summary = convert(
        frames,
        lambda frame: convert_pts(root, frame.image, root / frame.pts),
        root / "annotations" / f"{split}.json",
        FACE68.to_coco_categories(),
    )
    summary.issues = issues + summary.issues
    return summary


class VideoError(ValueError):
    """A video that cannot be decoded."""


def list_video_frames(root: Path, folder: Path, corrupt: Collection[int], every: int) -> list[Frame]:
    """Return the frames of the video in ``folder`` that have landmarks, except the ``corrupt`` ones; see
    ``convert_300vw``.

    Raises:
        VideoError: frames are missing, and the video they should come from cannot be decoded; or a frame has two files.
    """
    annotated = _list_by_number(folder / "annot", (".pts",))
    numbers = [number for number in sorted(annotated) if number not in corrupt][::every]
    images: dict[int, Path] = {}
    for name in reversed(_FRAME_FOLDERS):
        images.update(_list_by_number(folder / name, list_image_suffixes()))
    missing = [number for number in numbers if number not in images]
    for number in missing:
        images[number] = folder / _EXTRACTED / f"{number:06d}.jpg"
    if missing and (folder / "vid.avi").is_file():
        extract_frames(folder / "vid.avi", {number: images[number] for number in missing})
    pairs = ((images[number], annotated[number]) for number in numbers)
    return [Frame(*(path.relative_to(root).as_posix() for path in pair)) for pair in pairs]


def _list_by_number(folder: Path, suffixes: Collection[str]) -> dict[int, Path]:
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    numbered: dict[int, Path] = {}
    for path in paths:
        number = parse_digits(path.stem)
        if path.suffix.lower() in suffixes and number is not None:
            first = numbered.setdefault(number, path)
            if first != path:
                raise VideoError(f"frame {number} is ambiguous: {folder} has {first.name} and {path.name}")
    return numbered


def extract_frames(video: Path, frames: dict[int, Path]) -> None:
    """Write frames of ``video`` as images; their numbers count from 1. A file that is there is complete.

    Frames behind the end of the video are not written.

    Raises:
        VideoError: the video cannot be decoded.
    """
    capture = cv2.VideoCapture(str(video))
    if not capture.isOpened():
        raise VideoError("cannot be decoded")
    name = f"{video.parent.name}/{video.name}"
    for number in track(range(1, max(frames) + 1), name, "frames"):
        if not capture.grab():
            break
        if number in frames:
            _, image = capture.retrieve()
            path = frames[number]
            path.parent.mkdir(exist_ok=True)
            temporary = path.with_suffix(".extracting")
            temporary.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
            os.replace(temporary, path)
    capture.release()


def read_corrupt_frames(path: Path) -> dict[str, list[int]]:
    """Return the frame numbers by video of a ``broken_frames.npy``: a pickled dict, read without running code.

    Raises:
        ValueError: it is something else.
    """
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            # The state of a numpy array: version, shape, dtype, order, list of its objects.
            (content,) = _HarmlessUnpickler(file).load().state[4]
        return {str(video): [int(number) for number in numbers] for video, numbers in content.items()}
    except Exception as error:  # what damaged pickles raise is anyone's guess
        raise ValueError(f"{path} is not a dict of lists of frame numbers: {error}") from error


class _Inert:
    """Stands for whatever class or function a pickle names."""

    def __init__(self, *arguments: Any) -> None:
        self.state: Any = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _HarmlessUnpickler(pickle.Unpickler):
    """Builds plain values, and nothing else."""

    def find_class(self, module: str, name: str) -> type[_Inert]:
        return _Inert
