"""What the model is given: sparse objects in the frame of the warped image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image

from centernet_d2.data.dataset_mapper import CenterNetDatasetMapper
from tests.helpers.tiny import base_cfg

MakeDatasetDict = Callable[..., dict[str, Any]]


@pytest.fixture
def cfg() -> CfgNode:
    cfg = base_cfg()
    cfg.INPUT.SIZE_TRAIN = [64, 96]
    cfg.INPUT.AFFINE.MODE = "none"
    cfg.INPUT.AFFINE.FLIP_PROB = 0.0
    cfg.INPUT.COLOR.JITTER = 0.0
    cfg.INPUT.COLOR.LIGHTING = 0.0
    return cfg


@pytest.fixture
def make_dataset_dict(tmp_path: Path) -> MakeDatasetDict:
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(image).save(path)

    def make(*annotations: dict[str, Any]) -> dict[str, Any]:
        filled = [{"bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, "iscrowd": 0, **a} for a in annotations]
        return {"file_name": str(path), "image_id": 7, "height": 64, "width": 96, "annotations": filled}

    return make


def test_training_sample_of_a_image_that_fits_is_the_image(cfg: CfgNode, make_dataset_dict: MakeDatasetDict) -> None:
    dataset_dict = make_dataset_dict({"bbox": [10, 20, 30, 40], "category_id": 3})
    sample = CenterNetDatasetMapper(cfg, is_train=True)(dataset_dict)
    image = np.asarray(Image.open(dataset_dict["file_name"]))
    assert sample["image"].dtype == torch.uint8 and sample["image"].is_contiguous()
    np.testing.assert_array_equal(sample["image"].numpy(), image[:, :, ::-1].transpose(2, 0, 1))
    assert sample["instances"].gt_boxes.tensor.tolist() == [[10, 20, 30, 40]]
    assert sample["instances"].gt_classes.tolist() == [3]
    assert sample["instances"].gt_classes.dtype == torch.int64
    assert sample["instances"].image_size == (64, 96)
    expected = {"file_name": dataset_dict["file_name"], "image_id": 7, "height": 64, "width": 96}
    assert {key: sample[key] for key in expected} == expected
    assert "annotations" not in sample and "annotations" in dataset_dict


def test_boxes_are_cut_and_those_without_area_left_out(cfg: CfgNode, make_dataset_dict: MakeDatasetDict) -> None:
    dataset_dict = make_dataset_dict(
        {"bbox": [-5, -5, 10, 10]},
        {"bbox": [90, 60, 200, 1e12], "category_id": 1},
        {"bbox": [5, 5, 5, 20]},  # no width
        {"bbox": [30, 30, 20, 40]},  # inside out
        {"bbox": [100, 10, 120, 20]},  # outside
        {"bbox": [1, 1, 9, 9], "iscrowd": 1},
        {"bbox": [3, 4, 5, 6], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 2},
    )
    instances = CenterNetDatasetMapper(cfg, is_train=True)(dataset_dict)["instances"]
    assert instances.gt_boxes.tensor.tolist() == [[0, 0, 10, 10], [90, 60, 96, 64], [3, 4, 8, 10]]
    assert instances.gt_classes.tolist() == [0, 1, 2]


def test_inside_out_box_stays_out_when_flipped(cfg: CfgNode, make_dataset_dict: MakeDatasetDict) -> None:
    cfg.INPUT.AFFINE.FLIP_PROB = 1.0
    instances = CenterNetDatasetMapper(cfg, True)(make_dataset_dict({"bbox": [30, 30, 20, 40]}, {"bbox": [0, 0, 6, 9]}))
    assert instances["instances"].gt_boxes.tensor.tolist() == [[90, 0, 96, 9]]


def test_no_objects(cfg: CfgNode, make_dataset_dict: MakeDatasetDict) -> None:
    instances = CenterNetDatasetMapper(cfg, is_train=True)(make_dataset_dict())["instances"]
    assert len(instances) == 0
    assert instances.gt_boxes.tensor.shape == (0, 4) and instances.gt_classes.shape == (0,)


def test_nothing_dense_leaves_the_mapper(cfg: CfgNode, make_dataset_dict: MakeDatasetDict) -> None:
    sample = CenterNetDatasetMapper(cfg, is_train=True)(make_dataset_dict(*[{"bbox": [1, 1, 9, 9]}] * 100))
    fields = sample["instances"].get_fields()
    assert set(fields) == {"gt_boxes", "gt_classes"}
    tensors = [fields["gt_boxes"].tensor, fields["gt_classes"]]
    assert sum(tensor.numel() * tensor.element_size() for tensor in tensors) == 100 * (16 + 8)


def test_testing_gives_the_image_as_it_is(cfg: CfgNode, make_dataset_dict: MakeDatasetDict) -> None:
    cfg.INPUT.SIZE_TRAIN = [32, 32]
    cfg.INPUT.FORMAT = "RGB"
    dataset_dict = make_dataset_dict({"bbox": [10, 20, 30, 40]})
    sample = CenterNetDatasetMapper(cfg, is_train=False)(
        {k: v for k, v in dataset_dict.items() if k not in ("height", "width")}
    )
    np.testing.assert_array_equal(
        sample["image"].permute(1, 2, 0).numpy(), np.asarray(Image.open(dataset_dict["file_name"]))
    )
    assert (sample["height"], sample["width"]) == (64, 96)
    assert "instances" not in sample


def test_keypoints_follow_the_warp_and_change_sides(cfg: CfgNode, make_dataset_dict: MakeDatasetDict) -> None:
    cfg.MODEL.CENTERNET.TASK = "KeypointRegressionTask"
    cfg.DATASETS.TRAIN = ("test_mapper_keypoints",)
    values = {"keypoint_names": ["nose", "left", "right"], "keypoint_flip_map": [("left", "right")]}
    MetadataCatalog.get("test_mapper_keypoints").set(**values)
    points = [[20, 30, 2], [10, 25, 1], [40, 35, 2]]
    dataset_dict = make_dataset_dict(
        {"bbox": [5, 20, 50, 40], "keypoints": np.ravel(points).tolist()}, {"bbox": [5, 5, 9, 9]}
    )
    plain = CenterNetDatasetMapper(cfg, is_train=True)(dataset_dict)["instances"].gt_keypoints.tensor
    assert plain[0].tolist() == points and plain[1, :, 2].tolist() == [0, 0, 0]
    cfg.INPUT.AFFINE.FLIP_PROB = 1.0
    flipped = CenterNetDatasetMapper(cfg, is_train=True)(dataset_dict)["instances"].gt_keypoints.tensor
    assert flipped[0].tolist() == [[76, 30, 2], [56, 35, 2], [86, 25, 1]]
    outside = make_dataset_dict({"bbox": [5, 20, 50, 40], "keypoints": [20, 30, 2, 99, 5, 2, 40, 35, 0]})
    cfg.INPUT.AFFINE.FLIP_PROB = 0.0
    assert CenterNetDatasetMapper(cfg, True)(outside)["instances"].gt_keypoints.tensor[0, :, 2].tolist() == [2, 0, 0]


def test_boxes_lie_on_what_they_enclose_under_all_augmentations(cfg: CfgNode, tmp_path: Path) -> None:
    """A bright box on black: after crop, scale and flip, its pixels are inside the box that the sample has."""
    image = np.zeros((120, 160, 3), np.uint8)
    image[40:80, 50:100] = 255
    Image.fromarray(image).save(tmp_path / "box.png")
    annotation = {"bbox": [50, 40, 100, 80], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
    dataset_dict = {"file_name": str(tmp_path / "box.png"), "image_id": 1, "annotations": [annotation]}
    cfg.INPUT.AFFINE.MODE, cfg.INPUT.AFFINE.FLIP_PROB = "crop", 0.5
    cfg.INPUT.SIZE_TRAIN = [128, 128]
    mapper = CenterNetDatasetMapper(cfg, is_train=True)
    for _ in range(30):
        sample = mapper(dataset_dict)
        rows, columns = np.nonzero(sample["image"][0].numpy() > 127)
        if not len(rows):
            continue
        edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(sample["instances"].gt_boxes.tensor[0], edges, atol=0.6)


def _with_keypoints(cfg: CfgNode) -> None:
    cfg.MODEL.CENTERNET.TASK = "KeypointRegressionTask"
    cfg.DATASETS.TRAIN = ("test_mapper_box_from_keypoints",)
    MetadataCatalog.get("test_mapper_box_from_keypoints").set(keypoint_names=["a", "b", "c"], keypoint_flip_map=[])


def test_box_becomes_that_of_the_labeled_keypoints(cfg: CfgNode, make_dataset_dict: MakeDatasetDict) -> None:
    _with_keypoints(cfg)
    dataset_dict = make_dataset_dict(
        {"bbox": [5, 20, 50, 40], "keypoints": [20, 30, 2, 10, 25, 1, 1, 1, 0]},
        {"bbox": [60, 10, 80, 30], "keypoints": [70, 20, 2, 120, -10, 1, 65, 28, 2]},  # one outside
        {"bbox": [5, 5, 9, 9]},  # none
        {"bbox": [30, 5, 39, 9], "keypoints": [31, 6, 0, 33, 7, 0, 35, 8, 0]},  # none labeled
        {"bbox": [50, 5, 59, 9], "keypoints": [51, 6, 2, 53, 6, 2, 35, 8, 0]},  # on a line
        {"bbox": [5, 40, 60, 60], "keypoints": [-9, 45, 2, -5, 50, 2, -1, 44, 1]},  # all outside
    )
    own = [[5, 20, 50, 40], [60, 10, 80, 30], [5, 5, 9, 9], [30, 5, 39, 9], [50, 5, 59, 9], [5, 40, 60, 60]]
    for setting in ("never", "rotated"):
        cfg.INPUT.BOX_FROM_KEYPOINTS = setting
        assert CenterNetDatasetMapper(cfg, True)(dataset_dict)["instances"].gt_boxes.tensor.tolist() == own
    cfg.INPUT.BOX_FROM_KEYPOINTS = "always"
    instances = CenterNetDatasetMapper(cfg, True)(dataset_dict)["instances"]
    assert instances.gt_boxes.tensor.tolist() == [[10, 25, 20, 30], [65, 0, 96, 28], *own[2:5]]
    assert instances.gt_keypoints.tensor[:, :, 2].tolist()[:2] == [[2, 1, 0], [2, 0, 2]]
    assert len(instances.gt_keypoints) == len(instances.gt_classes) == 5


@pytest.mark.parametrize("setting", ["rotated", "always"])
def test_box_of_keypoints_is_tight_when_rotated(cfg: CfgNode, make_dataset_dict: MakeDatasetDict, setting: str) -> None:
    _with_keypoints(cfg)
    cfg.INPUT.AFFINE.ROTATION_PROB, cfg.INPUT.AFFINE.ROTATION = 1.0, 10.0
    dataset_dict = make_dataset_dict({"bbox": [40, 25, 60, 40], "keypoints": [40, 32, 2, 60, 30, 2, 50, 25, 2]})
    np.random.seed(0)  # noqa: NPY002
    loose = CenterNetDatasetMapper(cfg, True)(dataset_dict)["instances"]
    assert not np.allclose(loose.gt_boxes.tensor[0, :2], loose.gt_keypoints.tensor[0, :, :2].amin(dim=0), atol=0.1)
    cfg.INPUT.BOX_FROM_KEYPOINTS = setting
    tight = CenterNetDatasetMapper(cfg, True)(dataset_dict)["instances"]
    points = tight.gt_keypoints.tensor[0, :, :2]
    torch.testing.assert_close(tight.gt_boxes.tensor[0], torch.cat([points.amin(dim=0), points.amax(dim=0)]))


def test_wrong_box_from_keypoints_is_named(cfg: CfgNode) -> None:
    cfg.INPUT.BOX_FROM_KEYPOINTS = "sometimes"
    with pytest.raises(ValueError, match=r'INPUT\.BOX_FROM_KEYPOINTS must be "never".*sometimes'):
        CenterNetDatasetMapper(cfg, is_train=True)


def test_keypoints_stay_out_where_nobody_wants_them(cfg: CfgNode, make_dataset_dict: MakeDatasetDict) -> None:
    dataset_dict = make_dataset_dict({"bbox": [5, 20, 50, 40], "keypoints": [20, 30, 2, 10, 25, 1, 1, 1, 0]})
    assert not CenterNetDatasetMapper(cfg, True)(dataset_dict)["instances"].has("gt_keypoints")
    _with_keypoints(cfg)
    assert "instances" not in CenterNetDatasetMapper(cfg, False)(dataset_dict)
