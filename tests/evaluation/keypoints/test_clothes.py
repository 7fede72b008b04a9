"""AP of clothes and their landmarks, against closed forms, pycocotools and a loop."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm

from centernet_d2.config import get_cfg
from centernet_d2.data.catalog import load_dataset_dicts
from centernet_d2.data.datasets.custom import register_custom_datasets
from centernet_d2.data.datasets.keypoint_sets import make_keypoint_metadata
from centernet_d2.data.schemas import CLOTHES294, FACE68
from centernet_d2.evaluation import build_evaluator
from centernet_d2.evaluation.keypoints import clothes
from centernet_d2.evaluation.keypoints.clothes import ClothesLandmarkEvaluator
from tests.evaluation.keypoints.clothing_set import (
    END,
    FIRST,
    NAME,
    SKIRT,
    TASKS,
    Records,
    clothing_item,
    dataset_dict,
    evaluate,
    gt_file,
    instances,
    noisy_detections,
    plain_pycocotools,
    random_dataset_dicts,
    results_by_hand,
)
from tests.helpers.tiny import tiny_cfg


@pytest.fixture
def dataset_dicts() -> Iterator[Records]:
    """A dataset to fill."""
    listed: Records = []
    DatasetCatalog.register(NAME, lambda: listed)
    MetadataCatalog.get(NAME).set(**make_keypoint_metadata(CLOTHES294))
    yield listed
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def test_ground_truth_as_prediction_gives_100_and_a_lost_detection_less(dataset_dicts: Records) -> None:
    dataset_dicts += random_dataset_dicts()
    predictions = [instances([a for a in entry["annotations"] if not a["iscrowd"]]) for entry in dataset_dicts]
    results = evaluate(dataset_dicts, predictions)
    assert tuple(results) == TASKS
    for metrics in results.values():
        # The category "vest" does not occur.
        assert metrics["AP"] == metrics["AP75"] == metrics["AP-skirt"] == pytest.approx(100)
        assert math.isnan(metrics["AP-vest"])
    k = next(k for k, entry in enumerate(dataset_dicts) for a in entry["annotations"] if not a["iscrowd"])
    lost = evaluate(dataset_dicts, [*predictions[:k], predictions[k][1:], *predictions[k + 1 :]])
    assert all(lost[task]["AP"] < 99.9 for task in TASKS)


def test_objects_without_the_mark_of_crowds_count(dataset_dicts: Records) -> None:
    """And one without landmarks counts as a box."""
    points = np.full((8, 3), 50.0)
    points[:, 2] = 2
    items = [clothing_item(SKIRT, [0, 0, 100, 100], points), clothing_item(SKIRT, [200, 0, 90, 50], points)]
    predictions = instances(items)
    for one in items:
        one.pop("iscrowd")
    items[1].pop("keypoints")
    dataset_dicts.append(dataset_dict(1, *items))
    results = evaluate(dataset_dicts, [predictions])
    assert [results[task]["AP-skirt"] for task in TASKS] == pytest.approx([100, 100, 100])
    lost = evaluate(dataset_dicts, [predictions[:1]])
    assert lost["bbox"]["AP"] == pytest.approx(100 * 51 / 101) and lost[TASKS[1]]["AP"] == pytest.approx(100)


def test_similarity_by_hand(dataset_dicts: Records) -> None:
    """A skirt of 100x100 with three landmarks, one of them occluded, found at known distances."""
    points = np.zeros((8, 3))
    points[0], points[1], points[4] = (10, 20, 2), (50, 60, 2), (90, 90, 1)
    dataset_dicts.append(dataset_dict(7, clothing_item(SKIRT, [0, 0, 100, 100], points)))
    predictions = instances(dataset_dicts[0]["annotations"])
    sigma = np.array(CLOTHES294.sigmas)[[FIRST, FIRST + 1, FIRST + 4]]
    # exp(-d^2 / (2 area (2 sigma)^2)) is 0.9, 0.66 and 0.12: the mean of two is 0.78, of all three 0.56.
    distances = np.sqrt(-2 * 100 * 100 * (2 * sigma) ** 2 * np.log([0.9, 0.66, 0.12]))
    for k, distance in zip([0, 1, 4], distances, strict=True):
        predictions.pred_keypoints[0, FIRST + k, 0] += distance
    results = evaluate(dataset_dicts, [predictions])
    # Thresholds 0.50, 0.55, ... 0.75 are met, six of ten; and 0.50, 0.55.
    assert results["keypoints_visible"]["AP"] == pytest.approx(60)
    assert results["keypoints_visible"]["AP75"] == pytest.approx(100)
    assert results["keypoints_visible_and_occluded"]["AP"] == pytest.approx(20)
    assert results["bbox"]["AP"] == pytest.approx(100)


def test_equals_pycocotools_with_294_sigmas(dataset_dicts: Records, tmp_path: Path) -> None:
    """Also on the file that the evaluator writes."""
    dataset_dicts += random_dataset_dicts(unlabelled=0)
    predictions = noisy_detections(dataset_dicts)
    results = evaluate(dataset_dicts, predictions, tmp_path)
    written = json.loads((tmp_path / "coco_instances_results.json").read_text())
    for task in TASKS:
        gt = gt_file(dataset_dicts, 2 if task == "keypoints_visible" else 1)
        for listed in (results_by_hand(dataset_dicts, predictions), written):
            expected = plain_pycocotools(gt, listed, task.split("_")[0], CLOTHES294.sigmas)
            assert results[task] == pytest.approx(expected, abs=1e-6, nan_ok=True)
        assert 5 < results[task]["AP"] < 95
    assert results["keypoints_visible"]["AP"] != results["keypoints_visible_and_occluded"]["AP"]


def test_equals_pycocotools_with_a_categorys_own_keypoints(dataset_dicts: Records) -> None:
    """Clothing items without labeled landmarks among them."""
    dataset_dicts += random_dataset_dicts(unlabelled=0.3)
    predictions = noisy_detections(dataset_dicts)
    results = evaluate(dataset_dicts, predictions)
    for category in (0, 3, 6, 8, 12):
        first, end = CLOTHES294.ranges[category]
        gt, listed = gt_file(dataset_dicts, 2), results_by_hand(dataset_dicts, predictions)
        gt["categories"] = gt["categories"][category : category + 1]
        gt["annotations"] = [a for a in gt["annotations"] if a["category_id"] == category + 1]
        listed = [a for a in listed if a["category_id"] == category + 1]
        for entry in (*gt["annotations"], *listed):
            entry["keypoints"] = entry["keypoints"][3 * first : 3 * end]
        assert any(entry["num_keypoints"] == 0 for entry in gt["annotations"])
        expected = plain_pycocotools(gt, listed, "keypoints", CLOTHES294.sigmas[first:end])["AP"]
        name = CLOTHES294.class_names[category]
        assert results["keypoints_visible"][f"AP-{name}"] == pytest.approx(expected, abs=1e-6)


def test_equals_a_loop_for_one_category(dataset_dicts: Records) -> None:
    """AP-skirt of clothing items without crowds: greedy by score, best free clothing item, best precision from 101
    recalls on."""
    dataset_dicts += [
        dataset_dict(e["image_id"], *(a for a in e["annotations"] if not a["iscrowd"] and any(a["keypoints"][2::3])))
        for e in random_dataset_dicts(seed=3)
    ]
    predictions = noisy_detections(dataset_dicts, seed=4)
    sigmas = np.array(CLOTHES294.sigmas)[FIRST:END]
    averages = []
    for threshold in np.arange(50, 100, 5) / 100:
        hits, total = [], 0
        for entry, one in zip(dataset_dicts, predictions, strict=True):
            skirts = [a for a in entry["annotations"] if a["category_id"] == SKIRT]
            total += len(skirts)
            free = list(range(len(skirts)))
            detections = one[one.pred_classes == SKIRT]
            for k in np.argsort(-detections.scores.numpy(), kind="stable")[:20]:
                similar = {}
                for j in free:
                    points = np.array(skirts[j]["keypoints"]).reshape(-1, 3)[FIRST:END]
                    area = skirts[j].get("area", skirts[j]["bbox"][2] * skirts[j]["bbox"][3])
                    seen = detections.pred_keypoints[k, FIRST:END].double().numpy()
                    squares = ((seen - points)[:, :2] ** 2).sum(axis=1)
                    labeled = points[:, 2] > 0
                    similar[j] = np.exp(-squares / (8 * area * sigmas**2))[labeled].mean()
                best = max(similar, key=similar.__getitem__, default=None)
                hit = best is not None and similar[best] >= threshold
                if hit:
                    free.remove(best)
                hits.append((-float(detections.scores[k]), entry["image_id"], hit))
        ordered = np.array([hit for *_, hit in sorted(hits, key=lambda x: x[:2])])
        recall, precision = ordered.cumsum() / total, ordered.cumsum() / np.arange(1, len(ordered) + 1)
        averages.append(
            np.mean([max(precision[recall >= level - 1e-12], default=0.0) for level in np.linspace(0, 1, 101)])
        )
    result = evaluate(dataset_dicts, predictions)["keypoints_visible_and_occluded"]["AP-skirt"]
    assert total > 10 and 5 < result < 95
    assert result == pytest.approx(100 * np.mean(averages), abs=1e-6)


def test_nothing_found_scores_nothing(dataset_dicts: Records, tmp_path: Path) -> None:
    dataset_dicts += random_dataset_dicts()
    results = evaluate(dataset_dicts, [instances([]) for _ in dataset_dicts], tmp_path)
    assert [results[task]["AP"] for task in TASKS] == [0, 0, 0]
    assert json.loads((tmp_path / "coco_instances_results.json").read_text()) == []


def test_clothing_without_keypoints_that_count_are_ignored(dataset_dicts: Records) -> None:
    """AnnotationIssue one is no mistake and missing it none; a box is still wanted of it."""
    full, occluded = np.full((8, 3), 50.0), np.full((8, 3), 50.0)
    full[:, 2], occluded[:, 2] = 2, 1
    dataset_dicts += [
        dataset_dict(1, clothing_item(SKIRT, [0, 0, 100, 100], full)),
        dataset_dict(2, clothing_item(SKIRT, [0, 0, 100, 100], occluded)),
    ]
    results = evaluate(dataset_dicts, [instances(dataset_dicts[0]["annotations"]), instances([])])
    assert results["keypoints_visible"]["AP"] == pytest.approx(100)
    assert results["keypoints_visible_and_occluded"]["AP"] < 60 and results["bbox"]["AP"] < 60


def test_two_processes_give_what_one_gives(dataset_dicts: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their images in any order, one of them in both; the second process gives no results."""
    dataset_dicts += random_dataset_dicts()
    predictions = noisy_detections(dataset_dicts)
    alone = evaluate(dataset_dicts, predictions)
    evaluators = [ClothesLandmarkEvaluator(NAME), ClothesLandmarkEvaluator(NAME)]
    for k, (entry, one) in reversed(list(enumerate(zip(dataset_dicts, predictions, strict=True)))):
        evaluators[k % 2].process([entry], [{"instances": one}])
    evaluators[1].process([dataset_dicts[0]], [{"instances": predictions[0]}])
    kept = [evaluator._predictions for evaluator in evaluators]
    monkeypatch.setattr(clothes, "gather_arrays", lambda data: kept if comm.is_main_process() else [])
    together = evaluators[0].evaluate()
    assert together == {task: pytest.approx(alone[task], abs=1e-9, nan_ok=True) for task in TASKS}
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert evaluators[1].evaluate() == {}


def test_a_model_of_boxes_only_has_box_ap(dataset_dicts: Records) -> None:
    dataset_dicts += random_dataset_dicts()
    predictions = noisy_detections(dataset_dicts)
    expected = evaluate(dataset_dicts, predictions)["bbox"]
    for one in predictions:
        one.remove("pred_keypoints")
    assert evaluate(dataset_dicts, predictions) == {"bbox": pytest.approx(expected, nan_ok=True)}


def test_what_cannot_be_scored_is_named(dataset_dicts: Records) -> None:
    dataset_dicts += random_dataset_dicts()
    evaluator = ClothesLandmarkEvaluator(NAME)
    evaluator.process([{"image_id": 1000}], [{"instances": instances([])}])
    with pytest.raises(ValueError, match=f"'{NAME}' has no image with the id 1000"):
        evaluator.evaluate()
    few = instances([])
    few.pred_keypoints = torch.zeros(0, 17, 3)
    with pytest.raises(ValueError, match=f"17 landmarks are predicted, but dataset '{NAME}' has 294"):
        evaluator.process([dataset_dicts[0]], [{"instances": few}])
    MetadataCatalog.get(NAME + "_face").set(**make_keypoint_metadata(FACE68))
    with pytest.raises(ValueError, match=r"landmarks \(face68\) have no sigmas"):
        ClothesLandmarkEvaluator(NAME + "_face")


def test_the_metadata_names_it(dataset_dicts: Records, tmp_path: Path) -> None:
    evaluator = build_evaluator(tiny_cfg("OUTPUT_DIR", str(tmp_path)), NAME)
    assert isinstance(evaluator, ClothesLandmarkEvaluator)
    assert ClothesLandmarkEvaluator(NAME)._limit == evaluator._limit == get_cfg().TEST.DETECTIONS_PER_IMAGE


def test_real_clothing_from_their_file(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "deepfashion2"
    cfg = tiny_cfg("OUTPUT_DIR", str(tmp_path))
    cfg.DATASETS.CUSTOM = [[NAME + "_real", "clothes294", str(folder / "deepfasion2.json"), str(folder)]]
    register_custom_datasets(cfg)
    evaluator = build_evaluator(cfg, NAME + "_real")
    for entry in load_dataset_dicts(NAME + "_real"):
        evaluator.process([entry], [{"instances": instances(entry["annotations"])}])
    results = evaluator.evaluate()
    assert all(results[task]["AP"] == results[task]["AP-long_sleeved_dress"] == pytest.approx(100) for task in TASKS)
