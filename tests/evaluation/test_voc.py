"""Pascal VOC's mAP: cases computed by hand, the same rules written a second time, Detectron2's own, VOC as JSON."""

from __future__ import annotations

import json
import math
import uuid

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import PascalVOCDetectionEvaluator
from detectron2.structures import Boxes, BoxMode, Instances

from centernet_d2.config import get_cfg
from centernet_d2.data.catalog import load_dataset_dicts
from centernet_d2.data.datasets.custom import register_custom_datasets
from centernet_d2.data.datasets.voc import read_voc
from centernet_d2.evaluation import build_evaluator
from centernet_d2.evaluation.average_precision import compute_area_under_curve, compute_eleven_point_average
from centernet_d2.evaluation.voc import VocEvaluator

NAMES = ["cat", "dog"]
HERE, THERE, FAR = [10, 10, 50, 40], [60, 10, 90, 70], [0, 80, 20, 99]


def area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def loop_overlap(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (area(a) + area(b) - shared)


def loop_average_precision(images, level, eleven):
    """Of one class: images are (objects with box and difficult, detections with box and score)."""
    total = sum(not difficult for objects, _ in images for _, difficult in objects)
    rows = [(score, k, box) for k, (_, predictions) in enumerate(images) for box, score in predictions]
    used, hits, errors, curve = set(), 0, 0, []
    for _, k, box in sorted(rows, key=lambda row: -row[0]):
        fractions = [loop_overlap(box, other) for other, _ in images[k][0]]
        best = fractions.index(max(fractions)) if fractions else None
        if best is None or fractions[best] <= level:
            errors += 1
        elif not images[k][0][best][1]:
            hits, errors = (hits, errors + 1) if (k, best) in used else (hits + 1, errors)
            used.add((k, best))
        curve.append((hits, hits + errors))
    points = [(hits * 10, hits / total, hits / max(shown, 1)) for hits, shown in curve]
    if eleven:
        # Whole numbers, so that 3 of 10 are a recall of 0.3.
        best = [max([p for tenths, _, p in points if tenths >= level * total], default=0) for level in range(11)]
        return 100 * sum(best) / 11
    result = before = 0.0
    for k, (_, recall, _) in enumerate(points):
        result += (recall - before) * max(p for _, _, p in points[k:])
        before = recall
    return 100 * result


def annotation(box, category=0, difficult=0):
    return {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": category, "iscrowd": difficult}


def instances(rows):
    """Rows of x1, y1, x2, y2, score, class."""
    result = Instances((100, 100))
    table = torch.tensor(rows, dtype=torch.float64).view(-1, 6)
    result.pred_boxes, result.scores = Boxes(table[:, :4]), table[:, 4]
    result.pred_classes = table[:, 5].long()
    return {"instances": result}


@pytest.fixture
def evaluated():
    """A function of the images' annotations, of their detections, and the year: results of the evaluator."""
    name = f"test_voc_{uuid.uuid4().hex}"

    def evaluate(gt, rows, year):
        dataset_dicts = [
            {"image_id": k, "annotations": one, "file_name": "", "height": 100} for k, one in enumerate(gt)
        ]
        DatasetCatalog.register(name, lambda: dataset_dicts)
        MetadataCatalog.get(name).set(thing_classes=NAMES, evaluator_type="pascal_voc", year=year)
        evaluator = build_evaluator(get_cfg(), name)
        evaluator.process(dataset_dicts, [instances(one) for one in rows])
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
        return evaluator.evaluate()["bbox"]

    return evaluate


@pytest.mark.parametrize(
    ("rows", "eleven", "whole"),
    [
        # Precisions 1 at recall 1/2, 2/3 at recall 1: six points of 1 (0 to 0.5), five of 2/3.
        ([(*HERE, 0.9, 0), (*FAR, 0.8, 0), (*THERE, 0.7, 0)], (6 + 5 * 2 / 3) / 11, 0.5 + 0.5 * 2 / 3),
        # The same object twice: an error, of whatever overlap.
        ([(*HERE, 0.9, 0), (*HERE, 0.8, 0), (*THERE, 0.7, 0)], (6 + 5 * 2 / 3) / 11, 0.5 + 0.5 * 2 / 3),
        # What is on a difficult object does not count.
        ([(*FAR[:2], 20, 100, 0.95, 0), (*HERE, 0.9, 0), (*THERE, 0.7, 0)], 0.0, 0.0),
        # Another class finds nothing.
        ([(*HERE, 0.9, 1), (*HERE, 0.5, 0)], 6 / 11, 0.5),
        ([], 0, 0),
    ],
)
def test_by_hand(evaluated, rows, eleven, whole):
    gt = [annotation(HERE), annotation(THERE)]
    if rows and rows[0][4] == 0.95:
        gt, eleven, whole = [*gt, annotation([0, 80, 20, 100], 0, 1)], 1.0, 1.0
    for year, expected in ((2007, eleven), (2012, whole), (None, whole)):
        results = evaluated([gt], [rows], year)
        assert results["AP50"] == pytest.approx(100 * expected, abs=1e-6)
        assert results["AP50-07"] == pytest.approx(100 * eleven, abs=1e-6)
        assert results["AP50-area"] == pytest.approx(100 * whole, abs=1e-6)
        assert results["AP50-cat"] == results["AP50"] and math.isnan(results["AP50-dog"])


def test_overlap_must_be_more_than_the_least(evaluated):
    """Of the detections half, nearly half and a little more are the object's."""
    for width, expected in ((20, 0), (19.9, 0), (20.1, 100)):
        assert evaluated([[annotation([0, 0, 40, 10])]], [[(0, 0, width, 10, 0.5, 0)]], 2012)["AP50"] == expected


def test_levels(evaluated):
    """An overlap of 0.72 is one for five of the ten levels."""
    results = evaluated([[annotation([0, 0, 100, 10])]], [[(0, 0, 72, 10, 0.5, 0)]], 2012)
    assert (results["AP50"], results["AP75"], results["AP"]) == (100, 0, pytest.approx(50))


def test_recalls_of_tenths_are_reached():
    """3, 6 and 7 of 10 are recalls of 0.3, 0.6 and 0.7, though 3 * 0.1 is more than 0.3 in floating point."""
    for count in range(11):
        recall = np.arange(1, count + 1) / 10
        assert compute_eleven_point_average(recall, np.ones(count)) == pytest.approx(
            (count + (count > 0)) / 11, abs=1e-12
        )
        assert compute_area_under_curve(recall, np.ones(count)) == pytest.approx(count / 10, abs=1e-12)


def random_set(seed, num_images=15):
    """Objects of whole pixels, as in XML files; detections with one decimal and scores of three, no two the same."""
    rng = np.random.default_rng(seed)
    scores = iter(rng.permutation(1000)[: num_images * 12] / 1000)
    gt, predictions = [], []
    for _ in range(num_images):
        corners = rng.integers(0, 50, (rng.integers(0, 6), 2))
        boxes = np.hstack([corners, corners + rng.integers(5, 45, corners.shape)])
        gt.append([annotation([int(x) for x in box], int(rng.integers(2)), int(rng.random() < 0.2)) for box in boxes])
        rows = []
        for _ in range(rng.integers(0, 12)):
            box = boxes[rng.integers(len(boxes))] if len(boxes) else np.array([3, 3, 30, 30])
            box = (box + rng.normal(0, 2.5, 4)).round(1)
            rows.append((*box[:2], *np.maximum(box[2:], box[:2] + 1), next(scores), rng.integers(2)))
        predictions.append(rows)
    return gt, predictions


@pytest.mark.parametrize("seed", range(4))
def test_the_same_written_a_second_time(evaluated, seed):
    gt, predictions = random_set(seed)
    results = {year: evaluated(gt, predictions, year) for year in (2007, 2012)}
    for year, result in results.items():
        aps = np.zeros((10, 2))
        for k in range(2):
            images = [
                (
                    [(one["bbox"], one["iscrowd"]) for one in objects if one["category_id"] == k],
                    [(row[:4], row[4]) for row in rows if row[5] == k],
                )
                for objects, rows in zip(gt, predictions, strict=True)
            ]
            aps[:, k] = [loop_average_precision(images, (50 + 5 * n) / 100, year == 2007) for n in range(10)]
        assert [result["AP50-cat"], result["AP50-dog"]] == pytest.approx(aps[0], abs=1e-6)
        assert result["AP50"] == pytest.approx(aps[0].mean(), abs=1e-6)
        assert result["AP75"] == pytest.approx(aps[5].mean(), abs=1e-6)
        assert result["AP"] == pytest.approx(aps.mean(), abs=1e-6)
        assert 5 < result["AP50"] < 95
    assert results[2007]["AP50-area"] == results[2012]["AP50"] != results[2007]["AP50"]


def write_voc(root, gt):
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/Main/test.txt").write_text("\n".join(f"{k:06d}" for k in range(len(gt))))
    for k, objects in enumerate(gt):
        text = "<annotation><size><width>100</width><height>100</height></size>"
        for one in objects:
            x1, y1, x2, y2 = one["bbox"]
            text += f"<object><name>{NAMES[one['category_id']]}</name><pose>Left</pose><truncated>0</truncated>"
            text += f"<difficult>{one['iscrowd']}</difficult><bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin>"
            text += f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        (root / f"Annotations/{k:06d}.xml").write_text(text + "</annotation>")


@pytest.mark.parametrize("year", [2007, 2012])
def test_as_detectron2_scores_the_xml_files(evaluated, tmp_path, year):
    """Theirs rounds scores and boxes, and takes 0.1 * 3 for a recall: with these numbers neither matters."""
    gt, predictions = random_set(7)
    for k in range(2):
        assert sum(one["category_id"] == k and not one["iscrowd"] for objects in gt for one in objects) % 10
    write_voc(tmp_path, gt)
    name = f"test_voc_{uuid.uuid4().hex}"
    MetadataCatalog.get(name).set(dirname=str(tmp_path), split="test", year=year, thing_classes=NAMES)
    theirs = PascalVOCDetectionEvaluator(name)
    theirs.reset()
    theirs.process([{"image_id": f"{k:06d}"} for k in range(len(gt))], [instances(rows) for rows in predictions])
    dataset_dicts, _ = read_voc(str(tmp_path), "test", NAMES)
    ours = evaluated([dataset_dict["annotations"] for dataset_dict in dataset_dicts], predictions, year)
    for key, value in theirs.evaluate()["bbox"].items():
        assert ours[key] == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("crowd", ["iscrowd", "ignore"])
def test_voc_as_json(evaluated, tmp_path, crowd):
    """The same objects through a COCO file, whose difficult ones are crowds or, as in some files, ignored."""
    gt, predictions = random_set(11)
    entries = [(k, one) for k, objects in enumerate(gt) for one in objects]
    data = {
        "images": [{"id": k + 1, "file_name": f"{k}.jpg", "height": 100, "width": 100} for k in range(len(gt))],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": number, "image_id": k + 1, "category_id": one["category_id"] + 1, crowd: one["iscrowd"]}
            | {"bbox": BoxMode.convert(one["bbox"], BoxMode.XYXY_ABS, BoxMode.XYWH_ABS), "area": area(one["bbox"])}
            for number, (k, one) in enumerate(entries, start=1)
        ],
    }
    (tmp_path / "voc.json").write_text(json.dumps(data))
    name = f"test_voc_{uuid.uuid4().hex}"
    cfg = get_cfg()
    cfg.DATASETS.CUSTOM = [[name, "voc_json", str(tmp_path / "voc.json"), str(tmp_path)]]
    register_custom_datasets(cfg)
    evaluator = build_evaluator(cfg, name)
    assert isinstance(evaluator, VocEvaluator)
    evaluator.process(load_dataset_dicts(name), [instances(rows) for rows in predictions])
    assert evaluator.evaluate()["bbox"] == pytest.approx(evaluated(gt, predictions, 2012), abs=1e-9)
