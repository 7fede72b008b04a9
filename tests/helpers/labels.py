"""Folders of labels that tests write by hand, and what is read from them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from centernet_d2.data.formats.labels import recognize_format
from centernet_d2.data.formats.labels.label_set import LabelSet, LabelSetBuilder

WIDTH, HEIGHT = 200, 100
BOX = [20.0, 10.0, 100.0, 60.0]  # x1, y1, x2, y2
OUTLINE = [(20.0, 10.0), (100.0, 10.0), (60.0, 60.0)]
POINTS = {"left_ear": (30.0, 20.0, 2), "right_ear": (90.0, 20.0, 1)}


def draw(path: Path, size=(HEIGHT, WIDTH)) -> Path:
    """Write a gray image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 99, np.uint8)).save(path)
    return path


def put(path: Path, text) -> Path:
    """Write a text, or data as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return path


def list_found(labels):
    """(file, class, corners, outlines, keypoints) of each object, in the order of the files."""
    names, result = labels.get_class_names(), []
    for image, objects in labels.list_objects():
        for one in objects:
            x, y, w, h = one.get("bbox", [0, 0, 0, 0])
            corners = tuple(round(value, 3) for value in (x, y, x + w, y + h))
            outlines = [[round(value, 3) for value in polygon] for polygon in one.get("segmentation", [])]
            keypoints = {k: tuple(round(v, 3) for v in point) for k, point in labels.get_keypoints(one).items()}
            result.append((Path(image["file_name"]).name, names[one["category_id"]], corners, outlines, keypoints))
    return sorted(result, key=repr)


CAT_BOX = ("a.png", "cat", tuple(BOX), [], {})
CAT_OUTLINE = ("a.png", "cat", tuple(BOX), [[20, 10, 100, 10, 60, 60]], {})


def describe(folder: Path, labels: LabelSet):
    """(format, issues, objects as ``list_found`` has them) of a folder and of the labels read from it."""
    return recognize_format(folder), labels.issues, list_found(labels)


def make_set(folder: Path, keypoints: bool, outlines: bool):
    """Draw three images and return their labels: 0, 1 and 2 objects, of two of three classes."""
    builder = LabelSetBuilder(folder, ["cat", "Hündin", "never seen"])
    if keypoints:
        for name in ("cat", "Hündin", "never seen"):
            builder.declare_keypoints(name, list(POINTS), skeleton=[[1, 2]])
    for number, split in enumerate(("train", "train", "val")):
        draw(folder / f"bild {number} ü.png")
        image = builder.add_image(f"bild {number} ü.png", split=split)
        for k in range(number):  # the first image has none
            x, y = 10 * k + 0.25, 5.5
            polygon = [(x, y), (x + 40, y), (x + 20, y + 30.125)]
            points = {name: (a / 4 + x, b / 4 + y, v) for name, (a, b, v) in POINTS.items()}
            builder.add_object(
                image,
                ("cat", "Hündin")[k % 2],
                box=None if outlines else [x, y, x + 40, y + 30.125],
                polygons=[polygon] if outlines else [],
                keypoints=points if keypoints else None,
            )
    return builder.finish()
