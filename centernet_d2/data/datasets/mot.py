"""Registers videos with tracks: COCO files whose images are frames and whose objects have track ids, such as MOT17."""

from __future__ import annotations

import functools
from collections import Counter
from pathlib import PurePath
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from centernet_d2.data.datasets.coco import read_coco, read_coco_json, set_metadata
from centernet_d2.data.image_io import DatasetDict
from centernet_d2.data.validation.issues import AnnotationIssue, is_integer, leaves_folder, raise_issues

# The same name as in COCO and CrowdHuman, so that models fit all of them.
CLASS_NAMES = ("person",)


def register_video(name: str, json_file: str, image_root: str) -> None:
    """Register a file of ``convert_mot``, or another one in that format."""
    DatasetCatalog.register(name, functools.partial(load_video, name, json_file, image_root))
    MetadataCatalog.get(name).set(image_root=image_root, evaluator_type="tracking")


def load_video(name: str, json_file: str, image_root: str) -> list[DatasetDict]:
    """Load Detectron2's dataset dicts, grouped by video and ordered by frame, with more:

    * images have ``video_id`` and ``frame``, the frame number, from 0 in the built-in datasets;
    * annotations have ``track_id``, from 1, the same for an object in all frames of its video.

    Sets the metadata of ``name``; ``video_names`` are names by ``video_id``.

    Raises:
        FileNotFoundError: no such file.
        AnnotationError: the first errors, each with file, annotation id and field.
    """
    coco = read_coco(json_file, image_root)
    content = read_coco_json(json_file)
    names, issues = _read_videos(content.get("videos"), json_file)
    if not coco.issues:
        issues += _add_frames(coco.dataset_dicts, content["images"], names)
        issues += _add_track_ids(coco.dataset_dicts, content["annotations"])
    raise_issues(f"dataset {name}, {json_file}", coco.issues + issues)
    ids = {"thing_dataset_id_to_contiguous_id": coco.dataset_ids}
    values = {"thing_classes": coco.class_names, "video_names": names, **ids}
    set_metadata(name, {"image_root": image_root, "evaluator_type": "tracking", **values})
    return sorted(coco.dataset_dicts, key=lambda dataset_dict: (dataset_dict["video_id"], dataset_dict["frame"]))


def _read_videos(entries: Any, json_file: str) -> tuple[dict[int, str], list[AnnotationIssue]]:
    """Return the names of the videos by id."""
    if not isinstance(entries, list):
        return {}, [AnnotationIssue(json_file, None, "videos", "is not a list of objects with id and name")]
    names: dict[int, str] = {}
    issues = []
    for entry in entries:
        number, name = (entry.get("id"), entry.get("name")) if isinstance(entry, dict) else (None, None)
        # Results are written to files of these names.
        if not is_integer(number) or not isinstance(name, str) or PurePath(name).name != name or leaves_folder(name):
            problem = f"has the entry {str(entry)[:80]}, not one with an integer id and a name that can be a file's"
        elif number in names or name in names.values():
            problem = f"uses the id {number} or the name {name!r} twice"
        else:
            names[number] = name
            continue
        issues.append(AnnotationIssue(json_file, None, "videos", problem))
    return names, issues


def _add_frames(dataset_dicts: list[DatasetDict], images: list[Any], names: dict[int, str]) -> list[AnnotationIssue]:
    """Add ``video_id`` and ``frame``, in place."""
    entries = {entry["id"]: entry for entry in images}
    issues = []
    seen: Counter[tuple[int, int]] = Counter()
    for dataset_dict in dataset_dicts:
        entry, file = entries[dataset_dict["image_id"]], dataset_dict["file_name"]
        video, frame = entry.get("video_id"), entry.get("frame")
        if not is_integer(video) or video not in names:
            issues.append(AnnotationIssue(file, None, "video_id", f"is {video!r}, but there is no such video"))
        elif not is_integer(frame):
            issues.append(AnnotationIssue(file, None, "frame", f"is {frame!r}, not an integer"))
        elif seen[video, frame]:
            issues.append(AnnotationIssue(file, None, "frame", f"is {frame}, as that of another image of the video"))
        else:
            seen[video, frame] += 1
            dataset_dict.update(video_id=video, frame=frame)
    return issues


def _add_track_ids(dataset_dicts: list[DatasetDict], objects: list[Any]) -> list[AnnotationIssue]:
    """Add ``track_id``, in place."""
    track_ids = {entry["id"]: entry.get("track_id") for entry in objects}
    issues = []
    for dataset_dict in dataset_dicts:
        seen = set()
        for annotation in dataset_dict["annotations"]:
            track_id = track_ids[annotation["id"]]
            if not is_integer(track_id) or track_id < 1:
                problem = f"is {track_id!r}, not an integer from 1"
            elif track_id in seen:
                problem = f"is {track_id}, as that of another object of the image"
            else:
                seen.add(track_id)
                annotation["track_id"] = track_id
                continue
            issues.append(AnnotationIssue(dataset_dict["file_name"], annotation["id"], "track_id", problem))
    return issues
