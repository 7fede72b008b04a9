"""What every label format is read into: the content of a COCO file, with an image's split, and what was left out."""

from __future__ import annotations

import math
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from centernet_d2.data.formats.image_files import list_image_suffixes
from centernet_d2.data.formats.numbers import parse_number
from centernet_d2.data.image_io import CorruptImageError, read_image_size
from centernet_d2.data.validation.issues import AnnotationIssue
from centernet_d2.data.validation.missing import explain_missing
from centernet_d2.geometry import from_pixel_index, to_pixel_index

#: x, y in continuous image pixels, and visibility 0, 1 or 2.
Keypoint = tuple[float, float, int]
Points = Sequence[tuple[float, float]]


@dataclass
class LabelSet:
    """Labels of images in a folder.

    Attributes:
        data: "images", "annotations", "categories" and, of a video, "videos" as in a COCO file; an image may have
            "split", a category "flip_pairs" (pairs of indices of its keypoints) where the format says them.
        image_root: the folder of the images' ``file_name``.
        issues: records that cannot be used; they are not in ``data``.
        notes: counts by text of what was left out or read as something else, though nothing is wrong with it.
    """

    data: dict[str, list[Any]]
    image_root: str
    issues: list[AnnotationIssue] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)

    def list_objects(self) -> Iterable[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """Yield each image with its annotations."""
        by_image: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in self.data["images"]}
        for annotation in self.data["annotations"]:
            by_image[annotation["image_id"]].append(annotation)
        return ((image, by_image[image["id"]]) for image in self.data["images"])

    def get_class_names(self) -> dict[int, str]:
        """Return names by category id."""
        return {category["id"]: category["name"] for category in self.data["categories"]}

    def get_keypoints(self, annotation: Mapping[str, Any]) -> dict[str, Keypoint]:
        """Return an annotation's labeled keypoints by name, in continuous image pixels."""
        category = next(one for one in self.data["categories"] if one["id"] == annotation["category_id"])
        triples = zip(*(annotation.get("keypoints", ())[k::3] for k in range(3)), strict=True)
        named = zip(category.get("keypoints", ()), triples, strict=False)
        return {name: (from_pixel_index(x), from_pixel_index(y), v) for name, (x, y, v) in named if v > 0}


class RecordError(ValueError):
    """A record that cannot be used: its field and what is wrong."""

    def __init__(self, field_name: str, problem: str) -> None:
        super().__init__(field_name, problem)
        self.field, self.problem = field_name, problem


class LabelSetBuilder:
    """Collects images and objects; boxes and points are in continuous image pixels.

    Args:
        image_root: folder that file names are relative to.
        class_names: known in advance, in this order; others are added after them, sorted.
    """

    def __init__(self, image_root: str | os.PathLike[str], class_names: Iterable[str] = ()) -> None:
        self.image_root = os.fspath(image_root)
        self.issues: list[AnnotationIssue] = []
        self.notes: Counter[str] = Counter()
        self.videos: list[dict[str, Any]] = []
        self._images: list[dict[str, Any]] = []
        self._objects: list[dict[str, Any]] = []
        self._names = list(class_names)
        self._keypoints: dict[str, list[str]] = {}
        self._declared: dict[str, dict[str, Any]] = {}

    def declare_keypoints(self, class_name: str, names: Sequence[str], **fields: Any) -> None:
        """Give the names and order of a class's keypoints, and other fields of its category, such as "skeleton"."""
        self._keypoints[class_name] = list(names)
        self._declared[class_name] = fields

    def get_keypoint_names(self, class_name: str) -> list[str]:
        """Return the declared names of a class's keypoints."""
        return self._keypoints[class_name]

    def add_image(self, file_name: str, size: tuple[Any, Any] = (None, None), split: str = "", **extra: Any) -> int:
        """Return the new image's id, or 0 if its size is neither given nor in its file, which is reported.

        Args:
            size: (height, width); other values than positive integers are taken from the image file.
        """
        path = os.path.normpath(os.path.join(self.image_root, file_name))
        file_name = os.path.relpath(path, self.image_root)
        # COCO readers refuse names that lead out of the folder; absolute ones say so openly.
        file_name = os.path.abspath(path) if file_name.startswith("..") else file_name
        if not all(isinstance(value, int) and value > 0 for value in size):
            try:
                size = read_image_size(path)
            except (CorruptImageError, OSError) as error:
                problem = error.reason if isinstance(error, CorruptImageError) else explain_missing(path)
                self.report(path, None, "image", problem)
                return 0
        entry = {"id": len(self._images) + 1, "file_name": file_name, "height": size[0], "width": size[1]}
        self._images.append({**entry, **({"split": split} if split else {}), **extra})
        return len(self._images)

    def get_size(self, image_id: int) -> tuple[int, int]:
        """Return (height, width) of an image."""
        return self._images[image_id - 1]["height"], self._images[image_id - 1]["width"]

    def add_object(
        self,
        image_id: int,
        class_name: str,
        *,
        box: Sequence[float] | None = None,
        polygons: Sequence[Points] = (),
        keypoints: Mapping[str, Keypoint] | None = None,
        **extra: Any,
    ) -> None:
        """Add an object; without ``box`` (x1, y1, x2, y2) it is that of the polygons, or is left to the keypoints.

        Raises:
            RecordError: there is nothing to place the object by, or a polygon has less than three points.
        """
        entry: dict[str, Any] = {"image_id": image_id, "class": class_name, "iscrowd": 0, **extra}
        if any(len(polygon) < 3 for polygon in polygons):
            raise RecordError("points", "has a polygon of less than three points")
        if polygons:
            corners = [point for polygon in polygons for point in polygon]
            box = box or [f(axis) for f in (min, max) for axis in zip(*corners, strict=True)]
            entry["segmentation"] = [[value for point in polygon for value in point] for polygon in polygons]
            entry["area"] = sum(map(measure_area, polygons))
        if box:
            x1, y1, x2, y2 = box
            entry["bbox"] = [x1, y1, x2 - x1, y2 - y1]
        if keypoints:
            entry["points"] = dict(keypoints)
        elif not box:
            raise RecordError("shape", "has neither a box nor points")
        self._objects.append(entry)

    def report(self, file: str | os.PathLike[str], record: Any, field_name: str, problem: str) -> None:
        """Report a record that cannot be used."""
        self.issues.append(AnnotationIssue(os.fspath(file), record, field_name, problem))

    def finish(self) -> LabelSet:
        """Return the set. Class and keypoint names that no one declared are in natural order (2 before 10)."""
        seen = {one["class"] for one in self._objects} - set(self._names)
        names = [*self._names, *sorted(seen, key=sort_naturally)]
        found: dict[str, set[str]] = {}
        for one in self._objects:
            found.setdefault(one["class"], set()).update(one.get("points", ()))
        categories: list[dict[str, Any]] = []
        for number, name in enumerate(names, start=1):
            points = self._keypoints.get(name) or sorted(found.get(name, ()), key=sort_naturally)
            fields = {"keypoints": points, "skeleton": [], **self._declared.get(name, {})} if points else {}
            categories.append({"id": number, "name": name, **fields})
        numbers = {category["name"]: category for category in categories}
        annotations = [self._finish_object(one, k, numbers) for k, one in enumerate(self._objects, start=1)]
        data = {"images": self._images, "annotations": annotations, "categories": categories}
        data |= {"videos": self.videos} if self.videos else {}
        return LabelSet(data, self.image_root, self.issues, self.notes)

    def _finish_object(self, one: dict[str, Any], number: int, categories: Mapping[str, Any]) -> dict[str, Any]:
        category = categories[one["class"]]
        entry = {"id": number, **{key: value for key, value in one.items() if key not in ("class", "points")}}
        entry["category_id"] = category["id"]
        if "bbox" in entry:
            entry.setdefault("area", entry["bbox"][2] * entry["bbox"][3])
        if category.get("keypoints"):
            unlabeled = (from_pixel_index(0.0), from_pixel_index(0.0), 0)
            points = [one.get("points", {}).get(name, unlabeled) for name in category["keypoints"]]
            flat = [value for x, y, v in points for value in (to_pixel_index(x), to_pixel_index(y), v)]
            entry["keypoints"] = flat
            entry["num_keypoints"] = sum(v > 0 for _, _, v in points)
        return entry


def read_number(value: Any, field_name: str) -> float:
    """Return a finite number given as one or as text.

    Raises:
        RecordError: it is neither.
    """
    number = parse_number(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) < 1e15:
        raise RecordError(field_name, f"is {str(value)[:40]!r}, not a number" if value is not None else "is missing")
    return float(number)


def get_polygons(annotation: Mapping[str, Any]) -> list[list[tuple[float, float]]]:
    """Return the points x, y of an annotation's outlines; none if it has no outline, or a mask that is run lengths."""
    given = annotation.get("segmentation")
    outlines = given if isinstance(given, list) else []
    return [list(zip(outline[0::2], outline[1::2], strict=True)) for outline in outlines]


def measure_area(polygon: Points) -> float:
    """Return the area of a polygon in square pixels."""
    following = [*polygon[1:], polygon[0]]
    pairs = zip(polygon, following, strict=True)
    return abs(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairs)) / 2


def read_start(file: Path) -> bytes:
    """Return the first 2,000 bytes of a file, by which a format is recognized."""
    with file.open("rb") as opened:
        return opened.read(2000)


def rotate_points(points: Points, center: tuple[float, float], degrees: float) -> list[tuple[float, float]]:
    """Return points rotated about ``center``, clockwise on the screen."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    offsets = [(x - center[0], y - center[1]) for x, y in points]
    return [(center[0] + x * cosine - y * sine, center[1] + x * sine + y * cosine) for x, y in offsets]


def sort_naturally(name: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts numbers in names by value."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def list_images(folder: Path) -> list[Path]:
    """Return the image files below ``folder``, sorted; hidden ones are left out."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in list_image_suffixes())
    return [path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def find_image(folder: Path, name: str) -> str:
    """Return where the image ``name`` is: that in ``folder``, or in ``images`` there; ``name`` if it is in neither."""
    return next((place for place in (name, f"images/{name}") if (folder / place).is_file()), name)


def copy_image(labels: LabelSet, image: Mapping[str, Any], folder: Path) -> Path:
    """Copy an image into ``folder`` under its own name (sub-folders become part of it); return the new path."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / flatten_name(image["file_name"])
    source = Path(labels.image_root, image["file_name"])
    if source.is_file() and not target.exists():
        shutil.copyfile(source, target)
    return target


def flatten_name(file_name: str) -> str:
    """Return a file name without folders."""
    return file_name.replace("\\", "/").removeprefix("./").replace("../", "").strip("/").replace("/", "__")
