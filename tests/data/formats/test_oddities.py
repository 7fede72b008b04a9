"""One set in every format, as odd tools and hands leave it: what is read equals the COCO file, or the file is named.

The table of docs/your_data.md is this one.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from centernet_d2.data.formats.labels import FORMATS, LabelSet, read_labels, recognize_format
from tests.helpers.labels import HEIGHT, WIDTH, list_found, make_set

PAGE = (Path(__file__).resolve().parents[3] / "docs/your_data.md").read_text()
TEXT = (".txt", ".json", ".xml", ".yaml")
#: What each format has a place for, besides images, classes and splits.
KINDS = {name: ["boxes", "outlines", "keypoints"] for name in FORMATS} | {"voc_folder": ["boxes"], "dota": ["outlines"]}
EMPTY = {"coco_folder": "labels.json", "cvat": "a.xml", "label_studio": "a.json", "via": "a.json"}


def edit_texts(folder: Path, edit: Callable[[bytes], bytes]) -> None:
    for file in folder.rglob("*"):
        if file.suffix in TEXT:
            file.write_bytes(edit(file.read_bytes()))


def add_byte_order_mark(folder: Path, name: str) -> None:
    edit_texts(folder, lambda text: b"\xef\xbb\xbf" + text)


def end_lines_as_windows(folder: Path, name: str) -> None:
    edit_texts(folder, lambda text: text.replace(b"\n", b"\r\n"))


def add_unknown_fields(folder: Path, name: str) -> None:
    for file in [file for file in folder.rglob("*") if file.suffix in TEXT]:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".json":
            text = json.dumps(add_field(json.loads(text)))
        elif file.suffix == ".xml":
            root = ElementTree.fromstring(text)
            for element in list(root.iter()):
                element.set("unknown", "1")
                if len(element):
                    ElementTree.SubElement(element, "unknown").text = "1"
            text = ElementTree.tostring(root, encoding="unicode")
        elif file.suffix == ".yaml":
            text = yaml.safe_dump({**yaml.safe_load(text), "unknown": {"a": [1]}})
        elif name == "dota":
            text = f"unknown:1\n{text}"
        file.write_text(text, encoding="utf-8")


def add_field(value: Any) -> Any:
    """An unknown field in every object of a JSON file; VIA's tables by file name or number have none."""
    if isinstance(value, list):
        return [add_field(one) for one in value]
    if not isinstance(value, dict):
        return value
    own = {key: add_field(one) for key, one in value.items()}
    is_table = bool(own) and all(isinstance(one, dict) and "regions" in one for one in own.values())
    is_choice = bool(own) and all(isinstance(one, bool) for one in own.values())
    return own if is_table or is_choice else {**own, "unknown": {"a": [1]}}


def empty_a_file(folder: Path, name: str) -> None:
    """The label file of the image without objects; or a second file where one file is for all."""
    if name in EMPTY:
        (folder / EMPTY[name]).write_bytes(b"")
        return
    (file,) = (one for one in folder.rglob("*0 ü.*") if one.suffix in TEXT)
    file.write_bytes(b"")


def remove_an_image(folder: Path, name: str) -> None:
    (image,) = folder.rglob("*0 ü.png")
    image.unlink()


def rotate_images(folder: Path, name: str) -> None:
    """Every image is stored as its columns, which EXIF says."""
    for path in folder.rglob("*.png"):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (HEIGHT, WIDTH)).save(path, exif=exif)


ODDITIES = {
    "byte-order mark": add_byte_order_mark,
    "CRLF": end_lines_as_windows,
    "unknown fields": add_unknown_fields,
    "empty file": empty_a_file,
    "absent image": remove_an_image,
    "rotated EXIF": rotate_images,
}
#: "equal": to the COCO file. "named": the file that cannot be used is reported, and the rest is equal.
TABLE = {name: dict.fromkeys(ODDITIES, "equal") for name in FORMATS}
# Their files have no size of an image, or none of one without objects.
for own in ("label_studio", "via", "dota", "yolo"):
    TABLE[own]["absent image"] = "named"
for own in ("labelme", "voc_folder"):
    TABLE[own]["empty file"] = "named"


def render_table() -> str:
    lines = [f"| format | {' | '.join(ODDITIES)} |", "|" + "---|" * (len(ODDITIES) + 1)]
    return "\n".join([*lines, *(f"| `{name}` | {' | '.join(row.values())} |" for name, row in TABLE.items())])


def list_expected(labels: LabelSet, name: str, kind: str) -> list[tuple]:
    expected = list_found(labels)
    if name == "cvat" and kind == "keypoints":  # a skeleton has no box: it is made from the keypoints
        expected = [(*one[:2], (0, 0, 0, 0), *one[3:]) for one in expected]
    if name == "labelme":  # and this no visibility
        expected = [(*one[:4], {k: (x, y, 2) for k, (x, y, _) in one[4].items()}) for one in expected]
    return expected


def make_images(folder: Path, kind: str, name: str) -> LabelSet:
    ours = make_set(folder, kind == "keypoints", kind == "outlines")
    for one in ours.data["annotations"] if name == "dota" else ():  # four corners of a rotated box
        x, y = one["bbox"][:2]
        one["segmentation"] = [[x + 8, y, x + 40, y + 24, x + 32, y + 30.125, x, y + 6.125]]
        one["bbox"] = [x, y, 40, 30.125]
    return ours


@pytest.mark.parametrize("oddity", ODDITIES)
@pytest.mark.parametrize("name", FORMATS)
def test_odd_files_are_equal_to_the_coco_file_or_named(tmp_path, name, oddity):
    for kind in KINDS[name]:
        ours, folder = make_images(tmp_path / kind, kind, name), tmp_path / f"{kind}_{name}"
        FORMATS[name].write(ours, folder)
        ODDITIES[oddity](folder, name)
        assert recognize_format(folder) == name
        labels = read_labels(folder)
        assert list_found(labels) == list_expected(ours, name, kind)
        sizes = {(image["height"], image["width"]) for image in labels.data["images"]}
        assert sizes == {(HEIGHT, WIDTH)}
        splits = {Path(image["file_name"]).name: image.get("split") for image in labels.data["images"]}
        expected = {f"bild {k} ü.png": ("train", "train", "val")[k] for k in range(3)}
        if TABLE[name][oddity] == "named":
            (issue,) = labels.issues
            gone = "bild 0 ü" if name not in EMPTY or oddity == "absent image" else EMPTY[name]
            assert gone in issue.file
            expected.pop("bild 0 ü.png", None) if "bild" in gone else None
        else:
            assert not labels.issues
        assert splits == expected
        names = [one["name"] for one in labels.data["categories"]]
        assert set(names) - {"never seen"} == {"cat", "Hündin"}


def test_the_page_has_this_table():
    assert render_table() in PAGE
    assert re.search(r"^`equal`: ", PAGE, re.M)
