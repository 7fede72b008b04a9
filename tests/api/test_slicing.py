"""Slices with real networks: of PyTorch and exported."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, RotatedBoxes

from centernet_d2.api import Detector
from centernet_d2.ops.rotated_boxes import enclose
from tests.helpers.exported import export_synthetic


def test_an_image_of_one_tile_gives_the_same(trained, photo):
    whole, sliced = (Detector(trained, threshold=0, slice=side)(photo) for side in (None, 100))
    assert np.array_equal(whole.boxes, sliced.boxes) and np.array_equal(whole.scores, sliced.scores)


def test_tiles_are_predicted_as_images_of_their_own(trained, photo):
    """Every prediction is one of the whole image, or one of a tile moved to its place."""
    image = cv2.imread(str(photo))
    result = Detector(trained, threshold=0, slice=64, overlap=0.25)(image)
    plain = Detector(trained, threshold=0)
    expected = [plain(image).boxes]
    for y in (0, 16):
        for x in (0, 36):
            expected.append(plain(image[y : y + 64, x : x + 64]).boxes + np.array([x, y, x, y]))
    known = np.concatenate(expected)
    assert len(result) > len(expected[0]) and isinstance(result.instances.pred_boxes, Boxes)
    nearest = np.abs(result.boxes[:, None] - known).max(axis=2).min(axis=1)
    assert nearest.max() < 1e-3


def test_an_exported_file(photo, tmp_path):
    pytest.importorskip("onnxruntime")
    export_synthetic(tmp_path / "model.onnx")
    result = Detector(tmp_path / "model.onnx", threshold=0, slice=64)(photo)
    assert len(result) > len(Detector(tmp_path / "model.onnx", threshold=0)(photo))


def test_rotated_boxes_of_tiles(photo, tmp_path):
    from tests.helpers.exported import write_run

    write_run(tmp_path / "run", "Synthetic/rotated.yaml", 0, "INPUT.SIZE_TEST=[64, 64]")
    instances = Detector(tmp_path / "run", threshold=0, slice=64)(photo).instances
    assert isinstance(instances.pred_rotated_boxes, RotatedBoxes) and len(instances) > 20
    outer = enclose(instances.pred_rotated_boxes.tensor).clamp(min=0)
    torch.testing.assert_close(outer[:, :2], instances.pred_boxes.tensor[:, :2], atol=1e-2, rtol=0)


def test_3d_boxes_are_of_whole_images(photo, tmp_path):
    from tests.helpers.exported import write_run

    write_run(tmp_path / "run", "Synthetic/boxes3d.yaml", 0, "INPUT.SIZE_TEST=[64, 128]")
    with pytest.raises(ValueError, match="3D boxes"):
        Detector(tmp_path / "run", threshold=0, slice=64)(photo)
