"""The evaluator of tracks: files, processes, input that is refused."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
from detectron2.utils import comm

from centernet_d2.evaluation import build_evaluator
from centernet_d2.evaluation.tracking import evaluator as tracking
from centernet_d2.evaluation.tracking.evaluator import TrackingEvaluator
from tests.helpers.tiny import tiny_cfg
from tests.helpers.tracks import (
    LENGTH,
    at,
    dataset_dict,
    evaluator,
    instances,
    name_outputs,
    percent,
    process,
    scores,
    two,
)


def test_what_is_not_finite_finds_nothing() -> None:
    predictions = scores(
        two, lambda k: [*name_outputs(two(k), {1: 7, 2: 9}), (3, 0, [0, math.nan, 1, 1], 0.5), (4, 0, at(0), math.inf)]
    )
    assert predictions == percent(1, 1, 1, 1, MT=2)


def test_frames_in_any_order_and_not_processed_ones(caplog: pytest.LogCaptureFixture) -> None:
    one = evaluator({1: [two(k) for k in range(LENGTH)], 2: [two(k) for k in range(LENGTH)]})
    for k in (3, 1, 2, 0):
        one.process(
            [dataset_dict(1, k, [])], [{"instances": instances(name_outputs(two(k), {1: 7, 2: 9 if k < 2 else 11}))}]
        )
    with caplog.at_level("WARNING"):
        predictions = one.evaluate()["tracking"]
    assert predictions == percent(1 - 1 / 8, 6 / 8, 1, (4 + 4 * 0.5) / 8, IDSW=1, MT=2)
    assert "Only 4 of the 20 frames" in caplog.text


def test_files_count_from_1(tmp_path: Path) -> None:
    one = evaluator({1: [two(0)], 2: [[]]}, tmp_path / "out")
    process(one, 1, [[(7, 0, [0, 10.5, 40, 30], 0.75)]])
    process(one, 2, [[]])
    one.evaluate()
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {
        "street.txt": "1,7,1,11.5,40,19.5,0.75,-1,-1,-1\n",
        "2.txt": "",
    }
    several = evaluator({1: [two(0)]}, tmp_path / "several", class_names=("person", "car"))
    process(several, 1, [[(7, 1, [0, 10.5, 40, 30], 0.75)]])
    several.evaluate()
    assert (tmp_path / "several/street.txt").read_text() == "1,7,1,11.5,40,19.5,0.75,2,-1,-1\n"


def test_without_ground_truth_there_are_only_files(tmp_path: Path) -> None:
    one = evaluator({1: [[], []]}, tmp_path)
    process(one, 1, [[(7, 0, at(0), 0.5)], []])
    assert one.evaluate() == {}
    assert (tmp_path / "street.txt").read_text().startswith("1,7,1,1,40,40,0.5")


def test_what_processes_found_is_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    videos = {1: [two(k) for k in range(LENGTH)], 2: [two(k) for k in range(LENGTH)]}
    first, second = evaluator(videos), evaluator(videos)
    process(first, 1, [name_outputs(two(k), {1: 7, 2: 9}) for k in range(LENGTH)])
    process(second, 2, [name_outputs(two(k), {1: 7}) for k in range(LENGTH)])
    monkeypatch.setattr(tracking, "gather_arrays", lambda predictions: [predictions, second._predictions])
    assert first.evaluate()["tracking"] == percent(30 / 40, 60 / 70, 30 / 40, 1, FN=10, MT=3, ML=1)
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert first.evaluate() == {}


def test_a_video_in_two_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    one = evaluator({1: [two(k) for k in range(LENGTH)]})
    process(one, 1, [[]])
    monkeypatch.setattr(tracking, "gather_arrays", lambda predictions: [predictions, predictions])
    with pytest.raises(ValueError, match="2 processes tracked in the video 1, not one"):
        one.evaluate()


def test_track_ids_are_needed_and_unique() -> None:
    one = evaluator({1: [two(0)]})
    with pytest.raises(ValueError, match=r"1/0.jpg: 2 objects have the track id 7"):
        process(one, 1, [[(7, 0, at(0), 0.5), (7, 0, at(90), 0.5)]])
    predictions = instances([(7, 0, at(0), 0.5)])
    predictions.remove("pred_track_ids")
    with pytest.raises(ValueError, match=r"1/0.jpg: the model gives no track ids \(pred_track_ids\)"):
        one.process([dataset_dict(1, 0, [])], [{"instances": predictions}])


def test_without_the_library_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "motmetrics", None)
    monkeypatch.delitem(sys.modules, "centernet_d2.evaluation.tracking.metrics")
    monkeypatch.delattr("centernet_d2.evaluation.tracking.metrics")
    with pytest.raises(ImportError, match=r"^tracks are scored with motmetrics: pip install 'motmetrics>=1.4'"):
        evaluator({1: [two(0)]})


def test_is_what_the_metadata_names(tmp_path: Path) -> None:
    name = evaluator({1: [two(0)]})._dataset_name
    one = build_evaluator(tiny_cfg(), name, str(tmp_path))
    assert isinstance(one, TrackingEvaluator)
    process(one, 1, [name_outputs(two(0), {1: 7, 2: 9})])
    assert one.evaluate()["tracking"]["HOTA"] == pytest.approx(100)
    assert (tmp_path / name / "street.txt").is_file()
    one.reset()
    assert one.evaluate() == {}
