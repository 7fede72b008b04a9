"""WIDER FACE's evaluation: cases computed by hand, the same rules written a second time, the evaluator on a file."""

from __future__ import annotations

import json
import math
import uuid
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from centernet_d2.config import get_cfg
from centernet_d2.data.catalog import load_dataset_dicts
from centernet_d2.data.datasets.coco import register_coco
from centernet_d2.data.preparation.wider_face import DIFFICULTIES
from centernet_d2.evaluation import build_evaluator
from centernet_d2.evaluation.wider_face import Detections, Faces, WiderFaceEvaluator, average_precisions, count
from tests.evaluation.wider_face_loops import average_precision

FACE, OTHER, FAR = (10, 10, 20, 20), (60, 60, 30, 30), (300, 300, 20, 20)


def faces(*rows):
    """(x, y, width, height, whether it counts) for the difficulties; "easy" counts every other of these."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    boxes = np.hstack([table[:, :2], table[:, :2] + table[:, 2:4]])
    counts = table[:, 4] > 0
    return Faces(boxes, {"easy": counts & (np.arange(len(counts)) % 2 == 0), "medium": counts, "hard": counts})


def predictions(*rows):
    """(x, y, width, height, score), of which the scores must descend."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    return Detections(np.hstack([table[:, :2], table[:, :2] + table[:, 2:4]]), table[:, 4])


def hard(gt, detections):
    return average_precisions(gt, detections)["hard"]


@pytest.mark.parametrize(
    ("gt", "detections", "expected"),
    [
        # Both found, then an error of a lower score.
        ([(*FACE, 1), (*OTHER, 1)], [(*FACE, 0.9), (*OTHER, 0.8), (*FAR, 0.1)], 100),
        # An error before the hits: precisions 0, 1/2, 2/3, and the best at each recall is 2/3.
        ([(*FACE, 1), (*OTHER, 1)], [(*FAR, 0.9), (*FACE, 0.8), (*OTHER, 0.1)], 200 / 3),
        # A hit, the same face again (an error), the other: 1 for half of the recall, then 2/3.
        ([(*FACE, 1), (*OTHER, 1)], [(*FACE, 0.9), (*FACE, 0.8), (*OTHER, 0.1)], 50 + 100 / 3),
        # Never found: recall ends at one half.
        ([(*FACE, 1), (*OTHER, 1)], [(*FACE, 0.9), (*FAR, 0.1)], 50),
        # Detections of a face that does not count are neither.
        ([(*FACE, 1), (*OTHER, 0)], [(*OTHER, 0.9), (*OTHER, 0.8), (*FACE, 0.1)], 100),
        # Scores between two of the thresholds count together: error and hit at 0.9995 and 0.9991 of the range.
        ([(*FACE, 1), (*OTHER, 1)], [(*FACE, 1.0), (*FAR, 0.9985), (*OTHER, 0.9981), (*FAR, 0.0)], 50 + 100 / 3),
        ([(*FACE, 1), (*OTHER, 1)], [(*FAR, 1.0), (*FACE, 0.9995), (*OTHER, 0.9991), (*FAR, 0.0)], 200 / 3),
        # Detections of equal score are counted together.
        ([(*FACE, 1)], [(*FACE, 0.3), (*FAR, 0.3)], 50),
        # Nothing found.
        ([(*FACE, 1)], [], 0),
    ],
)
def test_by_hand(gt, detections, expected):
    assert hard({1: faces(*gt)}, {1: predictions(*detections)}) == pytest.approx(expected, abs=1e-6)
    # Scores of any range are the same.
    moved = [(*one[:4], 7 * one[4] - 3) for one in detections]
    assert hard({1: faces(*gt)}, {1: predictions(*moved)}) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("width", "expected"), [(9, 0), (10, 100)])
def test_overlaps_are_those_of_whole_pixels(width, expected):
    """Of 21 pixels in a row 11 are more than half, 10 are less; the differences of edges would give no area at all."""
    gt, detections = {1: faces((0, 0, 20, 0, 1))}, {1: predictions((0, 0, width, 0, 0.9))}
    assert hard(gt, detections) == pytest.approx(expected)


def test_half_is_enough():
    """10 of 20 pixels in a row."""
    assert hard({1: faces((0, 0, 19, 0, 1))}, {1: predictions((0, 0, 9, 0, 0.9))}) == pytest.approx(100)


def test_images_without_faces_and_images_not_seen():
    gt = {1: faces((*FACE, 1)), 2: faces(), 3: faces((*FACE, 1))}
    detections = {1: predictions((*FACE, 0.5)), 2: predictions((*FACE, 0.9))}
    # Nothing but misses: the face of image 3. What is found in image 2 is no error.
    assert hard(gt, detections) == pytest.approx(50)
    assert math.isnan(hard({2: faces()}, {2: detections[2]}))


def random_images(seed):
    """Faces close together, detections around them and elsewhere; scores of which some are the same."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(12):
        place = rng.integers(0, 60, (rng.integers(0, 6), 2))
        size = rng.integers(0, 30, (len(place), 2))
        true = np.hstack([place, size, rng.random((len(place), 1)) < 0.7]).astype(float)
        around = true[rng.integers(0, len(true), rng.integers(0, 12)), :4] if len(true) else np.zeros((2, 4))
        boxes = np.vstack([around + rng.normal(0, 2, around.shape), rng.uniform(1, 40, (2, 4))])
        boxes[:, 2:] = np.abs(boxes[:, 2:])
        scores = np.sort(rng.random(len(boxes)).round(rng.integers(1, 5)))[::-1]
        images.append((true.tolist(), np.hstack([boxes, scores[:, None]]).tolist()))
    return images


@pytest.mark.parametrize("seed", range(4))
def test_the_same_written_a_second_time(seed):
    images = random_images(seed)
    gt = {number: faces(*true) for number, (true, _) in enumerate(images)}
    results = average_precisions(gt, {number: predictions(*rows) for number, (_, rows) in enumerate(images)})
    halved = [([[*f[:4], f[4] * (k % 2 == 0)] for k, f in enumerate(true)], rows) for true, rows in images]
    assert results["easy"] == pytest.approx(average_precision(halved), abs=1e-6)
    assert results["medium"] == results["hard"] == pytest.approx(average_precision(images), abs=1e-6)
    assert 5 < results["hard"] < 95


@pytest.fixture
def dataset(tmp_path):
    """Two images: two faces, of which one is hard and one invalid; one easy face."""

    def entry(number, image, box, names, crowd=0):
        area = {"area": box[2] * box[3], "iscrowd": crowd, "difficulties": names}
        return {"id": number, "image_id": image, "category_id": 1, "bbox": list(box), **area}

    names = ("0--Parade/a.jpg", "1--Handshaking/b.jpg")
    data = {
        "images": [{"id": k, "file_name": name, "height": 400, "width": 400} for k, name in enumerate(names, 1)],
        "categories": [{"id": 1, "name": "face"}],
        "annotations": [
            entry(1, 1, FACE, ["hard"]),
            entry(2, 1, OTHER, [], crowd=1),
            entry(3, 2, FAR, list(DIFFICULTIES)),
        ],
    }
    (tmp_path / "val.json").write_text(json.dumps(data))
    name = f"test_wider_face_{uuid.uuid4().hex}"
    register_coco(name, {"evaluator_type": "wider_face"}, str(tmp_path / "val.json"), str(tmp_path))
    return name


def instances(*rows):
    result = Instances((400, 400))
    table = torch.tensor(rows, dtype=torch.float32).view(-1, 5)
    result.pred_boxes = Boxes(torch.cat([table[:, :2], table[:, :2] + table[:, 2:4]], dim=1))
    result.scores, result.pred_classes = table[:, 4], torch.zeros(len(table), dtype=torch.int64)
    return {"instances": result}


def test_evaluator(dataset, tmp_path):
    """Unsorted detections, one that is not finite; the second image's face is missed."""
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(tmp_path)
    evaluator = build_evaluator(cfg, dataset)
    assert isinstance(evaluator, WiderFaceEvaluator)
    dataset_dicts = load_dataset_dicts(dataset)
    outputs = [
        instances((*OTHER, 0.25), (math.nan, 1, 2, 3, 1.0), (*FACE, 0.5)),
        instances((200, 200, 10.5, 20, 0.75)),
    ]
    for _ in range(2):
        evaluator.reset()
        evaluator.process(dataset_dicts, outputs)
        results = evaluator.evaluate()
        # Hard: an error, a hit, what does not count, and a miss.
        assert results == {"wider_face": {"AP-easy": 0, "AP-medium": 0, "AP-hard": pytest.approx(25)}}
    folder = Path(tmp_path) / "inference" / dataset
    assert (folder / "0--Parade/a.txt").read_text() == "a.jpg\n2\n10 10 20 20 0.5\n60 60 30 30 0.25\n"
    assert (folder / "1--Handshaking/b.txt").read_text() == "b.jpg\n1\n200 200 10.5 20 0.75\n"


def test_ground_truth_scores_100(dataset):
    evaluator = WiderFaceEvaluator(dataset)
    evaluator.process(load_dataset_dicts(dataset), [instances((*FACE, 1.0)), instances((*FAR, 1.0))])
    assert evaluator.evaluate() == {"wider_face": {f"AP-{name}": pytest.approx(100) for name in DIFFICULTIES}}


def test_files_without_difficulties_are_refused(dataset, tmp_path):
    data = json.loads((tmp_path / "val.json").read_text())
    for one in data["annotations"]:
        del one["difficulties"]
    (tmp_path / "val.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match=rf"{dataset}: the faces have no difficulties: prepare it with eval_tools"):
        WiderFaceEvaluator(dataset)


def test_detections_are_counted_by_hand():
    """Of faces 0 and 1 the second does not count: a hit, one on the second, one again on the first, one on none."""
    counted = count(np.array([0, 1, 0, -1]), np.array([True, False]))
    assert counted.tolist() == [[0, 1, 1, 2, 3], [0, 1, 1, 1, 1]]
