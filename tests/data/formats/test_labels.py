"""Label formats: samples written by hand as the tools write them."""

from __future__ import annotations

import pytest

from centernet_d2.data.formats.labels import read_labels
from centernet_d2.data.validation.issues import AnnotationError
from tests.helpers.labels import (
    BOX,
    CAT_BOX,
    CAT_OUTLINE,
    HEIGHT,
    OUTLINE,
    POINTS,
    WIDTH,
    describe,
    draw,
    list_found,
    put,
)


def test_yolo_boxes(tmp_path):
    draw(tmp_path / "images/train/a.png")
    draw(tmp_path / "images/val/b.png")
    put(tmp_path / "labels/train/a.txt", "1 0.3 0.35 0.4 0.5\n")
    put(tmp_path / "data.yaml", "train: images/train\nval: images/val\nnames: [dog, cat]\n")
    labels = read_labels(tmp_path)
    assert describe(tmp_path, labels) == ("yolo", [], [CAT_BOX])
    assert [one["name"] for one in labels.data["categories"]] == ["dog", "cat"]
    assert [image["split"] for image in labels.data["images"]] == ["train", "val"]
    assert sum(labels.notes.values()) == 1  # b.png has no label file


def test_yolo_of_roboflow_and_byte_order_mark(tmp_path):
    """Paths start at ../, and Windows wrote the file."""
    draw(tmp_path / "train/images/a.png")
    (tmp_path / "train/labels").mkdir()
    (tmp_path / "train/labels/a.txt").write_bytes(b"\xef\xbb\xbf0 0.3 0.35 0.4 0.5\r\n\r\n")
    put(tmp_path / "data.yaml", "train: ../train/images\nnc: 1\nnames: ['cat']\n")
    assert describe(tmp_path, read_labels(tmp_path)) == ("yolo", [], [CAT_BOX])


def test_yolo_outlines_and_poses(tmp_path):
    draw(tmp_path / "images/a.png")
    put(tmp_path / "labels/a.txt", "0 0.1 0.1 0.5 0.1 0.3 0.6")
    put(tmp_path / "classes.txt", "cat\n")
    assert describe(tmp_path, read_labels(tmp_path)) == ("yolo", [], [CAT_OUTLINE])
    put(tmp_path / "labels/a.txt", "0 0.3 0.35 0.4 0.5 0.15 0.2 2 0.45 0.2 1 0 0 0")
    text = "train: images\nnames: {0: cat}\nkpt_shape: [3, 3]\nflip_idx: [1, 0, 2]\n"
    put(tmp_path / "data.yaml", text + "kpt_names: {0: [left_ear, right_ear, tail]}\n")
    labels = read_labels(tmp_path)
    assert describe(tmp_path, labels) == ("yolo", [], [("a.png", "cat", tuple(BOX), [], POINTS)])
    assert labels.data["categories"][0]["flip_pairs"] == [[0, 1]]
    put(tmp_path / "data.yaml", text.replace("[3, 3]", "[3, 2]"))
    put(tmp_path / "labels/a.txt", "0 0.3 0.35 0.4 0.5 0.15 0.2 0.45 0.2 0 0")
    ((*_, points),) = list_found(read_labels(tmp_path))
    assert points == {"keypoint_0": (30, 20, 2), "keypoint_1": (90, 20, 2)}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 0.3 0.35 0.4 0.5", "annotation 2, class: is 2, not one of 0 to 0"),
        ("0 30 35 40 50", "annotation 2, line: has 30, not a fraction of the image"),
        ("0 0.3 0.35 0.4", "annotation 2, line: has 4 numbers, not 5"),
        ("0 0.3 nan 0.4 0.5", "annotation 2, line: is 'nan', not a number"),
        ("0 0.3 1_0 0.4 0.5", "annotation 2, line: is '1_0', not a number"),
        ("cat 0.3 0.3 0.4 0.5", "annotation 2, line: is 'cat', not a number"),
    ],
)
def test_yolo_lines_that_cannot_be_used_are_named(tmp_path, line, message):
    draw(tmp_path / "images/a.png")
    put(tmp_path / "labels/a.txt", f"0 0.3 0.35 0.4 0.5\n{line}\n")
    put(tmp_path / "classes.txt", "cat\n")
    labels = read_labels(tmp_path)
    assert list_found(labels) == [CAT_BOX] and f"a.txt, {message}" in str(labels.issues[0])


def test_labelme(tmp_path):
    draw(tmp_path / "a.png")
    shapes = [
        {"label": "cat", "points": [[100, 60], [20, 10]], "group_id": 1, "shape_type": "rectangle"},
        {"label": "left_ear", "points": [[30, 20]], "group_id": 1, "shape_type": "point"},
        {"label": "dog", "points": [list(p) for p in OUTLINE], "group_id": None, "shape_type": "polygon"},
        {"label": "way", "points": [[0, 0], [5, 5]], "group_id": None, "shape_type": "line"},
    ]
    data = {"version": "5", "flags": {}, "imagePath": "a.png", "imageData": None, "imageHeight": HEIGHT}
    put(tmp_path / "a.json", {**data, "imageWidth": WIDTH, "shapes": shapes, "unknown": 1})
    cat = ("a.png", "cat", tuple(BOX), [], {"left_ear": (30, 20, 2)})
    labels = read_labels(tmp_path)
    assert describe(tmp_path, labels) == ("labelme", [], [cat, ("a.png", "dog", *CAT_OUTLINE[2:])])
    assert labels.notes == {"shapes of the type line are not read": 1}


def test_labelme_points_of_no_group(tmp_path):
    draw(tmp_path / "a.png")
    boxes = [{"label": "cat", "points": [[x, 10], [x + 30, 60]], "shape_type": "rectangle"} for x in (20, 40)]
    point = {"label": "ear", "shape_type": "point"}
    data = {"imagePath": "a.png", "imageHeight": HEIGHT, "imageWidth": WIDTH}
    put(tmp_path / "a.json", {**data, "shapes": [*boxes, {**point, "points": [[25, 20]]}]})
    assert [one[4] for one in list_found(read_labels(tmp_path))] == [{"ear": (25, 20, 2)}, {}]
    put(tmp_path / "a.json", {**data, "shapes": [*boxes, {**point, "points": [[45, 20]]}]})
    assert "annotation 3, group: 'ear' is a point of no group, in 2 objects" in str(read_labels(tmp_path).issues[0])


def test_cvat_images(tmp_path):
    draw(tmp_path / "images/a.png")
    labels = "".join(
        f"<label><name>{name}</name>{f'<parent>{parent}</parent>' if parent else ''}</label>"
        for name, parent in (("cat", ""), ("dog", ""), ("hen", ""), ("left_ear", "hen"), ("right_ear", "hen"))
    )
    shapes = (
        '<box label="cat" occluded="0" xtl="20" ytl="10" xbr="100" ybr="60" z_order="0"></box>'
        '<polygon label="dog" points="20,10;100,10;60,60"/>'
        '<skeleton label="hen"><points label="right_ear" outside="0" occluded="1" points="90,20"/>'
        '<points label="left_ear" outside="0" occluded="0" points="30,20"/></skeleton>'
        '<polyline label="cat" points="1,2;3,4"/>'
    )
    image = f'<image id="0" name="a.png" width="{WIDTH}" height="{HEIGHT}" subset="Train">{shapes}</image>'
    put(tmp_path / "annotations.xml", f"<annotations><meta><labels>{labels}</labels></meta>{image}</annotations>")
    hen = ("a.png", "hen", (0, 0, 0, 0), [], POINTS)  # its box is made from the keypoints later
    found = read_labels(tmp_path)
    assert describe(tmp_path, found) == ("cvat", [], [CAT_BOX, ("a.png", "dog", *CAT_OUTLINE[2:]), hen])
    assert found.data["images"][0]["split"] == "train"
    assert [one["name"] for one in found.data["categories"]] == ["cat", "dog", "hen"]


def test_cvat_rotated_boxes_are_read_upright(tmp_path):
    draw(tmp_path / "a.png")
    box = '<box label="cat" xtl="80" ytl="40" xbr="120" ybr="60" rotation="90"/>'
    image = f'<image id="0" name="a.png" width="200" height="100">{box}</image>'
    put(tmp_path / "annotations.xml", f"<annotations>{image}</annotations>")
    ((_, _, corners, _, _),) = list_found(read_labels(tmp_path))
    assert corners == (90, 30, 110, 70)


def test_cvat_video(tmp_path):
    for frame in (0, 1):
        draw(tmp_path / f"images/frame_{frame:06d}.png")
    box = '<box frame="{}" outside="{}" keyframe="1" xtl="20" ytl="10" xbr="100" ybr="60"/>'
    track = f'<track id="3" label="cat">{box.format(0, 0)}{box.format(1, 0)}{box.format(2, 1)}</track>'
    size = "<meta><task><original_size><width>200</width><height>100</height></original_size></task></meta>"
    put(tmp_path / "annotations.xml", f"<annotations>{size}{track}</annotations>")
    labels = read_labels(tmp_path)
    assert [(i["file_name"], i["frame"], a[0]["track_id"]) for i, a in labels.list_objects()] == [
        ("images/frame_000000.png", 0, 4),
        ("images/frame_000001.png", 1, 4),
    ]


def test_label_studio(tmp_path):
    draw(tmp_path / "images/a.png")
    common = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    box = {"x": 10, "y": 10, "width": 40, "height": 50, "rotation": 0, "rectanglelabels": ["cat"]}
    ear = {"x": 15, "y": 20, "width": 0.5, "keypointlabels": ["left_ear"]}
    outline = {"points": [[10, 10], [50, 10], [30, 60]], "polygonlabels": ["dog"]}
    results = [
        {**common, "id": "b", "type": "rectanglelabels", "value": box},
        {**common, "id": "p", "type": "keypointlabels", "value": ear, "parentID": "b"},
        {**common, "id": "q", "type": "polygonlabels", "value": outline},
        {**common, "id": "r", "type": "choices", "value": {"choices": ["x"]}},
    ]
    task = {"id": 1, "data": {"image": "/data/upload/1/0a1b2c3d-a.png"}, "annotations": [{"result": results}]}
    put(tmp_path / "export.json", [task])
    cat = ("a.png", "cat", tuple(BOX), [], {"left_ear": (30, 20, 2)})
    labels = read_labels(tmp_path)
    assert describe(tmp_path, labels) == ("label_studio", [], [cat, ("a.png", "dog", *CAT_OUTLINE[2:])])
    assert labels.notes == {"results of the type choices are not read": 1}
    box["rotation"] = 90  # around the first corner
    put(tmp_path / "export.json", [{**task, "annotations": [{"result": results[:1]}]}])
    ((_, _, corners, _, _),) = list_found(read_labels(tmp_path))
    assert corners == (20 - 50, 10, 20, 10 + 80)
    put(tmp_path / "export.json", [{"id": 1, "data": {"image": "a.png"}, "label": []}])
    with pytest.raises(AnnotationError, match="export it as JSON, not JSON-MIN"):
        read_labels(tmp_path)


@pytest.mark.parametrize("wrapped", [False, True])
def test_via(tmp_path, wrapped):
    draw(tmp_path / "a.png")
    rect = {"name": "rect", "x": 20, "y": 10, "width": 80, "height": 50}
    polygon = {"name": "polygon", "all_points_x": [20, 100, 60], "all_points_y": [10, 10, 60]}
    regions = [
        {"shape_attributes": rect, "region_attributes": {"animal": "cat"}},
        {"shape_attributes": polygon, "region_attributes": {"animal": {"dog": True, "cat": False}}},
    ]
    entry = {"filename": "a.png", "size": 99, "regions": regions, "file_attributes": {}}
    data = {"a.png99": entry}
    put(tmp_path / "via.json", {"_via_settings": {}, "_via_img_metadata": data} if wrapped else data)
    assert describe(tmp_path, read_labels(tmp_path)) == ("via", [], [CAT_BOX, ("a.png", "dog", *CAT_OUTLINE[2:])])
    if not wrapped:  # version 1 numbers the regions
        put(tmp_path / "via.json", {"a.png99": {**entry, "regions": {"0": regions[0]}}})
        assert describe(tmp_path, read_labels(tmp_path)) == ("via", [], [CAT_BOX])


def test_voc_of_roboflow(tmp_path):
    """XML files beside the images; they count pixels from 1, both ends inside."""
    draw(tmp_path / "valid/a.png")
    box = "<bndbox><xmin>21</xmin><ymin>11</ymin><xmax>100</xmax><ymax>60</ymax></bndbox>"
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    put(
        tmp_path / "valid/a.xml",
        f"<annotation><filename>a.png</filename>{size}<object><name>cat</name>{box}</object></annotation>",
    )
    labels = read_labels(tmp_path)
    assert describe(tmp_path, labels) == ("voc_folder", [], [CAT_BOX])
    assert labels.data["images"][0]["split"] == "val"


def test_coco_files_of_a_folder(tmp_path):
    """Ids differ between the files; the names decide. A list without annotations has no objects."""
    for split, number in (("train", 7), ("valid", 2)):
        draw(tmp_path / split / f"{split}.png")
        images = [{"id": 5, "file_name": f"{split}.png", "width": WIDTH, "height": HEIGHT}]
        other = {"id": 9 - number, "name": "dog"}
        one = {"id": 1, "image_id": 5, "category_id": number, "bbox": [20, 10, 80, 50]}
        data = {"images": images, "categories": [other, {"id": number, "name": "cat"}], "annotations": [one]}
        put(tmp_path / split / "_annotations.coco.json", data)
    del data["annotations"]
    put(tmp_path / "test/_annotations.coco.json", data)
    draw(tmp_path / "test/valid.png")
    labels = read_labels(tmp_path)
    assert describe(tmp_path, labels) == (
        "coco_folder",
        [],
        [("train.png", "cat", tuple(BOX), [], {}), ("valid.png", "cat", tuple(BOX), [], {})],
    )
    assert [image["split"] for image in labels.data["images"]] == ["test", "train", "val"]
