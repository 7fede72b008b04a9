"""Curves, AP and confusion against pycocotools, plain loops, and cases counted by hand."""

from __future__ import annotations

import contextlib
import io
import itertools

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from centernet_d2.report.matching import (
    COCO_IOUS,
    count_confusions,
    match_by_score,
    match_classes,
    match_one_to_one,
    measure_image,
)
from centernet_d2.report.objects import EvaluatedObjects, ImageObjects

NUM_CLASSES = 3


def make_objects(images: list[ImageObjects], num_classes: int = NUM_CLASSES) -> EvaluatedObjects:
    def join(name, *shape):
        return np.concatenate([np.zeros((0, *shape)), *(getattr(image, name) for image in images)])

    def number(name):
        return np.repeat(np.arange(len(images)), [len(getattr(image, name)) for image in images])

    return EvaluatedObjects(
        class_names=np.array([f"class {k}" for k in range(num_classes)]),
        file_names=np.array([f"{i}.jpg" for i in range(len(images))], dtype=str),
        pred_image=number("pred_boxes"),
        pred_boxes=join("pred_boxes", 4),
        pred_scores=join("pred_scores"),
        pred_classes=join("pred_classes").astype(int),
        true_image=number("true_boxes"),
        true_boxes=join("true_boxes", 4),
        true_classes=join("true_classes").astype(int),
        true_ignored=join("true_ignored").astype(bool),
        keypoint_names=np.zeros(0, dtype=str),
        keypoint_errors=np.zeros((sum(len(image.true_boxes) for image in images), 0)),
    )


def make_image(found=(), true=()) -> ImageObjects:
    """From (box, score, class) and (box, class, ignored)."""
    found = sorted(found, key=lambda one: -one[1])
    return ImageObjects(
        np.array([one[0] for one in found], dtype=float).reshape(-1, 4),
        np.array([one[1] for one in found], dtype=float),
        np.array([one[2] for one in found], dtype=int),
        np.array([one[0] for one in true], dtype=float).reshape(-1, 4),
        np.array([one[1] for one in true], dtype=int),
        np.array([one[2] for one in true], dtype=bool),
    )


def draw_images(seed: int, count: int = 12) -> list[ImageObjects]:
    """Detections around true boxes and elsewhere; some objects are crowds."""
    generator = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        corners = generator.uniform(0, 80, (generator.integers(0, 7), 2))
        boxes = np.concatenate([corners, corners + generator.uniform(8, 40, corners.shape)], axis=1)
        true = [(box, generator.integers(NUM_CLASSES), generator.random() < 0.2) for box in boxes]
        near = [box + generator.normal(0, 3, 4) for box in boxes for _ in range(generator.integers(0, 3))]
        far = [np.array([5, 5, 20, 25]) + generator.uniform(0, 60) for _ in range(2)]
        found = [(box, generator.random(), generator.integers(NUM_CLASSES)) for box in [*near, *far]]
        images.append(make_image(found, true))
    return images


def evaluate_with_pycocotools(images: list[ImageObjects]) -> np.ndarray:
    """Precision (T, 101, classes); -1 without objects."""
    truth: list[dict] = []
    found: list[dict] = []
    for i, image in enumerate(images):
        rows = zip(image.true_boxes, image.true_classes, image.true_ignored, strict=True)
        for (x1, y1, x2, y2), label, ignored in rows:
            entry = {"id": len(truth) + 1, "image_id": i, "category_id": int(label), "iscrowd": int(ignored)}
            truth.append({**entry, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)})
        rows = zip(image.pred_boxes, image.pred_scores, image.pred_classes, strict=True)
        for (x1, y1, x2, y2), score, label in rows:
            entry = {"image_id": i, "category_id": int(label), "score": float(score)}
            found.append({**entry, "bbox": [x1, y1, x2 - x1, y2 - y1]})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        categories = [{"id": k, "name": str(k)} for k in range(NUM_CLASSES)]
        coco.dataset = {"images": [{"id": i} for i in range(len(images))], "annotations": truth}
        coco.dataset["categories"] = categories
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][:, :, :, 0, -1]


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_pycocotools(seed):
    images = draw_images(seed)
    expected = evaluate_with_pycocotools(images).mean(axis=1)
    assert (expected > 0).any()
    for label, matches in enumerate(match_classes(make_objects(images))):
        got = [matches.compute_average_precision(level) for level in range(len(COCO_IOUS))]
        assert np.nan_to_num(got, nan=-1) == pytest.approx(expected[:, label], abs=1e-6)


def loop_match(overlaps, ignored, least):
    """COCO's rule in words: the free object with the highest overlap; else an ignored one."""
    result, free = [], set(range(len(ignored)))
    for row in overlaps:
        usable = [g for g in range(len(ignored)) if row[g] >= least]
        wanted = [g for g in usable if not ignored[g] and g in free] or [g for g in usable if ignored[g]]
        best = max(wanted, key=lambda g: row[g], default=-1)
        free -= {best}
        result.append(best)
    return result


@pytest.mark.parametrize("seed", range(5))
def test_matching_by_score_against_a_loop(seed):
    generator = np.random.default_rng(seed)
    overlaps, ignored = generator.random((9, 6)), generator.random(6) < 0.3
    got = match_by_score(overlaps, ignored, (0.3, 0.5, 0.9))
    for row, least in zip(got, (0.3, 0.5, 0.9), strict=True):
        assert row.tolist() == loop_match(overlaps, ignored, least)


@pytest.mark.parametrize("seed", range(5))
def test_one_to_one_against_a_loop(seed):
    overlaps = np.random.default_rng(seed).random((7, 5))
    pairs = sorted(((overlaps[d, g], d, g) for d in range(7) for g in range(5)), reverse=True)
    expected = [-1] * 7
    for overlap, d, g in pairs:
        if overlap >= 0.4 and expected[d] < 0 and g not in expected:
            expected[d] = g
    assert match_one_to_one(overlaps, 0.4).tolist() == expected


BOX, MOVED, FAR = [10, 10, 50, 50], [12, 10, 52, 50], [100, 100, 140, 140]


def test_confusions_counted_by_hand():
    images = [
        make_image([(MOVED, 0.9, 1)], [(BOX, 0, False)]),  # found as another class
        make_image([(BOX, 0.9, 2), (FAR, 0.8, 2)], [(BOX, 2, False)]),  # right, and one where nothing is
        make_image([(BOX, 0.29, 0)], [(BOX, 0, False)]),  # below the least score: missed
        make_image([(BOX, 0.9, 1)], [(BOX, 1, True)]),  # on an ignored object: does not count
        make_image(),
    ]
    expected = np.zeros((4, 4), dtype=int)
    expected[0, 1] = expected[2, 2] = expected[3, 2] = expected[0, 3] = 1
    assert count_confusions(make_objects(images)).tolist() == expected.tolist()


def test_confusions_of_random_images_add_up():
    objects = make_objects(draw_images(7))
    table = count_confusions(objects)
    counted = np.bincount(objects.true_classes[~objects.true_ignored], minlength=NUM_CLASSES)
    assert table[:NUM_CLASSES].sum(axis=1).tolist() == counted.tolist()
    assert table[:, :NUM_CLASSES].sum() <= (objects.pred_scores >= 0.3).sum()


def test_curve_and_best_score_of_a_small_case():
    """Right, wrong, right of three objects."""
    found = [(BOX, 0.9, 0), (FAR, 0.8, 0), ([200, 200, 240, 240], 0.7, 0)]
    true = [(BOX, 0, False), ([200, 200, 240, 240], 0, False), ([300, 300, 340, 340], 0, False)]
    (matches,) = match_classes(make_objects([make_image(found, true)], 1))
    recall, precision, scores = matches.compute_curve()
    assert recall.tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3])
    assert scores.tolist() == [0.9, 0.8, 0.7]
    assert matches.find_best_score() == pytest.approx((0.7, 2 / 3, 2 / 3, 2 / 3))
    # 34 of the 101 recalls are at most 1/3, 33 more at most 2/3.
    assert matches.compute_average_precision() == pytest.approx((34 + 33 * 2 / 3) / 101)


def test_measure_of_an_image():
    iou = 38 * 40 / (2 * 40 * 40 - 38 * 40)
    assert measure_image(make_image([(MOVED, 0.9, 0)], [(BOX, 0, False)])) == pytest.approx(iou)
    # One right, one wrong, one missed: F1 is 1/2.
    image = make_image([(MOVED, 0.9, 0), (FAR, 0.5, 1)], [(BOX, 0, False), (FAR, 0, False)])
    assert measure_image(image) == pytest.approx(iou / 2)
    assert measure_image(make_image([(BOX, 0.9, 1)], [(BOX, 0, False)])) == 0
    assert np.isnan(measure_image(make_image([(BOX, 0.2, 0)], [(FAR, 0, True)])))
    assert np.isnan(measure_image(make_image()))


def test_nothing_found_and_nothing_there():
    for images in ([make_image()], [make_image([(BOX, 0.9, 0)])], [make_image([], [(BOX, 0, False)])]):
        objects = make_objects(images)
        first, second = match_classes(objects)[:2]
        assert len(first.scores) == len(objects.pred_scores)
        assert np.isnan(second.compute_average_precision()) and np.isnan(second.find_best_score()).all()
        assert (first.compute_average_precision() == 0) == bool(len(objects.true_boxes))
        assert count_confusions(objects).sum() == len(list(itertools.chain(objects.pred_boxes, objects.true_boxes)))


def test_file_of_objects(tmp_path):
    objects = make_objects(draw_images(1))
    objects.save(tmp_path / "folder" / "objects.npz")
    again = EvaluatedObjects.load(tmp_path / "folder" / "objects.npz")
    assert all(np.array_equal(getattr(again, name), getattr(objects, name)) for name in vars(objects))
    (tmp_path / "bad.npz").write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match=r"bad\.npz is not a file of evaluated objects"):
        EvaluatedObjects.load(tmp_path / "bad.npz")
