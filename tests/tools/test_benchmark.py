"""The benchmarks run and print what they measured; how fast things are is not tested."""

from __future__ import annotations

import argparse
import importlib
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from centernet_d2.ops.focal_loss import heatmap_focal_loss

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def printed(name: str, *options: str) -> str:
    command = [sys.executable, str(TOOLS / f"{name}.py"), *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_a_table_of_times_and_ratios():
    text = printed("benchmark", "--parts", "targets", "memory", "--threads", "1", "--seconds", "0", "--processes", "2")
    rows = re.findall(r"^\| (.+?) \| 1 \| ([\d.]+) \[([\d.]+)-([\d.]+)\] \| ([\d.]+) .*\| ([\d.]+) \(", text, re.M)
    assert len(rows) == 6
    for _, *numbers in rows:
        ours, low, high, theirs, ratio = map(float, numbers)
        assert 0 < low <= ours <= high and theirs > 0 and ratio > 0
    memory = re.findall(r"^\| heatmap loss and gradient.*\| (\d+) \| (\d+) \|", text, re.M)
    # What the plain loss keeps for its gradient is several times the logits; ours little more than once.
    assert len(memory) == 3 and all(int(ours) < int(plain) / 4 for ours, plain in memory)
    memory = re.findall(r"^\| pyramid deformable convolution.*\| (\d+) \| (\d+) \|", text, re.M)
    assert len(memory) == 3 and all(0 < int(ours) <= 1.2 * int(plain) for ours, plain in memory)


@pytest.mark.slow
def test_freed_memory_is_kept_in_one_of_two_processes():
    text = printed("benchmark", "--parts", "allocator", "--threads", "1", "--seconds", "0", "--networks", "R_18_DCN")
    row = re.search(r"^\| training step.*kept \| 1 \| ([\d.]+) \[.*\] \| ([\d.]+) \[.*\] \| ([\d.]+) \|$", text, re.M)
    assert row and all(float(number) > 0 for number in row.groups())


@pytest.fixture
def parts(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    # Two equal scores among random ones would be in any order.
    torch.manual_seed(0)
    return importlib.import_module("benchmarks.parts")


def test_baselines_find_what_ours_find(parts):
    """A baseline that did less would be no baseline: the same heatmap, loss and objects of one point."""
    baselines = parts.baselines
    boxes, classes = parts.sample_objects(32)
    logits, sparse = parts.make_loss_inputs(1, 1, "cpu")
    heatmap = torch.from_numpy(
        baselines.make_targets(boxes, classes, parts.POINTS[1], parts.CLASSES, parts.GRID)["heatmap"]
    )
    torch.testing.assert_close(sparse.to_dense()[0], heatmap, rtol=0, atol=1e-6)
    count = (heatmap == 1).sum()
    torch.testing.assert_close(heatmap_focal_loss(logits, sparse) / count, baselines.focal_loss(logits, heatmap[None]))

    task = parts.make_task(1, "cpu")
    maps = parts.sample_maps(task, 2, "cpu")
    predictions = task.decode(maps)
    ours = torch.cat([predictions.boxes, predictions.scores[..., None], predictions.classes[..., None]], dim=-1)
    torch.testing.assert_close(ours, baselines.decode(maps["heatmap"], maps["box_size"], maps["offset"], 1))


def test_the_baseline_of_the_pyramid_convolution_is_the_same_operator(parts):
    for level in (0, 2):
        inputs = [x.detach() for x in parts.make_pyramid_inputs(parts.PYRAMID[level], parts.PYRAMID[1], 4, "cpu")]
        ours, theirs = parts.pyramid_deform_conv(*inputs), parts.baselines.pyramid_deform_conv(*inputs)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_the_baselines_of_the_assignments_find_the_same(parts):
    points, strides, proposals, boxes, counts = parts.make_assignment_inputs(2, 40, "cpu")
    valid = torch.ones(2, 40, dtype=torch.bool)
    nearest = [parts.baselines.assign_centroid(points, strides, one) for one in boxes]
    assert torch.equal(parts.assign_centroid(points, strides, boxes, valid), torch.stack(nearest))
    atss = [parts.baselines.assign_atss(own, counts, one) for own, one in zip(proposals, boxes, strict=True)]
    found = parts.assign_atss(proposals, counts, boxes, valid)
    assert (found != torch.stack(atss)).sum() <= 2  # where the last bit decides
    assert (found >= 0).sum() > 100


@pytest.mark.slow
def test_every_part_is_of_two_functions_that_run(parts, tmp_path):
    """Of the parts that need no large network."""
    args = argparse.Namespace(device="cpu", folder=str(tmp_path), published=None)
    for part, rows in parts.PARTS.items():
        labels = []
        for label, ours, baseline in rows(args):
            ours()
            baseline()
            labels.append(label)
        assert len(set(labels)) == len(labels) > 1, part


def test_networks_run(parts, tmp_path):
    networks = importlib.import_module("benchmarks.networks")
    args = argparse.Namespace(device="cpu", networks=["R_18"], batches=[1], published=None, folder=str(tmp_path))
    for part, count in [("network", 3), ("step", 1), ("predictor", 2)]:
        rows = networks.PARTS[part](args)
        assert len(rows) == count
        for label, ours, reference in rows:
            assert "R_18" in label and reference is None
            ours()


def test_curves_are_synthetic(monkeypatch, tmp_path, capsys, parts):
    """Of small sizes, without a network."""
    curves = importlib.import_module("benchmark_curves")
    few = {name: [("loss and gradient", (1, 3), curves.loss)] for name in ("a", "b", "c", "d")}
    monkeypatch.setattr(curves, "make_panels", lambda args: few)
    monkeypatch.setattr(
        sys, "argv", ["benchmark_curves.py", "--seconds", "0", "--output", str(tmp_path / "x" / "c.png")]
    )
    threads = torch.get_num_threads()
    try:
        curves.main()
    finally:
        torch.set_num_threads(threads)
    assert cv2.imread(str(tmp_path / "x" / "c.png")).shape[2] == 3
    row = r"^\| loss and gradient \| [a-d] \| 1: [\d.]+, 3: [\d.]+ \| -?[\d.]+ \|"
    assert len(re.findall(row, capsys.readouterr().out, re.M)) == 4


def test_the_published_centerface_finds_what_ours_finds(parts, shared_data):
    """On the image that is timed, with faces and without weights in the inputs or with them."""
    pytest.importorskip("onnxruntime")
    path = shared_data.parent / "models" / "centerface" / "centerface.onnx"
    if not path.is_file():
        pytest.skip(f"no published model at {path}")
    centerface = importlib.import_module("benchmarks.centerface")
    image = centerface.draw_image()
    predictor = centerface.build_predictor(str(path))
    instances = predictor(image)["instances"]
    for constant in (False, True):
        boxes, points = centerface.build_published(str(path), 1, constant)(image)
        assert len(boxes) == len(instances) > 0
        np.testing.assert_allclose(instances.pred_boxes.tensor, boxes[:, :4].clip(0, [640, 480] * 2), atol=1e-2)
        np.testing.assert_allclose(instances.pred_keypoints[..., :2], points, atol=1e-2)
