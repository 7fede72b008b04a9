"""Files that other libraries write, where they are installed: read as what they were given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from centernet_d2.data.formats.labels import FORMATS, read_labels, recognize_format
from tests.helpers.labels import draw, make_set

BOXES = {"cat": (20.0, 10.0, 100.0, 60.0), "Hund": (5.0, 30.0, 45.0, 90.0)}  # x1, y1, x2, y2
POINTS = {"left_eye": [30.0, 20.5], "tail": [90.25, 50.0]}
OUTLINE = [(20.0, 10.0), (100.0, 10.0), (60.0, 60.0)]


def list_boxes(folder: Path, name: str) -> list:
    """(file's stem, class, corners of the box, outlines) of the objects of a folder, which ``auto`` must recognize."""
    assert recognize_format(folder) == name
    labels = read_labels(folder)
    assert not labels.issues
    names, result = labels.get_class_names(), []
    for image, objects in labels.list_objects():
        for one in objects:
            x, y, w, h = (round(value, 3) for value in one["bbox"])
            outlines = [[round(value, 3) for value in outline] for outline in one.get("segmentation") or []]
            result.append((Path(image["file_name"]).stem, names[one["category_id"]], (x, y, x + w, y + h), outlines))
    return sorted(result)


EXPECTED = sorted(("a", name, box, []) for name, box in BOXES.items())


@pytest.fixture
def detections(tmp_path):
    """supervision's DetectionDataset of two images; b.png has no objects."""
    supervision = pytest.importorskip("supervision")
    files = [str(draw(tmp_path / f"source/{name}.png")) for name in ("a", "b")]
    found = supervision.Detections(
        xyxy=np.array(list(BOXES.values()), dtype=np.float32), class_id=np.arange(len(BOXES))
    )
    annotations = {files[0]: found, files[1]: supervision.Detections.empty()}
    return supervision.DetectionDataset(classes=list(BOXES), images=files, annotations=annotations)


def test_supervisions_coco(detections, tmp_path):
    detections.as_coco(images_directory_path=str(tmp_path / "c"), annotations_path=str(tmp_path / "c/labels.json"))
    found = list_boxes(tmp_path / "c", "coco_folder")
    assert [one[:3] for one in found] == [one[:3] for one in EXPECTED]


def test_supervisions_yolo(detections, tmp_path):
    folder = tmp_path / "y"
    detections.as_yolo(str(folder / "images"), str(folder / "labels"), str(folder / "data.yaml"))
    assert list_boxes(folder, "yolo") == EXPECTED


def test_supervisions_pascal_voc(detections, tmp_path):
    detections.as_pascal_voc(str(tmp_path / "v"), str(tmp_path / "v"))
    assert list_boxes(tmp_path / "v", "voc_folder") == EXPECTED


@pytest.fixture
def export(tmp_path):
    """Writes a set of Datumaro's in one of its formats; returns the folder."""
    datumaro = pytest.importorskip("datumaro")

    def write(kind: str, annotations: list) -> Path:
        media = {name: datumaro.Image.from_file(path=str(draw(tmp_path / f"source/{name}.png"))) for name in "ab"}
        items = [
            datumaro.DatasetItem(id="a", subset="train", media=media["a"], annotations=annotations),
            datumaro.DatasetItem(id="b", subset="val", media=media["b"]),
        ]
        dataset = datumaro.Dataset.from_iterable(items, categories=list(BOXES))
        dataset.export(str(tmp_path / kind), kind, save_media=True)
        return tmp_path / kind

    return write


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("coco_instances", "coco_folder"),
        ("cvat", "cvat"),
        ("voc_detection", "voc_folder"),
        ("yolo_ultralytics", "yolo"),
    ],
)
def test_datumaros_boxes(export, kind, name):
    bbox = pytest.importorskip("datumaro").Bbox
    boxes = [bbox(x1, y1, x2 - x1, y2 - y1, label=k) for k, (x1, y1, x2, y2) in enumerate(BOXES.values())]
    # Datumaro counts pixels of Pascal VOC's files from 0, against their definition.
    shift = 1 if kind == "voc_detection" else 0
    expected = [(file, label, (x1 - shift, y1 - shift, x2, y2)) for file, label, (x1, y1, x2, y2), _ in EXPECTED]
    assert [one[:3] for one in list_boxes(export(kind, boxes), name)] == expected


@pytest.mark.parametrize(("kind", "name"), [("coco_instances", "coco_folder"), ("cvat", "cvat")])
def test_datumaros_outlines(export, kind, name):
    polygon = pytest.importorskip("datumaro").Polygon([value for point in OUTLINE for value in point], label=0)
    assert list_boxes(export(kind, [polygon]), name) == [("a", "cat", BOXES["cat"], [[20, 10, 100, 10, 60, 60]])]


def test_datumaros_dota(export):
    rotated_box = pytest.importorskip("datumaro.components.annotation").RotatedBbox
    box = rotated_box(100, 50, 80, 20, 30, label=0)  # x, y, width, height, degrees
    ((_, name, _, (outline,)),) = list_boxes(export("dota", [box]), "dota")
    # Clockwise on the screen: the corner (40, 10) from the center is rotated to (40 cos - 10 sin, 40 sin + 10 cos).
    cosine, sine = np.cos(np.pi / 6), np.sin(np.pi / 6)
    corners = {(round(x), round(y)) for x, y in zip(outline[0::2], outline[1::2], strict=True)}
    signs = [(40, 10), (-40, 10), (-40, -10), (40, -10)]
    assert name == "cat" and corners == {
        (round(100 + x * cosine - y * sine), round(50 + x * sine + y * cosine)) for x, y in signs
    }


def test_label_studios_tasks(tmp_path):
    convert = pytest.importorskip("label_studio_sdk.converter.imports.yolo").convert_yolo_to_ls
    draw(tmp_path / "images/a.png")
    lines = []
    for number, (x1, y1, x2, y2) in enumerate(BOXES.values()):
        lines.append(f"{number} {(x1 + x2) / 400} {(y1 + y2) / 200} {(x2 - x1) / 200} {(y2 - y1) / 100}")
    for name, text in (("classes.txt", "\n".join(BOXES)), ("labels/a.txt", "\n".join(lines))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "out").mkdir()
    convert(str(tmp_path), str(tmp_path / "out/tasks.json"))
    (tmp_path / "images").rename(tmp_path / "out/images")
    assert list_boxes(tmp_path / "out", "label_studio") == EXPECTED


def test_labelmes_file(tmp_path):
    """A rectangle drawn from its lower right corner, an outline, and an image that is kept inside of the file."""
    label_file = pytest.importorskip("labelme").LabelFile
    path = draw(tmp_path / "a.png")
    corners = {"cat": [[100.0, 60.0], [20.0, 10.0]], "Hund": [[5.0, 30.0], [45.0, 90.0]]}
    shapes = [describe_shape(name, "rectangle", points) for name, points in corners.items()]
    shapes.append(describe_shape("cat", "polygon", [list(point) for point in OUTLINE]))
    data = label_file.load_image_file(str(path))
    label_file().save(str(tmp_path / "a.json"), shapes, "a.png", 100, 200, data)
    outline = ("a", "cat", BOXES["cat"], [[20, 10, 100, 10, 60, 60]])
    assert list_boxes(tmp_path, "labelme") == sorted([*EXPECTED, outline])


def test_labelmes_points(tmp_path):
    """Points belong to the object of their group."""
    label_file = pytest.importorskip("labelme").LabelFile
    draw(tmp_path / "a.png")
    shapes = [describe_shape("cat", "rectangle", [[20.0, 10.0], [100.0, 60.0]], group=7)]
    shapes += [describe_shape(name, "point", [point], group=7) for name, point in POINTS.items()]
    label_file().save(str(tmp_path / "a.json"), shapes, "a.png", 100, 200)
    labels = read_labels(tmp_path)
    ((_, (one,)),) = labels.list_objects()
    assert labels.get_keypoints(one) == {name: (*point, 2) for name, point in POINTS.items()}


def describe_shape(label: str, kind: str, points: list, group: int | None = None) -> dict:
    """A shape as LabelMe's window hands it to its file."""
    return {"label": label, "shape_type": kind, "points": points, "group_id": group, "flags": {}, "description": ""}


def test_labelme_reads_what_is_written(tmp_path):
    label_file = pytest.importorskip("labelme").LabelFile
    FORMATS["labelme"].write(make_set(tmp_path / "a", False, False), tmp_path / "b")
    read = {path.stem: label_file(str(path)).shapes for path in (tmp_path / "b").rglob("*.json")}
    boxes = [(one["label"], one["points"]) for one in read["bild 1 ü"] if one["shape_type"] == "rectangle"]
    assert boxes == [("cat", [[0.25, 5.5], [40.25, 35.625]])] and not read["bild 0 ü"]


def test_supervision_reads_what_is_written(tmp_path):
    supervision = pytest.importorskip("supervision")
    FORMATS["yolo"].write(make_set(tmp_path / "a", False, False), tmp_path / "b")
    read = supervision.DetectionDataset.from_yolo(
        str(tmp_path / "b/images/train"), str(tmp_path / "b/labels/train"), str(tmp_path / "b/data.yaml")
    )
    found = {Path(path).stem: one for path, _, one in read}
    np.testing.assert_allclose(found["bild 1 ü"].xyxy, [[0.25, 5.5, 40.25, 35.625]], atol=1e-3)
    assert read.classes == ["cat", "Hündin", "never seen"] and len(found["bild 0 ü"]) == 0
