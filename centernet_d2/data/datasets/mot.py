"""Videos with tracks: COCO files whose pictures are frames and whose objects have an identity; MOT17 among them."""

from __future__ import annotations

import functools
import os
from collections import Counter
from pathlib import PurePath
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from centernet_d2.data.datasets.coco import read_coco, read_coco_json, set_metadata
from centernet_d2.data.image_io import Record
from centernet_d2.data.preparation.mot import CLASS_NAMES, SPLITS
from centernet_d2.data.validation.issues import Finding, escapes, is_integer, raise_findings


def register_published_mot(root: str) -> None:
    """``mot17_<split>`` in the folder ``mot17`` of ``root``; a file is read when it is first used."""
    folder = os.path.join(root, "mot17")
    for split in SPLITS:
        register_video(f"mot17_{split}", os.path.join(folder, "annotations", f"{split}.json"), folder)
        MetadataCatalog.get(f"mot17_{split}").set(thing_classes=list(CLASS_NAMES))


def register_video(name: str, json_file: str, image_root: str) -> None:
    """Register a file of ``convert_mot``, or one of one's own in that form."""
    DatasetCatalog.register(name, functools.partial(load_video, name, json_file, image_root))
    MetadataCatalog.get(name).set(image_root=image_root, evaluator_type="tracking")


def load_video(name: str, json_file: str, image_root: str) -> list[Record]:
    """Detectron2's records, each video's together and in the order of its frames, with more:

    * of a picture ``video_id``, and ``frame``, its place in the video, from 0 in the published ones;
    * of an annotation ``track_id``, from 1, which is the object's identity in its video.

    Sets the metadata of ``name``; ``video_names`` are names by ``video_id``.

    Raises:
        FileNotFoundError: no such file.
        AnnotationError: the first faults, each with file, annotation id and field.
    """
    coco = read_coco(json_file, image_root)
    content = read_coco_json(json_file)
    names, findings = _videos(content.get("videos"), json_file)
    if not coco.findings:
        findings += _add_places(coco.records, content["images"], names)
        findings += _add_identities(coco.records, content["annotations"])
    raise_findings(f"data set {name}, {json_file}", coco.findings + findings)
    values = {"thing_classes": coco.class_names, "video_names": names}
    set_metadata(name, {"image_root": image_root, "evaluator_type": "tracking", **values})
    return sorted(coco.records, key=lambda record: (record["video_id"], record["frame"]))


def _videos(entries: Any, json_file: str) -> tuple[dict[int, str], list[Finding]]:
    """Names by id."""
    if not isinstance(entries, list):
        return {}, [Finding(json_file, None, "videos", "is not a list of objects with id and name")]
    names: dict[int, str] = {}
    findings = []
    for entry in entries:
        number, name = (entry.get("id"), entry.get("name")) if isinstance(entry, dict) else (None, None)
        # Results are written to files of these names.
        if not is_integer(number) or not isinstance(name, str) or PurePath(name).name != name or escapes(name):
            problem = f"has the entry {str(entry)[:80]}, not one with an integer id and a name that can be a file's"
        elif number in names or name in names.values():
            problem = f"uses the id {number} or the name {name!r} twice"
        else:
            names[number] = name
            continue
        findings.append(Finding(json_file, None, "videos", problem))
    return names, findings


def _add_places(records: list[Record], pictures: list[Any], names: dict[int, str]) -> list[Finding]:
    """Add ``video_id`` and ``frame``, in place."""
    entries = {entry["id"]: entry for entry in pictures}
    findings = []
    seen: Counter[tuple[int, int]] = Counter()
    for record in records:
        entry, file = entries[record["image_id"]], record["file_name"]
        video, frame = entry.get("video_id"), entry.get("frame")
        if not is_integer(video) or video not in names:
            findings.append(Finding(file, None, "video_id", f"is {video!r}, but there is no such video"))
        elif not is_integer(frame):
            findings.append(Finding(file, None, "frame", f"is {frame!r}, not an integer"))
        elif seen[video, frame]:
            findings.append(Finding(file, None, "frame", f"is {frame}, as that of another picture of the video"))
        else:
            seen[video, frame] += 1
            record.update(video_id=video, frame=frame)
    return findings


def _add_identities(records: list[Record], objects: list[Any]) -> list[Finding]:
    """Add ``track_id``, in place."""
    identities = {entry["id"]: entry.get("track_id") for entry in objects}
    findings = []
    for record in records:
        seen = set()
        for annotation in record["annotations"]:
            identity = identities[annotation["id"]]
            if not is_integer(identity) or identity < 1:
                problem = f"is {identity!r}, not an integer from 1"
            elif identity in seen:
                problem = f"is {identity}, as that of another object of the picture"
            else:
                seen.add(identity)
                annotation["track_id"] = identity
                continue
            findings.append(Finding(record["file_name"], annotation["id"], "track_id", problem))
    return findings
