"""Draws a dataset: its annotations, or the network's inputs and targets (heatmaps)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.detection_utils import convert_image_to_rgb
from detectron2.structures import Boxes, Instances, RotatedBoxes

from centernet_d2.config.resolution import resolve
from centernet_d2.data.annotations import convert_to_corner_boxes
from centernet_d2.data.build import build_train_loader
from centernet_d2.data.catalog import load_dataset_dicts
from centernet_d2.data.fields_3d import get_calibration
from centernet_d2.data.fields_masks import locate_corners
from centernet_d2.data.image_io import DatasetDict, read_image
from centernet_d2.geometry import build_letterbox_matrix, compute_fitting_scale
from centernet_d2.modeling.heads.class_heatmap import ClassHeatmapHead
from centernet_d2.modeling.heads.keypoint_heatmap import KeypointHeatmapHead
from centernet_d2.modeling.tasks import Task, build_task
from centernet_d2.modeling.tasks.pyramid_base import PyramidTask
from centernet_d2.ops.box3d_geometry import convert_alpha_to_rotation_y, unproject
from centernet_d2.ops.grid_coding import compute_grid_points
from centernet_d2.ops.rotated_boxes import convert_corners
from centernet_d2.registry import get_required_fields
from centernet_d2.structures import Targets
from centernet_d2.visualization.primitives import write_text
from centernet_d2.visualization.visualizer import Visualizer, blend_heatmap, join_side_by_side

STRIDE = 4
# Width of the feature maps that a task is built for and that are not there; group normalization divides it by 32.
CHANNELS = 32
WHITE = (255, 255, 255)


def draw_annotations(cfg: CfgNode) -> Iterator[np.ndarray]:
    """The images of the first training set as they are, with their boxes (in space, too) and points."""
    dataset_dicts = load_dataset_dicts(cfg.DATASETS.TRAIN[0])
    visualizer = Visualizer.from_config(cfg)
    for dataset_dict in dataset_dicts:
        image = read_image(dataset_dict)
        yield visualizer.draw(image, convert_annotations(cfg, dataset_dict, image.shape[:2]), dataset_dict)


def draw_loader(cfg: CfgNode) -> Iterator[np.ndarray]:
    """The loader's images with their objects, and beside them each heatmap (the strongest point in each cell)."""
    cfg = resolve(cfg)
    loader, task, visualizer = build_train_loader(cfg), build_task(cfg, [CHANNELS]), Visualizer.from_config(cfg)
    stride = task.bind_strides(get_strides(cfg, task))
    for sample in chain.from_iterable(loader):
        height, width = sample["image"].shape[-2:]
        targets = Targets.from_instances([sample["instances"]], stride, (height // stride, width // stride))
        image = convert_image_to_rgb(sample["image"].permute(1, 2, 0).numpy(), cfg.INPUT.FORMAT)[:, :, ::-1]
        calibration = compute_input_calibration(cfg, sample) if "calib" in sample else None
        panels = [
            visualizer.draw(image, convert_targets(cfg, sample["instances"], calibration), {"calib": calibration})
        ]
        high = panels[0].shape[0]
        # Image colors could be mistaken for heatmap colors.
        dim = cv2.cvtColor(cv2.resize(image, (round(width * high / height), high)) // 2, cv2.COLOR_BGR2GRAY)
        for name, heatmap in select_class_heatmaps(task, task.encode_dense(targets)).items():
            panels.append(blend_heatmap(cv2.cvtColor(dim, cv2.COLOR_GRAY2BGR), heatmap))
            write_text(panels[-1], (4, 4), name.replace("_", " "), WHITE, max(12, high // 25))
        yield join_side_by_side(panels)


def get_strides(cfg: CfgNode, task: Task) -> list[int]:
    """Return the strides of the network's feature maps, input pixels."""
    if not isinstance(task, PyramidTask):
        return [STRIDE]
    return [cfg.MODEL.NECK.FINEST_STRIDE << level for level in range(cfg.MODEL.NECK.NUM_LEVELS)]


def convert_annotations(cfg: CfgNode, dataset_dict: DatasetDict, size: tuple[int, int]) -> Instances:
    """A dataset dict's objects as if a model had found them; ``size`` is (height, width) of the image."""
    objects = dataset_dict["annotations"]

    def read_column(name: str, width: int) -> torch.Tensor:
        return torch.tensor([a[name] for a in objects], dtype=torch.float64).reshape(len(objects), width)

    predictions = Instances(size)
    predictions.pred_boxes = Boxes(torch.from_numpy(convert_to_corner_boxes(objects)))
    predictions.pred_classes = torch.tensor([a["category_id"] for a in objects], dtype=torch.int64)
    if objects and all("keypoints" in a for a in objects):
        predictions.pred_keypoints = read_column("keypoints", len(objects[0]["keypoints"])).unflatten(1, (-1, 3))
    if "corners" in get_required_fields(cfg):
        pairs = zip(objects, convert_to_corner_boxes(objects), strict=True)
        corners = np.array([locate_corners(one, box, size) for one, box in pairs]).reshape(-1, 4, 2)
        predictions.pred_rotated_boxes = RotatedBoxes(convert_corners(torch.from_numpy(corners)))
    if "box3d" in get_required_fields(cfg):
        predictions.pred_dimensions, predictions.pred_locations = read_column("dim", 3), read_column("location", 3)
        predictions.pred_rotation_y = read_column("rotation_y", 1)[:, 0]
    return add_grid_points(cfg, predictions)


def convert_targets(cfg: CfgNode, gt: Instances, calibration: np.ndarray | None) -> Instances:
    """A training sample's objects as if a model had found them, without those that are ignored.

    3D boxes are there where the sample says how many meters they are.
    """
    if gt.has("gt_ignored"):
        gt = gt[~gt.gt_ignored]
    predictions = Instances(gt.image_size, pred_boxes=gt.gt_boxes, pred_classes=gt.gt_classes)
    if gt.has("gt_keypoints"):
        predictions.pred_keypoints = gt.gt_keypoints.tensor
    for name in ("extreme_points", "contour"):
        if gt.has(f"gt_{name}"):
            predictions.set(f"pred_{name}", gt.get(f"gt_{name}").tensor)
    if gt.has("gt_corners"):
        predictions.pred_rotated_boxes = RotatedBoxes(convert_corners(gt.gt_corners.tensor[..., :2]))
    if calibration is not None and gt.has("gt_metric") and gt.gt_metric.all():
        matrix, center = torch.from_numpy(calibration), gt.gt_center_3d.tensor[:, 0, :2].double()
        predictions.pred_dimensions = gt.gt_dimensions
        predictions.pred_locations = unproject(torch.cat([center, gt.gt_depth[:, None]], dim=1), matrix)
        predictions.pred_locations[:, 1] += gt.gt_dimensions[:, 0] / 2
        predictions.pred_rotation_y = convert_alpha_to_rotation_y(gt.gt_alpha, center[:, 0], matrix)
    return add_grid_points(cfg, predictions)


def compute_input_calibration(cfg: CfgNode, sample: DatasetDict) -> np.ndarray:
    """(3, 4) of the network's input where the whole image is in it. (That of a flipped image has its principal
    point elsewhere; the centers of boxes are drawn where they are all the same.)"""
    size, source = tuple(sample["image"].shape[-2:]), (sample["height"], sample["width"])
    matrix = build_letterbox_matrix(source, size, compute_fitting_scale(source, size, cfg.INPUT.FIT_WIDTH))
    return np.vstack([matrix, [0.0, 0.0, 1.0]]) @ get_calibration(sample).numpy()


def add_grid_points(cfg: CfgNode, predictions: Instances) -> Instances:
    """The configuration's grid points as keypoints where there are no others."""
    if not any(predictions.has(f"pred_{name}") for name in ("keypoints", "extreme_points", "contour")):
        points = compute_grid_points(predictions.pred_boxes.tensor, cfg.MODEL.CENTERNET.GRID_POINTS)
        predictions.pred_keypoints = torch.cat([points, torch.ones_like(points[..., :1])], dim=-1)
    return predictions


def select_class_heatmaps(task: Task, maps: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Return the heatmaps of one image's target maps by name, (c, H, W) in 0..1: a channel per class, keypoint or
    corner (of the levels that prediction reads)."""
    predictions = {}
    if isinstance(task, PyramidTask) and "corner_scores_0" in maps:
        for level, stride in enumerate(task.strides[: len(task.strides) // 2]):
            predictions[f"corners, stride {stride}"] = maps[f"corner_scores_{level}"][0]
    for name, head in task.items():
        if isinstance(head, ClassHeatmapHead):
            predictions[name] = maps[name][0].unflatten(0, (head.num_classes, -1)).amax(dim=1)
        elif isinstance(head, KeypointHeatmapHead):
            predictions[name] = maps[name][0]
    return {name: heatmap.sigmoid().numpy() for name, heatmap in predictions.items()}
