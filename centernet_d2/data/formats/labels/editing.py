"""Classes and splits of a label set, changed before it is written."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence

from centernet_d2.data.formats.labels.label_set import LabelSet


def edit_classes(
    labels: LabelSet, rename: Mapping[str, str] | None = None, ignore: Collection[str] = (), order: Sequence[str] = ()
) -> None:
    """Rename, merge and leave out classes, in place; ids count from 1 again.

    Args:
        rename: new names by old ones; several may get the same one, if their keypoints are the same.
        ignore: old names; their objects are left out.
        order: all new names in their order; classes without an object may be among them. () keeps the order.

    Raises:
        ValueError: a name that there is not, or ``order`` lacks one; keypoints of merged classes differ.
    """
    rename, categories = rename or {}, labels.data["categories"]
    names = [one["name"] for one in categories]
    unknown = sorted({*rename, *ignore} - set(names))
    if unknown:
        raise ValueError(f"there is no class {', '.join(unknown)}: the classes are {', '.join(names)}")
    merged: dict[str, dict] = {}
    target: dict[int, str] = {}
    for one in categories:
        if one["name"] in ignore:
            continue
        new = rename.get(one["name"], one["name"])
        target[one["id"]] = new
        first = merged.setdefault(new, {**one, "name": new})
        if first.get("keypoints", []) != one.get("keypoints", []):
            raise ValueError(f"{one['name']} cannot become {new}: their keypoints differ")
    missing = [name for name in merged if order and name not in order]
    if missing:
        raise ValueError(f"the class list lacks {', '.join(missing)}: add or ignore them")
    ordered = [merged.get(name, {"name": name}) for name in order or merged]
    labels.data["categories"] = [{**one, "id": number} for number, one in enumerate(ordered, start=1)]
    numbers = {one["name"]: one["id"] for one in labels.data["categories"]}
    kept = [one for one in labels.data["annotations"] if one["category_id"] in target]
    labels.data["annotations"] = [{**one, "category_id": numbers[target[one["category_id"]]]} for one in kept]


def split_images(labels: LabelSet, val_fraction: float, group: str = "") -> None:
    """Give every image the split "train" or "val", in place.

    The choice depends on the group's name alone (its hash), so it is the same everywhere, and stays when images are
    added. If no group would be in "val", the one nearest to it is.

    Args:
        val_fraction: of the groups, about, in "val".
        group: a pattern; images whose file names match it and have the same first bracket (or whole match) are in one
            split, as the frames of a video or the images of a patient must be. "" takes every image by itself.

    Raises:
        ValueError: the fraction or the pattern is none.
    """
    if not 0 < val_fraction < 1:
        raise ValueError(f"the fraction of val is {val_fraction}, not between 0 and 1")
    try:
        pattern = re.compile(group) if group else None
    except re.error as error:
        raise ValueError(f"the group {group!r} is not a pattern: {error}") from None
    names = {image["id"]: _find_group(image["file_name"], pattern) for image in labels.data["images"]}
    places = {name: _hash_place(name) for name in set(names.values())}
    in_val = {name for name, place in places.items() if place < val_fraction}
    if not in_val and len(places) > 1:
        in_val = {min(places, key=lambda name: places[name])}
    for image in labels.data["images"]:
        image["split"] = "val" if names[image["id"]] in in_val else "train"


def _find_group(file_name: str, pattern: re.Pattern[str] | None) -> str:
    match = pattern.search(file_name) if pattern else None
    return (match[1] if match.groups() else match[0]) if match else file_name


def _hash_place(name: str) -> float:
    """Return a number from 0 to 1 that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64
