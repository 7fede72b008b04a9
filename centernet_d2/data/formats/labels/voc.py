"""Pascal VOC's XML, one file an image: in VOC's folders, or beside the images as Roboflow writes it."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from centernet_d2.data.formats.image_files import list_image_suffixes
from centernet_d2.data.formats.labels.label_set import LabelSet, LabelSetBuilder, copy_image, list_images, read_start
from centernet_d2.data.formats.text import read_lines
from centernet_d2.data.formats.voc_xml import read_voc_names, read_voc_xml

NAME = "voc_folder"
_SPLITS = {"train": "train", "trainval": "train", "val": "val", "valid": "val", "test": "test"}
_ROOT = re.compile(rb"<annotation[\s>]")


def recognize(path: Path) -> bool:
    files = sorted(path.rglob("*.xml")) if path.is_dir() else []
    return any(_ROOT.search(read_start(file)) for file in files)


def read(path: Path) -> LabelSet:
    """Read all XML files below the folder. The split is that of ``ImageSets/Main``, or a folder called train, valid or
    test; an image has the XML file's name, or else the name in it."""
    splits = _read_lists(path)
    builder = LabelSetBuilder(path, read_voc_names(str(path)))
    images = {image.relative_to(path).with_suffix("").as_posix(): image for image in list_images(path)}
    for file in sorted(path.rglob("*.xml")):
        content, issues = read_voc_xml(str(file))
        builder.issues += issues
        builder.notes.update(content.conversions)
        if any(issue.field == "file" for issue in issues):
            continue  # without what it says, the image is not background
        stem = file.relative_to(path).with_suffix("").as_posix()
        beside = stem.replace("Annotations/", "JPEGImages/", 1)
        named = file.parent / content.file_name
        image = images.get(stem) or images.get(beside)
        if image is None and content.file_name and named.suffix.lower() in list_image_suffixes() and named.is_file():
            image = named
        absent = f"{beside}{Path(content.file_name).suffix or '.jpg'}"
        place = os.path.relpath(image, path) if image else absent
        split = splits.get(file.stem) or _SPLITS.get(stem.split("/")[0], "")
        image_id = builder.add_image(place, content.size or (None, None), split)
        for one in content.objects if image_id else ():
            builder.add_object(image_id, one.name, box=one.bbox, iscrowd=int(one.difficult))
    return builder.finish()


def _read_lists(path: Path) -> dict[str, str]:
    """Return split by stem; "train" and "val" go before "trainval"."""
    folder = path / "ImageSets" / "Main"
    result: dict[str, str] = {}
    for name in ("train", "val", "test", "trainval"):
        file = folder / f"{name}.txt"
        for line in read_lines(file) if file.is_file() else ():
            if line.strip():
                result.setdefault(line.strip(), _SPLITS[name])
    return result


def write(labels: LabelSet, folder: Path) -> None:
    """Write ``Annotations``, ``JPEGImages`` and ``ImageSets/Main``; boxes only, with fractions of pixels."""
    names, lists = labels.get_class_names(), dict[str, list[str]]()
    for image, objects in labels.list_objects():
        target = copy_image(labels, image, folder / "JPEGImages")
        lists.setdefault(image.get("split") or "train", []).append(target.stem)
        root = ElementTree.Element("annotation")
        ElementTree.SubElement(root, "filename").text = target.name
        size = ElementTree.SubElement(root, "size")
        for tag, value in (("width", image["width"]), ("height", image["height"]), ("depth", 3)):
            ElementTree.SubElement(size, tag).text = str(value)
        for one in objects:
            if "bbox" not in one:
                labels.notes["objects have no box, and are not written"] += 1
                continue
            element, (x, y, w, h) = ElementTree.SubElement(root, "object"), one["bbox"]
            ElementTree.SubElement(element, "name").text = names[one["category_id"]]
            ElementTree.SubElement(element, "difficult").text = str(one.get("iscrowd", 0))
            box = ElementTree.SubElement(element, "bndbox")
            for tag, number in (("xmin", x + 1), ("ymin", y + 1), ("xmax", x + w), ("ymax", y + h)):
                ElementTree.SubElement(box, tag).text = f"{number:.9g}"
        ElementTree.indent(root)
        file = folder / "Annotations" / f"{target.stem}.xml"
        file.parent.mkdir(parents=True, exist_ok=True)
        ElementTree.ElementTree(root).write(file, encoding="utf-8")
    main = folder / "ImageSets" / "Main"
    main.mkdir(parents=True, exist_ok=True)
    for split, stems in lists.items():
        (main / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")
