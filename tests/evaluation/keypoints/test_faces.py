"""The evaluator: ground truth, noise and misses, against an implementation of its own in plain loops."""

from __future__ import annotations

import json
import math
import uuid
from itertools import pairwise

import cv2
import numpy as np
import pytest
from detectron2.data import MetadataCatalog
from detectron2.structures import Instances
from detectron2.utils import comm

from centernet_d2.data.datasets.custom import register_custom_datasets
from centernet_d2.data.datasets.keypoint_sets import register_keypoint_dataset
from centernet_d2.data.schemas import FACE68
from centernet_d2.evaluation import build_evaluator, common
from centernet_d2.evaluation.keypoints.errors import compute_percentages, read_errors
from centernet_d2.evaluation.keypoints.faces import FaceLandmarkEvaluator
from centernet_d2.evaluation.keypoints.metrics import NORMALIZERS
from tests.evaluation.keypoints.face_set import SUBSETS, Faces, output, random_faces
from tests.helpers.tiny import tiny_cfg


def moved(faces: np.ndarray, x: float) -> np.ndarray:
    """To the right."""
    return faces + np.array([x, 0, 0])


def errors_by_loops(gt: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Percent, from the definitions."""
    total = 0.0
    for (x, y, _), (u, v, _) in zip(predictions, gt, strict=True):
        total += math.sqrt((x - u) ** 2 + (y - v) ** 2)
    right, left = [[sum(gt[k][d] for k in eye) / 6 for d in (0, 1)] for eye in (range(36, 42), range(42, 48))]
    box = Faces.box(gt)
    xs, ys = gt[:, 0].tolist(), gt[:, 1].tolist()
    lengths = {
        "inter_ocular": math.hypot(gt[36][0] - gt[45][0], gt[36][1] - gt[45][1]),
        "inter_pupil": math.hypot(right[0] - left[0], right[1] - left[1]),
        "box_diagonal": math.hypot(max(xs) - min(xs), max(ys) - min(ys)),
        "box_size": math.sqrt(box[2] * box[3]),
    }
    return {name: 100 * total / 68 / length for name, length in lengths.items()}


def area_by_loops(errors: list[float], limit: float) -> float:
    """Integral of the empirical distribution, strip by strip between the errors."""
    corners = [0.0, *sorted(e for e in errors if e < limit), limit]
    area = 0.0
    for a, b in pairwise(corners):
        area += (b - a) * sum(1 for e in errors if e <= (a + b) / 2) / len(errors)
    return area / limit


@pytest.mark.parametrize("side", [2, 3])
def test_faces_whose_box_has_no_area_are_not_scored(tmp_path, side):
    faces = Faces(tmp_path, random_faces(2))
    faces.objects[0]["bbox"][side] = 0.0
    faces.write()
    assert faces.score(faces.images)["landmarks"]["faces"] == 1


def test_files_without_the_mark_of_crowds(tmp_path):
    faces = Faces(tmp_path, random_faces(2))
    for one in faces.objects:
        del one["iscrowd"]
    faces.write()
    assert faces.score(faces.images)["landmarks"]["faces"] == 2


def test_landmarks_are_stored_to_a_thousandth_and_folders_are_made(tmp_path):
    """Also where they are there already."""
    gt = random_faces(1)
    faces = Faces(tmp_path, gt, None)
    faces.folder = tmp_path / "there"
    register_keypoint_dataset(faces.name, "face68", str(tmp_path / f"{faces.name}.json"), str(tmp_path))
    evaluator = FaceLandmarkEvaluator(faces.name, tmp_path / "a" / "b")
    for _ in range(2):
        evaluator.reset()
        evaluator.process([{"image_id": 0}], [output(gt[0] + [0.12345, 0, 0])])
        evaluator.evaluate()
    (face,) = read_errors(tmp_path / "a" / "b" / "landmark_errors.json")
    assert face.landmarks == (gt[0][0] + [0.12345, 0, 0]).round(3).tolist() and face.face == 0


def test_ground_truth_is_perfect_in_every_group(tmp_path):
    gt = random_faces(6)
    results = Faces(tmp_path, gt).score(gt)
    assert list(results) == ["landmarks", "landmarks_challenge", "landmarks_common"]
    assert [x["faces"] for x in results.values()] == [6, 2, 4]
    for result in results.values():
        assert result["missed"] == result["reference_missed"] == 0
        for name in NORMALIZERS:
            assert result[f"NME_{name}"] == pytest.approx(0, abs=1e-9)
            assert result[f"FR8_{name}"] == result[f"FR10_{name}"] == 0
            assert result[f"AUC8_{name}"] == pytest.approx(100) and result[f"AUC10_{name}"] == pytest.approx(100)


def test_against_plain_loops(tmp_path):
    rng, gt = np.random.default_rng(5), random_faces(31, 3)
    sigmas = rng.gamma(2, 1.5, 31)
    predictions = [x + rng.standard_normal(x.shape) * [s, s, 0] for x, s in zip(gt, sigmas, strict=True)]
    results = Faces(tmp_path, gt).score(predictions)
    for group, subset in (("landmarks", ("common", "challenge")), ("landmarks_challenge", ("challenge",))):
        chosen = [i for i in range(31) if SUBSETS[i % 3] in subset]
        errors = [errors_by_loops(gt[i][0], predictions[i][0]) for i in chosen]
        for name in NORMALIZERS:
            mine, result = [e[name] for e in errors], results[group]
            assert result[f"NME_{name}"] == pytest.approx(sum(mine) / len(mine), abs=1e-6)
            for limit in (8, 10):
                failures = 100 * sum(1 for e in mine if e > limit) / len(mine)
                assert result[f"FR{limit}_{name}"] == pytest.approx(failures, abs=1e-6)
                assert result[f"AUC{limit}_{name}"] == pytest.approx(100 * area_by_loops(mine, limit), abs=1e-6)
    assert 0 < results["landmarks"]["FR10_box_size"] < 100, "there are failures and successes to tell apart"


def test_a_dropped_detection_is_a_failure(tmp_path):
    gt = random_faces(5)
    predictions = [*gt[:4], gt[4][:0]]
    result = Faces(tmp_path, gt, None).score(predictions)["landmarks"]
    assert result["missed"] == result["FR8_inter_ocular"] == result["FR10_box_size"] == pytest.approx(20)
    assert result["AUC8_inter_ocular"] == result["AUC10_inter_pupil"] == pytest.approx(80)
    assert result["NME_inter_ocular"] == math.inf and result["NME_inter_ocular_found"] == pytest.approx(0, abs=1e-9)


def test_what_is_not_a_number_finds_nothing(tmp_path):
    gt = random_faces(2)
    corrupt = gt[1].copy()
    corrupt[0, 3, 0] = math.nan
    assert Faces(tmp_path, gt, None).score([gt[0], corrupt])["landmarks"]["missed"] == 50


def test_the_best_score_counts_however_low_it_is(tmp_path):
    gt = random_faces(3)
    predictions = [np.concatenate([x + 30, x]) for x in gt]
    result = Faces(tmp_path, gt, None).score(predictions, [[0.1, 0.2], [0.25, 0.29], [0.8, 0.9]])["landmarks"]
    assert result["NME_inter_ocular"] == pytest.approx(0, abs=1e-9) and result["missed"] == 0
    assert result["reference_missed"] == pytest.approx(200 / 3)
    wrong = Faces(tmp_path, gt, None).score(predictions, [[0.2, 0.1]] * 3)["landmarks"]
    assert wrong["FR10_inter_ocular"] == 100 and wrong["missed"] == 0 and wrong["reference_missed"] == 100
    assert math.isnan(wrong["reference_NME_inter_ocular"])


def test_the_reference_leaves_out_what_it_did_not_detect(tmp_path):
    gt = random_faces(4)
    predictions = [gt[0], moved(gt[1], 20), moved(gt[2], 20), gt[3]]
    result = Faces(tmp_path, gt, None).score(predictions, [[0.9], [0.9], [0.2], [0.9]])["landmarks"]
    assert result["reference_missed"] == 25 and result["reference_FR10_inter_ocular"] == pytest.approx(100 / 3)
    assert result["FR10_inter_ocular"] == 50
    expected = errors_by_loops(gt[1][0], predictions[1][0])["inter_pupil"] / 3
    assert result["reference_NME_inter_pupil"] == pytest.approx(expected, abs=1e-6)


def test_several_faces_in_a_image(tmp_path):
    one, two = random_faces(2)
    pair = np.concatenate([one * [0.5, 0.5, 1], moved(two * [0.5, 0.5, 1], 70)])
    faces = Faces(tmp_path, [pair], None)
    twice = np.concatenate([moved(pair[1:], 1), pair[:1], moved(pair[:1], 3)])
    result = faces.score([twice], [[0.5, 0.6, 0.4]])["landmarks"]
    assert result["faces"] == 2 and result["missed"] == 0
    assert [face.distance for face in faces.saved()] == pytest.approx([0, 1], abs=1e-6)
    missed = Faces(tmp_path, [pair], None).score([twice[1:]], [[0.6, 0.9]])["landmarks"]
    assert missed["missed"] == 50 and missed["FR10_box_size"] >= 50


def test_what_cannot_be_scored_is_left_out(tmp_path):
    gt = [np.concatenate(random_faces(3)), *random_faces(1, 9)]
    faces = Faces(tmp_path, gt, None)
    faces.objects[0]["iscrowd"] = 1
    faces.objects[1]["keypoints"][2::3] = [0] * 68
    faces.write()
    result = faces.score([gt[0][:0], gt[1]])["landmarks"]
    assert result["faces"] == 2 and result["missed"] == 50
    assert [(face.image_id, face.face) for face in faces.saved()] == [(0, 2), (1, 0)]


def test_faces_without_eye_corners_cannot_be_normalized_by_them(tmp_path):
    gt = random_faces(4)
    gt[1][0, 36, 2] = 0
    predictions = [moved(x, 5) for x in gt]
    faces = Faces(tmp_path, gt, None)
    result = faces.score(predictions)["landmarks"]
    assert result["not_normalized_inter_ocular"] == 25 and result["not_normalized_box_diagonal"] == 0
    expected = sum(errors_by_loops(gt[i][0], predictions[i][0])["inter_ocular"] for i in (0, 2, 3)) / 3
    assert result["NME_inter_ocular"] == pytest.approx(expected, abs=1e-6)
    assert (
        len(compute_percentages(faces.saved(), "inter_ocular")) == 3
        and len(compute_percentages(faces.saved(), "box_size")) == 4
    )
    gt[0][:, 36, 2] = gt[2][:, 36, 2] = gt[3][:, 36, 2] = 0
    assert "NME_inter_ocular" not in Faces(tmp_path, gt, None).score(predictions)["landmarks"]


def test_nineteen_keypoints(tmp_path):
    gt = random_faces(2, landmarks=19)
    result = Faces(tmp_path, gt, None, "face19").score([gt[0], moved(gt[1], 1)])["landmarks"]
    expected = 50 / np.linalg.norm(gt[1][0, 6, :2] - gt[1][0, 11, :2])
    assert result["NME_inter_ocular"] == pytest.approx(expected, abs=1e-6)


def test_processes_together_count_every_image_once(tmp_path, monkeypatch):
    gt = random_faces(3)
    faces = Faces(tmp_path, gt, None)
    first, second = faces.evaluator(), FaceLandmarkEvaluator(faces.name, tmp_path / "second")
    for evaluator, numbers in ((first, (0, 1)), (second, (2, 0))):
        for i in numbers:
            evaluator.process([{"image_id": i}], [output(gt[i] if i != 2 else gt[i][:0])])
    monkeypatch.setattr(common, "gather_arrays", lambda data: [first._predictions, second._predictions])
    assert first.evaluate()["landmarks"]["faces"] == 3
    assert first.evaluate()["landmarks"]["missed"] == pytest.approx(100 / 3)
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert second.evaluate() == {} and not (tmp_path / "second").exists()


def test_files(tmp_path):
    gt = random_faces(3)
    predictions = [x.copy() for x in gt]
    predictions[0][0, 5, 0] += 12
    predictions[2] = predictions[2][:0]
    faces = Faces(tmp_path, gt)
    faces.score(predictions)
    data = json.loads((tmp_path / "out" / "landmark_errors.json").read_text())
    assert data["schema"] == "face68" and data["results"]["landmarks"]["NME_box_size"] is None
    assert data["results"]["landmarks_challenge"]["missed"] == 100
    lengths = [face.normalizers["box_diagonal"] for face in faces.saved()]
    wanted = np.zeros(68)
    wanted[5] = 100 * 12 / lengths[0] / 2
    assert data["per_keypoint"]["box_diagonal"] == pytest.approx(wanted.tolist(), abs=0.01)
    assert np.allclose(faces.saved()[0].landmarks, predictions[0][0], atol=1e-3)
    canvas = cv2.imread(str(tmp_path / "out" / "worst.jpg"))
    assert canvas.shape[1] > 3 * 240 and canvas.shape[0] > 240
    for name in ("cumulative_error.png", "per_landmark_error.png"):
        assert cv2.imread(str(tmp_path / "out" / name)).shape[0] > 300


def test_a_file_of_something_else_is_named(tmp_path):
    (tmp_path / "x.json").write_text('{"faces": [{"image_id": 1}]}')
    with pytest.raises(ValueError, match=r"x\.json is not a landmark_errors\.json"):
        read_errors(tmp_path / "x.json")


def test_errors_are_sentences(tmp_path):
    gt = random_faces(1)
    faces = Faces(tmp_path, gt, None)
    with pytest.raises(
        ValueError, match=r"has 68 landmarks, but the model's pred_keypoints have the shape \(1, 17, 3\)"
    ):
        faces.score([gt[0][:, :17]])
    empty = Instances((120, 160))
    with pytest.raises(ValueError, match="has 68 landmarks, but the model has no keypoints"):
        FaceLandmarkEvaluator(faces.name, tmp_path).process([{"image_id": 0}], [{"instances": empty}])
    unlabelled = Faces(tmp_path, [gt[0] * [1, 1, 0]], None)
    with pytest.raises(ValueError, match="no face with a box and a labeled landmark"):
        unlabelled.evaluator()
    with pytest.raises(ValueError, match="keypoint_schema is None, not one of"):
        FaceLandmarkEvaluator("synthetic_shapes_val", tmp_path)


def test_real_faces(tmp_path, shared_data):
    cfg, name = tiny_cfg("OUTPUT_DIR", str(tmp_path)), f"faces_{uuid.uuid4().hex}"
    cfg.DATASETS.CUSTOM = [
        [name, "face68", str(shared_data / "faces68" / "val.json"), str(shared_data / "faces68" / "val")]
    ]
    register_custom_datasets(cfg)
    assert MetadataCatalog.get(name).keypoint_schema == FACE68.name
    evaluator = build_evaluator(cfg, name)
    assert isinstance(evaluator, FaceLandmarkEvaluator)
    for image in list(evaluator.images.values()):
        gt = np.array([x["keypoints"] for x in image.dataset_dict["annotations"]]).reshape(-1, 68, 3)
        evaluator.process([image.dataset_dict], [output(gt)])
    result = evaluator.evaluate()["landmarks"]
    assert (result["faces"], result["missed"], result["FR8_inter_ocular"]) == (235, 0, 0)
    assert result["NME_inter_ocular"] == 0 and result["AUC8_inter_ocular"] == 100
    assert (tmp_path / "inference" / name / "worst.jpg").is_file()
