"""The page, from a folder written by hand."""

from __future__ import annotations

import json
import re
import tracemalloc
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from centernet_d2 import cli
from centernet_d2.report import run_folder, write_report
from centernet_d2.report.figures.curves import smooth_curve
from centernet_d2.report.figures.keypoints import summarize_keypoints
from centernet_d2.report.html import format_number
from centernet_d2.report.run_folder import read_metrics, write_results
from tests.report.test_matching import draw_images, make_objects

METRICS = """{"iteration": 19, "total_loss": 3.0, "loss_box_size": 1.0, "lr": 0.1, "bbox/AP": NaN}
{"iteration": 39, "total_loss": 9.0, "loss_box_size": 0.9, "bbox/AP": 10.0}
{"iteration": 39, "total_loss": 2.0, "loss_box_size": 0.8, "bbox/AP": 20.0}
{"iteration": 59, "total_lo"""


class Page(HTMLParser):
    """Titles, open elements, and what the page would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.titles: list[str] = []
        self.open: list[str] = []
        self.loads: list[str] = []
        self.elements: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["h2"]:
            self.titles.append(data)


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "config.yaml").write_text("VERSION: 2\n# a < b\n")
    (tmp_path / "metrics.json").write_text(METRICS)
    write_results(tmp_path, {"stones": {"bbox": {"AP": 12.5, "AP50": float("nan"), "AP-<b>": 1.0}}})
    objects = make_objects(draw_images(0))
    errors = np.full((len(objects.true_boxes), 2), np.nan)
    errors[:3, 0] = 0.05, 0.15, 0.1
    names = {"keypoint_names": np.array(["left eye", "nose"]), "keypoint_errors": errors}
    inference = tmp_path / "inference" / "stones"
    type(objects)(**{**vars(objects), **names}).save(inference / "objects.npz")
    cv2.imwrite(str(inference / "worst_0.jpg"), np.zeros((20, 30, 3), dtype=np.uint8))
    entry = {"group": "worst", "file": "worst_0.jpg", "image": "a.jpg", "quality": 0.1}
    (inference / "images.json").write_text(json.dumps([entry]))
    return tmp_path


def test_the_page_has_everything_and_loads_nothing(folder):
    text = write_report(folder).read_text()
    page = Page(text)
    assert page.open == []
    assert page.titles == [
        *("Run", "Results", "Scores during training", "Losses", "Classes: stones", "Precision and recall: stones"),
        *("Confusion matrix: stones", "Scores of right and wrong detections: stones", "Errors of keypoints: stones"),
        *("Best and worst images: stones", "Configuration"),
    ]
    assert page.loads and all(value.startswith("data:image/") for value in page.loads)
    assert not {"script", "link", "iframe"} & set(page.elements) and "@import" not in text
    assert "AP-&lt;b&gt;" in text and "a &lt; b" in text
    assert "worst: a.jpg, 0.100" in text and "left eye" in text


def test_a_folder_without_an_evaluation_says_how_to_get_one(folder, capsys):
    (folder / "inference" / "results.json").unlink()
    assert cli.main(["report", str(folder)]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    text = (folder / "report.html").read_text()
    assert f"centernet-d2 evaluate --model {folder}" in text and "Losses" in text


def test_another_folder_is_refused(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path)]) == 1
    assert "is no folder of a run" in capsys.readouterr().err


def test_metrics_of_a_resumed_and_interrupted_run(folder):
    assert read_metrics(folder / "metrics.json") == {
        "total_loss": {19: 3.0, 39: 2.0},
        "loss_box_size": {19: 1.0, 39: 0.8},
        "lr": {19: 0.1},
        "bbox/AP": {39: 20.0},
    }


def test_metrics_of_any_length_need_the_same_memory(tmp_path, monkeypatch):
    """8 MB, then a line of 3 MB, of more values than are kept: evenly, and the last."""
    monkeypatch.setattr(run_folder, "MOST_POINTS", 100)
    with (tmp_path / "metrics.json").open("w") as file:
        for k in range(20_000):
            file.write(json.dumps({"iteration": k, "total_loss": k / 2, **({"bbox/AP": k} if k % 5000 == 0 else {})}))
            file.write(" " * 350 + "\n")
        file.write(" " * 3_000_000 + '\n{"iteration": 20000, "total_loss": 1}\n{"iteration": 1e999}\n')
        file.write('{"iteration": 1, "lr": 1' + "0" * 400 + "}\n")
    tracemalloc.start()
    metrics = read_metrics(tmp_path / "metrics.json")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 4e6, "the longest line takes two at most"
    assert metrics.keys() == {"total_loss", "bbox/AP"} and metrics["bbox/AP"] == {k: k for k in range(0, 20_000, 5000)}
    *kept, last = metrics["total_loss"].items()
    assert kept == [(k, k / 2) for k in range(0, 20_000, 256)] and last == (20_000, 1)


@pytest.mark.parametrize("length", [1, 4, 30])
def test_smoothing_against_a_loop(length):
    values = np.random.default_rng(0).random(length)
    expected = [values[max(0, i - 4) : i + 5].mean() for i in range(length)]
    assert smooth_curve(values, 9) == pytest.approx(np.array(expected))


def test_summary_of_keypoints_by_hand():
    errors = np.array([[0.05, np.nan, np.nan], [0.15, 0.02, np.nan]])
    count, mean, right = summarize_keypoints(errors)
    assert count.tolist() == [2, 1, 0]
    assert mean.tolist() == pytest.approx([0.1, 0.02, np.nan], nan_ok=True)
    assert right.tolist() == pytest.approx([0.5, 1.0, np.nan], nan_ok=True)


def test_numbers():
    values = [1234, 12.345, 0.12345, float("nan"), None]
    assert [format_number(value) for value in values] == ["1,234", "12.3", "0.123", "-", "-"]


def test_charts_are_images_that_a_program_can_read(folder):
    import base64
    from xml.etree import ElementTree

    text = write_report(folder).read_text()
    charts = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', text)
    assert len(charts) >= 7
    for chart in charts:
        assert ElementTree.fromstring(base64.b64decode(chart)).tag.endswith("svg")
