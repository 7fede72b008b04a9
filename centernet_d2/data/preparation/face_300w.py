"""300W (Sagonas et al. 2013): images of LFPW, HELEN, AFW and iBUG, 68 landmarks each in .pts files beside them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from centernet_d2.data.formats.image_files import list_image_suffixes
from centernet_d2.data.formats.matlab import read_mat
from centernet_d2.data.preparation.conversion import Converted, Summary, convert
from centernet_d2.data.preparation.faces import convert_pts
from centernet_d2.data.schemas import FACE68
from centernet_d2.data.validation.issues import AnnotationIssue
from centernet_d2.geometry import to_pixel_index


class Part(NamedTuple):
    """Number of images, the "subset" for which results are reported, and whether there is an official box file."""

    images: int
    subset: str = ""
    has_boxes: bool = True


#: By the folders that hold them.
PARTS = {
    "lfpw/trainset": Part(811),
    "helen/trainset": Part(2000),
    "afw": Part(337),
    "lfpw/testset": Part(224, "common"),
    "helen/testset": Part(330, "common"),
    "ibug": Part(135, "challenge"),
    "01_Indoor": Part(300, "indoor", has_boxes=False),
    "02_Outdoor": Part(300, "outdoor", has_boxes=False),
}
#: Split -> its parts; "test" is the set of the second challenge (2014), a download of its own.
SPLITS = {
    "train": ("lfpw/trainset", "helen/trainset", "afw"),
    "common": ("lfpw/testset", "helen/testset"),
    "challenge": ("ibug",),
    "full": ("lfpw/testset", "helen/testset", "ibug"),
    "test": ("01_Indoor", "02_Outdoor"),
}
#: Where the boxes come from; the latter two are fields of the official ``bounding_boxes_*.mat``.
BOXES = {"landmarks": "", "official": "bb_ground_truth", "detector": "bb_detector"}


class Pair(NamedTuple):
    """An image and its landmarks; names are relative to the root, "" where there is no such file.

    ``second_image`` is another image of the name in the same folder.
    """

    part: str
    stem: str
    image: str = ""
    pts: str = ""
    second_image: str = ""


def convert_300w(root: Path, boxes: str = "landmarks") -> list[Summary]:
    """Write ``root/annotations/{train,common,challenge,full,test}.json``, the last where its images are present.

    Args:
        boxes: one of ``BOXES``. The private test set has no box files: its boxes are those of the landmarks.

    Raises:
        OSError: files cannot be read or written.
        ImportError: ``boxes`` needs SciPy.
        ValueError: a box file cannot be understood.
    """
    parts = find_pairs(root)
    field = BOXES[boxes]
    with_boxes = [part for part, pairs in parts.items() if field and pairs and PARTS[part].has_boxes]
    official = {part: read_official_boxes(root, part, field) for part in with_boxes}

    def read_item(pair: Pair) -> Converted:
        if not pair.image:
            return Converted(
                issues=[AnnotationIssue(str(root / pair.pts), None, "image", "there is none of that name")]
            )
        if pair.second_image:
            problem = f"is ambiguous: there is {pair.second_image}, too; one of them must go"
            return Converted(issues=[AnnotationIssue(pair.image, None, "image", problem)])
        box = None
        if pair.part in official:
            box = official[pair.part].get(pair.stem)
            if box is None:
                return Converted(issues=[AnnotationIssue(pair.image, None, "box", "is not in the official box file")])
        subset = PARTS[pair.part].subset
        pts = root / (pair.pts or os.path.splitext(pair.image)[0] + ".pts")
        return convert_pts(root, pair.image, pts, box, **({"subset": subset} if subset else {}))

    summaries = []
    for split, names in SPLITS.items():
        items = [pair for name in names for pair in parts[name]]
        if split == "test" and not items:
            continue
        count = sum(PARTS[name].images for name in names)
        known = {"images": count, "objects": count}
        json_file = root / "annotations" / f"{split}.json"
        summaries.append(convert(items, read_item, json_file, FACE68.to_coco_categories(), options=boxes, known=known))
    return summaries


def find_pairs(root: Path) -> dict[str, list[Pair]]:
    """Return the pairs of each part, wherever below ``root`` its folders are, sorted by name.

    An image and a .pts file belong together if their names are the same up to the suffix; blanks do not count, because
    there is an ``image_092 _01`` that some copies have mended on one side. Other files and the flipped images of
    some distributions are passed over. Of a part that is there twice the copy that is less deep is taken.
    """
    found: dict[tuple[str, str], dict[str, str]] = {}
    paths = [
        Path(folder, name).relative_to(root) for folder, _, names in os.walk(root, followlinks=True) for name in names
    ]
    for path in sorted(paths, key=lambda path: (len(path.parts), str(path))):
        suffix, folders = path.suffix.lower(), {part.lower() for part in path.parts[:-1]}
        part = next((part for part in PARTS if folders.issuperset(part.lower().split("/"))), None)
        kind = "image" if suffix in list_image_suffixes() else suffix[1:]
        if part and kind in ("image", "pts") and not path.name.startswith(".") and not path.stem.endswith("_mirror"):
            files = found.setdefault((part, path.stem.replace(" ", "")), {})
            first = files.setdefault(kind, path.as_posix())
            if kind == "image" and path.as_posix() != first and os.path.dirname(first) == path.parent.as_posix():
                files["second_image"] = path.as_posix()
    pairs: dict[str, list[Pair]] = {part: [] for part in PARTS}
    for (part, stem), files in sorted(found.items()):
        pairs[part].append(Pair(part, stem, **files))
    return pairs


def read_official_boxes(root: Path, part: str, field: str) -> dict[str, np.ndarray]:
    """Return the boxes of one part by the images' names without blanks and suffix.

    Args:
        field: "bb_ground_truth" or "bb_detector".

    Returns:
        (4,) float64 each: x1, y1, x2, y2 in continuous image coordinates.

    Raises:
        FileNotFoundError: the file ``bounding_boxes_<part>.mat`` is nowhere below ``root``.
        ImportError: SciPy is not installed.
        ValueError: the file cannot be understood.
    """
    name = f"bounding_boxes_{part.replace('/', '_')}.mat"
    path = min(root.rglob(name), key=lambda path: (len(path.parts), str(path)), default=None)
    if path is None:
        raise FileNotFoundError(f"there is no {name} in {root}, which the official boxes need")
    entries: Any = read_mat(path).get("bounding_boxes")
    try:
        boxes = {
            os.path.splitext(entry["imgName"])[0].replace(" ", ""): np.asarray(entry[field], dtype=np.float64).reshape(
                4
            )
            for entry in np.atleast_1d(entries)
        }
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{path}, bounding_boxes: is not a list of imgName and {field}: {error}") from error
    # Pixels from 1 with their centers at whole numbers.
    return {stem: to_pixel_index(box) for stem, box in boxes.items()}
