"""Small files in published layouts."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from centernet_d2.cli.prepare_data import prepare_dataset
from centernet_d2.data.catalog import load_dataset_dicts
from centernet_d2.data.datasets.keypoint_sets import register_keypoint_dataset


def face_points(seed: int = 0, count: int = 68) -> np.ndarray:
    """(count, 2) x, y from 0, inside a 100x80 image, with three decimals."""
    return np.random.default_rng(seed).uniform(10, 70, (count, 2)).round(3)


def pts_text(points: Iterable[Iterable[float]]) -> str:
    """``points`` count from 0, the file from 1."""
    lines = [f"{x + 1:.3f} {y + 1:.3f}" for x, y in points]
    return "\n".join(["version: 1", f"n_points:  {len(lines)}", "{", *lines, "}", "", ""])


def write_image(path: Path, width: int = 100, height: int = 80) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (90, 120, 150)).save(path)


def write_pair(image: Path, points: np.ndarray) -> None:
    write_image(image)
    image.with_suffix(".pts").write_text(pts_text(points))


def run_script(name: str, *arguments: str) -> int:
    """The exit status of a script of datasets/."""
    return prepare_dataset(name.removeprefix("prepare_"), list(arguments))


def load(json_file: Path, root: Path, schema: str) -> list[dict[str, Any]]:
    """The dataset dicts as training gets them; raises for any issue."""
    name = f"test_converters_{uuid.uuid4().hex}"
    register_keypoint_dataset(name, schema, str(json_file), str(root))
    return load_dataset_dicts(name)


def images_and_points(json_file: Path) -> dict[str, list[np.ndarray]]:
    """(K, 3) keypoints of the objects by file name, as the file has them."""
    content = json.loads(json_file.read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    points: dict[str, list[np.ndarray]] = {name: [] for name in names.values()}
    for entry in content["annotations"]:
        points[names[entry["image_id"]]].append(np.reshape(entry["keypoints"], (-1, 3)))
    return points
