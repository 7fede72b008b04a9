"""Datasets drawn: what is in the images, and what the network should answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from centernet_d2.data.datasets.custom import register_custom_datasets
from centernet_d2.data.fields_3d import get_calibration
from centernet_d2.data.schemas import FACE68
from centernet_d2.engine.setup import setup_cfg
from centernet_d2.modeling.tasks import build_task
from centernet_d2.ops.box3d_geometry import project
from centernet_d2.visualization import dataset
from tests.helpers.boxes3d import (
    CLASSES,
    STREET,
    assert_predictions,
    box3d_cfg,
    boxes_of,
    dataset_dict_of,
    map_training_sample,
)
from tests.helpers.tiny import tiny_cfg

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "Synthetic"


def config(name: str, tmp_path) -> CfgNode:
    """With the smaller dataset, which is laid out sooner."""
    cfg = setup_cfg(str(CONFIGS / f"{name}.yaml"), ["OUTPUT_DIR", str(tmp_path), "DATALOADER.NUM_WORKERS", 0])
    cfg.defrost()
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST
    return cfg


def test_target_maps_become_heatmaps(tmp_path):
    """A channel per class and point becomes one per class; landmark channels stay; other maps are left out."""
    task = build_task(tiny_cfg("MODEL.CENTERNET.GRID_POINTS", [0, 4]), [1])
    maps = {name: torch.full((1, head.out_channels, 4, 5), -20.0) for name, head in task.items()}
    maps["heatmap"][0, 3, 1, 2] = 20
    predictions = dataset.select_class_heatmaps(task, maps)
    assert list(predictions) == ["heatmap"] and np.argwhere(predictions["heatmap"] > 0.5).tolist() == [[1, 1, 2]]
    task = build_task(config("faces_heatmap", tmp_path), [1])
    maps = {name: torch.zeros(1, head.out_channels, 4, 5) for name, head in task.items()}
    predictions = dataset.select_class_heatmaps(task, maps)
    shapes = {name: x.shape for name, x in predictions.items()}
    assert shapes == {"heatmap": (1, 4, 5), "keypoint_heatmap": (len(FACE68), 4, 5)}
    assert predictions["heatmap"].max() == 0.5


@pytest.mark.parametrize(
    ("name", "heatmaps", "ground"),
    [
        ("shapes_9pt", {"heatmap"}, 0),
        ("extreme_points", {f"{where}_heatmap" for where in ("center", "top", "left", "bottom", "right")}, 0),
        ("persons", {"heatmap", "keypoint_heatmap"}, 0),
        ("faces_heatmap", {"heatmap", "keypoint_heatmap"}, 0),
        ("boxes3d", {"heatmap"}, 400),
        ("../Synthetic-LSNet/lsnet_box_cpv", {"corners, stride 8"}, 0),
        ("../Synthetic-LSNet/centernet_plus_plus", {"corners, stride 8"}, 0),
    ],
)
def test_every_task_shows_its_heatmaps(name, heatmaps, ground, tmp_path, monkeypatch):
    """Each beside the image and as large as it; in between the ground, where there are 3D boxes."""
    seen, original = {}, dataset.select_class_heatmaps
    monkeypatch.setattr(dataset, "select_class_heatmaps", lambda *args: seen.update(original(*args)) or seen)
    cfg = config(name, tmp_path)
    image = next(dataset.draw_loader(cfg))
    height, width = cfg.INPUT.SIZE_TRAIN
    wide = width * 400 // height
    assert seen.keys() == heatmaps and image.shape == (400, wide * (1 + len(heatmaps)) + ground, 3)
    panels = image[:, wide + ground :]
    for index, heatmap in enumerate(seen.values()):
        strongest = heatmap.max(axis=0)
        assert strongest.max() > 0.9 and strongest.min() < 0.01
        # Only heatmaps have color in the panels, below their name.
        named = -(-strongest.shape[0] // 8)
        below = strongest[named:]
        for cell, minimum, most in ((below.argmax(), 60 * (below.max() > 0.9), 255), (below.argmin(), 0, 20)):
            row, column = np.unravel_index(cell, below.shape) + np.array([named, 0])
            y, x = int((row + 0.5) * 400 / strongest.shape[0]), int((column + 0.5) * wide / strongest.shape[1])
            assert minimum <= np.ptp(panels[y, wide * index + x].astype(int)) <= most


def test_annotations_in_space_are_synthetic(tmp_path):
    cfg = config("boxes3d", tmp_path)
    dataset_dict = next(r for r in DatasetCatalog.get("synthetic_boxes3d_val") if r["annotations"])
    predictions = dataset.convert_annotations(cfg, dataset_dict, (dataset_dict["height"], dataset_dict["width"]))
    first = dataset_dict["annotations"][0]
    assert (
        predictions.pred_locations[0].tolist() == first["location"]
        and predictions.pred_dimensions[0].tolist() == first["dim"]
    )
    assert float(predictions.pred_rotation_y[0]) == first["rotation_y"]
    image = next(dataset.draw_annotations(cfg))
    assert image.shape == (400, 1200, 3)
    empty = dataset.convert_annotations(cfg, {**dataset_dict, "annotations": []}, (128, 256))
    assert len(empty) == 0 and empty.has("pred_locations")


@pytest.mark.parametrize("size", [[384, 1280], [128, 512]])
def test_the_networks_input_has_the_boxes_of_the_scene(size):
    """Of an image that is letterboxed into the input; through its calibration the boxes come back."""
    cfg, dataset_dict = box3d_cfg("INPUT.SIZE_TRAIN", size, "INPUT.SIZE_TEST", size), dataset_dict_of()
    calibration = dataset.compute_input_calibration(cfg, {**dataset_dict, "image": torch.zeros(3, *size)})
    assert_predictions(
        dataset.convert_targets(cfg, map_training_sample(dataset_dict, cfg), calibration), classes=CLASSES
    )
    # Corners in the input by this calibration, and in the image by the dataset dict's own, differ by the letterbox.
    inside = project(boxes_of(STREET).compute_corners(), torch.from_numpy(calibration))[..., :2]
    before = project(boxes_of(STREET).compute_corners(), get_calibration(dataset_dict))[..., :2]
    scale = min(size[0] / 375, size[1] / 1242)
    shift = torch.tensor([(size[1] - 1242 * scale) / 2, (size[0] - 375 * scale) / 2])
    assert torch.allclose(inside, before * scale + shift, atol=1e-6)


def test_scaled_images_have_no_meters_and_ignored_objects_are_not_synthetic():
    ignored = [{"type": "Van", "bbox": [10, 10, 60, 60], "bbox_mode": 0}]
    cfg = box3d_cfg()
    gt = map_training_sample(dataset_dict_of(ignored=ignored), cfg)
    assert len(gt) == len(STREET) + 1
    assert len(dataset.convert_targets(cfg, gt, np.eye(3, 4))) == len(STREET)
    gt.gt_metric[:] = False
    assert not dataset.convert_targets(cfg, gt, np.eye(3, 4)).has("pred_locations")


@pytest.mark.parametrize("draw", [dataset.draw_annotations, dataset.draw_loader])
def test_data_with_keypoints_can_be_synthetic(draw, shared_data):
    folder = shared_data / "faces68"
    cfg = tiny_cfg(
        *("MODEL.CENTERNET.TASK", "KeypointHeatmapTask", "DATALOADER.NUM_WORKERS", 0),
        *("MODEL.CENTERNET.NUM_CLASSES", 1, "DATASETS.TRAIN", ("tools_faces68",), "DATASETS.TEST", ()),
        *("DATASETS.CUSTOM", [["tools_faces68", "face68", str(folder / "val.json"), str(folder / "val")]]),
    )
    register_custom_datasets(cfg)
    image = next(draw(cfg))
    assert image.dtype == np.uint8 and image.shape[0] >= 400
    # The jaw's color, which is nowhere in a photo of a face.
    jaw = np.abs(image.astype(int) - [255, 190, 60]).max(axis=2) < 40
    assert jaw.sum() > 50
