"""Drawn objects with four keypoints in a COCO file with PNG images, as a user would bring them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

#: Nose, wings and tail of a kite, which is symmetric; heel, knee, toe and top of a hook, which is not.
OUTLINES = {
    "kite": np.array([[0, -1.2], [0.75, -0.2], [0, 1.2], [-0.75, -0.2]]),
    "hook": np.array([[-0.5, -1.1], [-0.5, 0.9], [0.9, 0.9], [0.9, 0.3]]),
}
KEYPOINTS = {"kite": ["nose", "right_wing", "tail", "left_wing"], "hook": ["top", "heel", "toe", "tip"]}
SKELETONS = {"kite": [[1, 2], [2, 3], [3, 4], [4, 1]], "hook": [[1, 2], [2, 3], [3, 4]]}


def write_drawn_set(folder: Path, kind: str, count: int, seed: int, size: int = 128) -> Path:
    """Write ``folder/<n>.png`` and ``folder/labels.json``, with one to three objects an image; return the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    images, annotations = [], []
    for number in range(1, count + 1):
        image = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC) // 2 + 64
        taken: list[np.ndarray] = []
        for _ in range(rng.integers(1, 4)):
            points = _place(OUTLINES[kind], rng, size, taken)
            if points is None:
                continue
            _draw(image, kind, points, rng)
            x1, y1, x2, y2 = *points.min(axis=0), *points.max(axis=0)
            # Files have pixel indices.
            keypoints = [value for x, y in (points - 0.5).tolist() for value in (round(x, 2), round(y, 2), 2)]
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "keypoints": keypoints}
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": 1, **box})
        cv2.imwrite(str(folder / f"{number}.png"), image)
        images.append({"id": number, "file_name": f"{number}.png", "height": size, "width": size})
    category = {"id": 1, "name": kind, "keypoints": KEYPOINTS[kind], "skeleton": SKELETONS[kind]}
    path = folder / "labels.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return path


def _place(outline: np.ndarray, rng: np.random.Generator, size: int, taken: list[np.ndarray]) -> np.ndarray | None:
    """Return the outline rotated and moved to a free place, (4, 2) continuous pixels; None if none was found."""
    for _ in range(20):
        angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(14, 26)
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        center = rng.uniform(1.4 * radius, size - 1.4 * radius, 2)
        if all(np.linalg.norm(center - other[:2]) > 1.1 * (radius + other[2]) for other in taken):
            taken.append(np.array([*center, radius]))
            return outline @ rotation.T * radius + center
    return None


def _draw(image: np.ndarray, kind: str, points: np.ndarray, rng: np.random.Generator) -> None:
    color = tuple(int(x) for x in rng.choice([rng.integers(0, 50, 3), rng.integers(205, 256, 3)]))
    fixed = np.rint((points - 0.5) * 16).astype(np.int32)
    if kind == "kite":
        cv2.fillPoly(image, [fixed], color, cv2.LINE_AA, 4)
    else:
        cv2.polylines(image, [fixed], False, color, 6, cv2.LINE_AA, 4)
