"""Predictions that all lie to one side of the labels are told; chance is not."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from centernet_d2.data.catalog import load_dataset_dicts
from centernet_d2.evaluation.keypoints.own import OwnKeypointEvaluator
from centernet_d2.evaluation.keypoints.shift import describe_shift
from tests.data.datasets.test_own_keypoints import CAT, NAME, annotate, resolve_own, write
from tests.evaluation.keypoints.face_set import Faces, random_faces
from tests.evaluation.keypoints.test_own import predict


@pytest.mark.parametrize(
    ("shift", "words"),
    [
        ((-3.0, 0.0), "3.0 % left of the labels"),
        ((3.0, 0.9), "3.0 % right of the labels"),
        ((0.0, -1.5), "1.5 % above the labels"),
        ((-2.0, 4.0), "2.0 % left of and 4.0 % below the labels"),
    ],
)
def test_sides(shift, words):
    sentence = describe_shift(np.tile(shift, (10, 1)), "the side")
    assert sentence and words in sentence and "(percent of the side)" in sentence


def test_chance_and_few_objects_say_nothing():
    """The mean of 100 random shifts, 20 percent each, is off by 2 percent or so; the same mean of 10,000 is not."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(100, 2)) * 20
    noise += (4, 0) - noise.mean(axis=0)
    assert describe_shift(noise, "") is None
    many = np.tile(noise, (100, 1))
    assert "4.0 % right of the labels" in describe_shift(many, "")
    assert describe_shift(np.tile((3.0, 0.0), (9, 1)), "") is None
    assert describe_shift(np.tile((0.9, 0.0), (50, 1)), "") is None


@pytest.mark.parametrize("pixels", [0, 4])
def test_faces(tmp_path, caplog, pixels):
    """One missed face counts for nothing, and neither do landmarks without a label."""
    images = [image.copy() for image in random_faces(1) * 12]
    faces = Faces(tmp_path, images)
    predictions = [image + np.array([pixels, 0, 0]) for image in images]
    predictions[3] = predictions[3][:0]
    for k, entry in enumerate(faces.objects):
        entry["keypoints"][2] = 0
        if len(predictions[k]):
            predictions[k][0, 0] += 50
    faces.write()
    with caplog.at_level(logging.WARNING):
        faces.score(predictions)
    warnings = [one.message for one in caplog.records if "right of the labels" in one.message]
    assert len(warnings) == (1 if pixels else 0)


@pytest.mark.parametrize("pixels", [0, -4])
def test_own_keypoints(tmp_path, caplog, pixels):
    rows = [(10, y, 2, 30, y, 1, 20, y + 2, 2) for y in range(4, 96, 9)]
    write(tmp_path, [annotate(number, 4, points) for number, points in enumerate(rows, 1)], [CAT])
    resolve_own(tmp_path)
    evaluator = OwnKeypointEvaluator(NAME, tmp_path / "out")
    evaluator.reset()
    for one in load_dataset_dicts(NAME):
        points = [np.array(a["keypoints"]).reshape(-1, 3)[:, :2] + (pixels, 0) for a in one["annotations"]]
        evaluator.process([one], [{"instances": predict(*((0, 0.9, x.tolist()) for x in points))}])
    with caplog.at_level(logging.WARNING):
        evaluator.evaluate()
    warnings = [one.message for one in caplog.records if "left of the labels" in one.message]
    assert len(warnings) == (1 if pixels else 0)
