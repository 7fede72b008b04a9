"""AFLW (Koestinger et al. 2011), 19 of its 21 landmarks: the original database, or Zhu et al.'s revision (2016)."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from centernet_d2.data.formats.matlab import read_mat
from centernet_d2.data.preparation.conversion import Summary, convert
from centernet_d2.data.preparation.faces import Face, convert_faces
from centernet_d2.data.schemas import FACE19
from centernet_d2.data.validation.issues import is_number, leaves_folder

#: Feature ids 1 to 21 without the ears, 13 and 17, in the order of ``FACE19``.
FEATURE_IDS = tuple(number for number in range(1, 22) if number not in (13, 17))
#: Faces of the published split.
NUM_FACES = {"train": 20000, "full": 4386, "frontal": 1314}
_TEST_FRACTION = NUM_FACES["full"] / (NUM_FACES["train"] + NUM_FACES["full"])
_OWN_SPLIT = (
    "AFLWinfo_release.mat is not there: images are split by a hash of their names, not as in the reference, and hidden "
    "landmarks are missing; do not compare with reference numbers"
)


class Image(NamedTuple):
    """``file_name`` is relative to the folder ``flickr``."""

    file_name: str
    faces: list[Face]


def convert_aflw(root: Path) -> list[Summary]:
    """Write ``root/annotations/{train,full,frontal}.json``; "frontal" are those of "full" with all landmarks visible.

    With ``AFLWinfo_release.mat`` below ``root``, faces, landmarks, boxes and split are the reference ones; hidden
    landmarks have visibility 1. Otherwise they come from ``aflw.sqlite``, where hidden landmarks are absent (visibility
    0), and an image is a test image if the SHA-256 of its name, as a number from 0 to 1, is below 4386 / 24386.
    Boxes are the annotated ones. In the published split faces of one image may be on both sides: each file has only
    its own.

    Raises:
        FileNotFoundError: neither of the files is there.
        ImportError: SciPy is needed and not installed.
        ValueError: the file cannot be understood.
    """
    mat, database = (_find(root, name) for name in ("AFLWinfo_release.mat", "aflw.sqlite"))
    if mat:
        splits = read_release(mat)
    elif database:
        splits = split_by_name(read_database(database))
    else:
        raise FileNotFoundError(f"there is neither aflw.sqlite nor AFLWinfo_release.mat in {root}")
    splits["frontal"] = [face for face in splits["full"] if min(face[1].visibility or [0]) == 2]
    folders = [Path(folder, "flickr") for folder, names, _ in os.walk(root, followlinks=True) if "flickr" in names]
    folders = sorted(folders, key=lambda path: (len(path.parts), path)) or [root / "data" / "flickr"]

    def locate(name: str) -> str:
        if leaves_folder(name):
            return name
        folder = next((folder for folder in folders if (folder / name).is_file()), folders[0])
        return (folder / name).relative_to(root).as_posix()

    summaries = []
    for split, known in NUM_FACES.items():
        summary = convert(
            _group_by_image(splits[split]),
            lambda image: convert_faces(root, locate(image.file_name), image.faces),
            root / "annotations" / f"{split}.json",
            FACE19.to_coco_categories(),
            known={"objects": known},
        )
        summary.notes += [] if mat else [_OWN_SPLIT]
        summaries.append(summary)
    return summaries


def read_database(path: Path) -> list[tuple[str, Face]]:
    """Return image and face of every face of an ``aflw.sqlite`` that has a rectangle, by the image's name and face id.

    Raises:
        ValueError: it is not that database.
    """
    try:
        connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1", uri=True)
        try:
            points: dict[int, dict[int, tuple[Any, Any]]] = {}
            for face, feature, x, y in connection.execute("SELECT face_id, feature_id, x, y FROM FeatureCoords"):
                points.setdefault(face, {})[feature] = (x, y)
            rows = connection.execute(
                "SELECT filepath, Faces.face_id, x, y, w, h FROM Faces JOIN FaceImages USING (file_id) "
                "LEFT JOIN FaceRect USING (face_id) GROUP BY Faces.face_id ORDER BY filepath, Faces.face_id"
            ).fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise ValueError(f"{path} is not the database of AFLW: {error}") from error
    return [(str(name), _make_face(str(path), number, points.get(number, {}), box)) for name, number, *box in rows]


def read_release(path: Path) -> dict[str, list[tuple[str, Face]]]:
    """Return image and face of every face of an ``AFLWinfo_release.mat``, in the splits "train" and "full".

    Raises:
        ImportError: SciPy is not installed.
        ValueError: it is not that file.
    """
    content = read_mat(path)
    try:
        names = [str(name) for name in np.atleast_1d(content["nameList"])]
        count = len(names)
        points = np.asarray(content["data"], dtype=np.float64).reshape(count, 2, 19).transpose(0, 2, 1)
        visible = np.asarray(content["mask_new"]).reshape(count, 19).astype(bool)
        left, right, top, bottom = np.asarray(content["bbox"], dtype=np.float64).reshape(count, 4).T
        order = np.asarray(content["ra"], dtype=np.int64).reshape(count) - 1
        if sorted(order.tolist()) != list(range(count)):
            raise ValueError("ra is no permutation of the faces")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not the annotation of AFLW by Zhu et al.: {error}") from error
    boxes = np.stack([left, top, right, bottom], axis=1).tolist()
    faces = [
        (name, Face(points[i].tolist(), str(path), i + 1, (visible[i] + 1).tolist(), boxes[i]))
        for i, name in enumerate(names)
    ]
    num_train = NUM_FACES["train"]
    return {"train": [faces[i] for i in order[:num_train]], "full": [faces[i] for i in order[num_train:]]}


def split_by_name(faces: Iterable[tuple[str, Face]]) -> dict[str, list[tuple[str, Face]]]:
    """Return a split that depends on the names only, so that a part of the images is split
    alike; see ``convert_aflw``."""
    splits: dict[str, list[tuple[str, Face]]] = {"train": [], "full": []}
    for name, face in faces:
        fraction = int.from_bytes(hashlib.sha256(name.encode()).digest()) / 2**256
        splits["full" if fraction < _TEST_FRACTION else "train"].append((name, face))
    return splits


def _make_face(file: str, number: int, points: dict[int, tuple[Any, Any]], box: Iterable[Any]) -> Face:
    """Return a face with ``box`` x, y, width, height; what is not a number becomes NaN."""
    x, y, width, height = map(_parse_number, box)
    coordinates = [[_parse_number(value) for value in points.get(feature, (0, 0))] for feature in FEATURE_IDS]
    visibility = [2 if feature in points else 0 for feature in FEATURE_IDS]
    return Face(coordinates, file, number, visibility, [x, y, x + width, y + height])


def _parse_number(value: Any) -> float:
    return float(value) if is_number(value) else np.nan


def _group_by_image(faces: Iterable[tuple[str, Face]]) -> list[Image]:
    images: dict[str, list[Face]] = {}
    for name, face in faces:
        images.setdefault(name, []).append(face)
    return [Image(*item) for item in sorted(images.items())]


def _find(root: Path, name: str) -> Path | None:
    return min(root.rglob(name), key=lambda path: (len(path.parts), path), default=None)
