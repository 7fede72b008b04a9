"""MOTChallenge's videos of pedestrians (MOT16, MOT17: Milan et al. 2016), each a folder with a text file of tracks.

Frames and pixels count from 1 there. Here ``frame`` counts from 0, and a box's left edge is at ``left - 1`` in
continuous image coordinates, as pixel number 1 spans 0 to 1; its width and height stay. Boxes may reach out of the
image, which is how they are annotated and scored.
"""

from __future__ import annotations

import configparser
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from centernet_d2.data.datasets.mot import CLASS_NAMES
from centernet_d2.data.formats.image_files import NamedFiles, find_image
from centernet_d2.data.formats.numbers import parse_digits, parse_number
from centernet_d2.data.formats.text import NotTextError, read_text
from centernet_d2.data.image_io import CorruptImageError
from centernet_d2.data.preparation.conversion import Converted, Fields, Summary, convert, make_image_entry
from centernet_d2.data.validation.issues import AnnotationIssue, check_object
from centernet_d2.data.validation.missing import explain_missing

#: Split -> folder, and number of images in MOT17. The halves are those of CenterTrack (Zhou et al. 2020).
SPLITS = {"train": ("train", 5316), "train_half": ("train", 2664), "val_half": ("train", 2652), "test": ("test", 5919)}
# MOT17 has each video three times, with the detections of three detectors.
_COPIES = ("-DPM", "-SDP")
_PEDESTRIAN = 1
# Persons that are not to be tracked: on a vehicle, static, distractor, reflection, crowd. A prediction there is
# no error.
_REGIONS = (2, 7, 8, 12, 13)
_FIELDS = ("frame", "id", "left", "top", "width", "height", "confidence", "class", "visibility")
# Names of images have six digits.
_MOST_FRAMES = 999999


@dataclass
class Video:
    """The annotations of one video.

    Attributes:
        folder: relative to that of the dataset.
        length: number of frames; 0 where the video cannot be used.
        objects: of each frame, which count from 1.
        issues: what was left out, and why.
    """

    folder: str
    length: int = 0
    objects: dict[int, list[Fields]] = field(default_factory=dict)
    issues: list[AnnotationIssue] = field(default_factory=list)


def convert_mot(root: Path) -> list[Summary]:
    """Write ``root/annotations/<split>.json`` for each of the ``SPLITS`` whose folder is there.

    Args:
        root: has ``train/<video>/{seqinfo.ini,img1/000001.<suffix>,gt/gt.txt}`` and ``test/<video>``, where ``gt`` is
            absent, or both in ``MOT17``, as the archive unpacks. One of the two is enough.

    Raises:
        FileNotFoundError: there are no videos.
    """
    videos = {
        name: [read_video(root, folder, annotated=name == "train") for folder in _list_folders(root, name)]
        for name in ("train", "test")
    }
    if not any(videos.values()):
        copies = "; of the copies of MOT17's videos, those that end with -FRCNN are used"
        raise FileNotFoundError(f"{root} has no folders train/<video> or test/<video>{copies}")
    splits = [(split, videos[folder], known) for split, (folder, known) in SPLITS.items() if videos[folder]]
    return [_convert_split(root, *split) for split in splits]


def read_video(root: Path, folder: str, annotated: bool) -> Video:
    """Return the tracks of ``root / folder``; invalid lines are left out and reported. Never raises for bad content.

    An object has ``bbox``, ``track_id``, ``visibility`` from 0 to 1, and ``iscrowd`` 1 where it is a person who is not
    to be tracked. Other things, such as cars, are left out, as the benchmark has it.

    Args:
        annotated: whether there is a ``gt/gt.txt``.
    """
    video = Video(folder)
    try:
        length = _read_length(root, f"{folder}/seqinfo.ini")
        lines = _read_text(root, f"{folder}/gt/gt.txt").split("\n") if annotated else []
    except _FieldError as error:
        video.issues.append(AnnotationIssue(*error.args))
        return video
    video.length = length
    seen: dict[tuple[float, float], int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        values, errors = _parse_values(line.split(","), length)
        key = (values.get("frame", 0), values.get("id", 0))
        if not errors and key in seen:
            errors = [("id", f"is {key[1]:g}, as on line {seen[key]} in the same frame")]
        if errors:
            video.issues += [AnnotationIssue(f"{folder}/gt/gt.txt", number, *error) for error in errors]
            continue
        seen[key] = number
        if values["class"] in (_PEDESTRIAN, *_REGIONS):
            video.objects.setdefault(int(key[0]), []).append(_convert_object(values))
    return video


class _FieldError(Exception):
    """What a ``AnnotationIssue`` has."""


def _list_folders(root: Path, name: str) -> list[str]:
    """Return the folders of the videos, relative to ``root``."""
    for parent in (root / name, root / "MOT17" / name):
        folders = [path for path in parent.glob("*") if path.is_dir() and not path.name.endswith(_COPIES)]
        if folders:
            return sorted(path.relative_to(root).as_posix() for path in folders)
    return []


def _convert_split(root: Path, split: str, videos: list[Video], known: int) -> Summary:
    files = NamedFiles(root)

    def read_frame(item: tuple[int, int]) -> Converted:
        video, frame = videos[item[0]], item[1]
        if not frame:
            return Converted(issues=video.issues)
        place = {"video_id": item[0] + 1, "frame": frame - _select_frames(split, video.length)[0]}
        file_name = f"{video.folder}/img1/{frame:06d}"
        try:
            file_name = find_image(files, file_name)
            image = make_image_entry(root, file_name, **place)
        except CorruptImageError as error:
            return Converted(issues=[AnnotationIssue(file_name, None, "image", error.reason)])
        return Converted(image, video.objects.get(frame, []))

    return convert(
        # Frame 0 is for what was wrong with the video.
        [(k, frame) for k, video in enumerate(videos) for frame in (0, *_select_frames(split, video.length))],
        read_frame,
        root / "annotations" / f"{split}.json",
        [{"id": number, "name": name} for number, name in enumerate(CLASS_NAMES, start=1)],
        options=repr([video.folder for video in videos]),
        known={"images": known},
        videos=[{"id": k, "name": Path(video.folder).name} for k, video in enumerate(videos, start=1) if video.length],
    )


def _select_frames(split: str, length: int) -> range:
    """Return the frames of a video, from 1; the first half has one or two more than the second."""
    center = length // 2 + 2
    return {"train_half": range(1, center), "val_half": range(center, length + 1)}.get(split, range(1, length + 1))


def _read_text(root: Path, file: str) -> str:
    try:
        return read_text(root / file)
    except FileNotFoundError:
        raise _FieldError(file, None, "file", f"{explain_missing(root / file)}: the video is left out") from None
    except NotTextError as error:
        raise _FieldError(file, None, "file", error.reason) from None


def _read_length(root: Path, file: str) -> int:
    """Return the number of frames."""
    ini = configparser.ConfigParser(interpolation=None)
    try:
        ini.read_string(_read_text(root, file))
    except configparser.Error as error:
        problem = f"cannot be read: {str(error).splitlines()[0]}"
        raise _FieldError(file, None, "file", problem) from None
    word = ini.get("Sequence", "seqLength", fallback="")
    length = parse_digits(word) or 0
    if not 0 < length <= _MOST_FRAMES:
        problem = f"is {word!r}, not a number of frames" if word else "is missing in [Sequence]"
        raise _FieldError(file, None, "seqLength", problem)
    return length


def _parse_values(words: list[str], length: int) -> tuple[dict[str, float], list[tuple[str, str]]]:
    """Return the numbers of a line by field, and field and problem of what is wrong."""
    if len(words) != len(_FIELDS):
        return {}, [("line", f"has {len(words)} values, not {len(_FIELDS)}")]
    values = dict(zip(_FIELDS, map(parse_number, words), strict=True))
    expected: dict[str, tuple[str, Callable[[float], bool]]] = {
        "frame": (f"a whole number from 1 to {length}", lambda x: 1 <= x <= length and x.is_integer()),
        "id": ("a whole number from 1", lambda x: x >= 1 and x.is_integer()),
        "confidence": ("0 or 1", lambda x: x in (0, 1)),
        "class": ("a class from 1 to 13", lambda x: x in range(1, 14)),
        "visibility": ("a fraction from 0 to 1", lambda x: 0 <= x <= 1),
    }
    errors = [
        (key, f"is {values[key]:g}, not {what}") for key, (what, holds) in expected.items() if not holds(values[key])
    ]
    box = check_object({"bbox": _convert_box(values), "category_id": 1}, "", None, (None, None), (1,), None)
    return values, errors + [(error.field, error.problem) for error in box]


def _convert_object(values: dict[str, float]) -> Fields:
    return {
        "category_id": 1,
        "bbox": _convert_box(values),
        "area": values["width"] * values["height"],
        "iscrowd": int(values["class"] != _PEDESTRIAN or not values["confidence"]),
        "track_id": int(values["id"]),
        "visibility": values["visibility"],
    }


def _convert_box(values: dict[str, float]) -> list[float]:
    """Return x, y, width, height in continuous image coordinates."""
    return [values["left"] - 1, values["top"] - 1, values["width"], values["height"]]
