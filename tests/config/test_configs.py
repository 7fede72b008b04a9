"""Every configuration is built, and run one training and one test step on small images.

Those of reference models are recipes among the others with other settings of pixels: they are built without weights.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg
from detectron2.data import MetadataCatalog
from detectron2.data.transforms import TransformList
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, Keypoints

import centernet_d2
from centernet_d2.config import RECOMMENDED, add_centernet_config
from centernet_d2.data.datasets.keypoint_sets import resolve_schema
from centernet_d2.data.fields_3d import read_object_fields
from centernet_d2.registry import get_required_fields
from tests.helpers.marking import mark_slow

ROOT = Path(__file__).parents[2] / "configs"
CONFIGS = sorted(p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*.yaml") if not p.name.startswith("Base-"))
# CenterFace's is of another family (tests/modeling/tasks/test_centerface.py).
# Models of others, but for CenterFace, whose images differ; and not the small ones that were trained here.
PRETRAINED = [
    Path(x).stem
    for x in CONFIGS
    if x.startswith("Pretrained/") and Path(x).stem not in ("centerface", "cells", "faces68")
]
# Of the training sets of published schedules.
IMAGES = {"COCO-Detection": 118287, "COCO-Detection-Light": 118287, "COCO-Keypoints": 64115}
IMAGES |= {"VOC-Detection": 16551, "KITTI-3D": 3712, "MOT17-Tracking": 5316}
PARTS = {"subcnn": 3682, "half": 2664, "crowdhuman": 15000}
GRID_CONFIGS = [name for name in CONFIGS if name.endswith("pt.yaml")]
CENTER = {"loss_heatmap", "loss_offset", "loss_box_size"}
PEAKS = {"loss_keypoint_heatmap", "loss_keypoint_offset"}
LOSSES = {
    "DetectionTask": CENTER,
    "KeypointRegressionTask": CENTER | PEAKS | {"loss_keypoint_regression"},
    "ExtremePointTask": {"loss_center_heatmap"}
    | {f"loss_{side}_{what}" for side in ("top", "left", "bottom", "right") for what in ("heatmap", "offset")},
    "KeypointHeatmapTask": CENTER | PEAKS | {"loss_keypoint_grouping"},
    "RotatedBoxTask": CENTER | {"loss_angle"},
    "Detection3DTask": CENTER | {"loss_depth", "loss_dimensions", "loss_orientation"},
    "LSNetBoxTask": {"loss_class", "loss_box_init", "loss_box"},
    "LSNetContourTask": {"loss_class", "loss_contour_init", "loss_contour"},
    "LSNetPoseTask": {"loss_class", "loss_box_init", "loss_box", "loss_pose_init", "loss_pose"},
    "CenterNetPlusPlusTask": {"loss_class", "loss_box_init", "loss_box", "loss_semantic"},
}
CORNERS = {"loss_semantic", "loss_corner", "loss_corner_offset"}
# Networks of more than 80 million parameters take seconds each; one of them is among the quick tests.
LARGE = ("X_101", "R2_101", "swin_L", "HG_104")
QUICK = "COCO-Detection/centernet_HG_104_1pt.yaml"


def load(name: str) -> CfgNode:
    cfg = centernet_d2.get_cfg()
    cfg.merge_from_file(str(ROOT / name))
    if name.startswith("Custom/"):  # of data that only their users have
        cfg.merge_from_list(["MODEL.CENTERNET.NUM_CLASSES", 3, "DATASETS.TRAIN", (), "DATASETS.TEST", ()])
    return cfg


def is_slow(name: str) -> bool:
    return name != QUICK and any(part in name for part in LARGE)


def pretrained(name: str) -> str:
    return next(config for config in CONFIGS if Path(config).stem == name and config.startswith("Pretrained/"))


def classes_of(cfg: CfgNode) -> int:
    return cfg.MODEL.CENTERNET.NUM_CLASSES or len(MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).thing_classes)


@pytest.mark.parametrize("name", mark_slow([x for x in CONFIGS if not x.startswith("Pretrained/")], is_slow))
def test_a_training_and_a_test_step(name):
    cfg = load(name)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.TIMM.PRETRAINED = False
    if cfg.MODEL.BACKBONE.NAME == "build_timm_backbone":
        pytest.importorskip("timm")
    cfg.INPUT.SIZE_TEST = [128, 128]
    torch.manual_seed(0)
    model = build_model(cfg)
    losses = model.train()([training_sample(cfg) for _ in range(2)])
    expected = PEAKS if cfg.MODEL.KEYPOINT.SINGLE_INSTANCE else LOSSES[cfg.MODEL.CENTERNET.TASK]
    needed = get_required_fields(cfg)
    if "box3d" in needed and cfg.MODEL.BOX3D.CENTER_OFFSET:
        expected = expected | {"loss_center_offset"}
    if cfg.MODEL.CENTERNET.BOX_HEAD in ("BoxHead", "BoxQualityHead"):  # of ltrb
        expected = expected - {"loss_offset"}
    if "previous_frame" in needed:
        expected = expected | {"loss_displacement"}
    if cfg.MODEL.LSNET.CORNERS:
        expected = expected | CORNERS
    if cfg.MODEL.LSNET.POSE_BOX == "keypoints":
        expected = expected - {"loss_box_init", "loss_box"}
    assert set(losses) == expected
    sum(losses.values()).backward()
    without = [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == [], "parameters that no loss reaches break distributed training"
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    (result,) = model.eval()([{"image": torch.randint(0, 256, (3, 90, 120), dtype=torch.uint8)}])
    predictions = result["instances"]
    assert predictions.image_size == (90, 120) and len(predictions) <= cfg.TEST.DETECTIONS_PER_IMAGE
    assert ((predictions.scores > 0) & (predictions.scores <= 1)).all() and torch.isfinite(
        predictions.pred_boxes.tensor
    ).all()
    assert ((predictions.pred_classes >= 0) & (predictions.pred_classes < classes_of(cfg))).all()
    if "keypoints" in needed:
        assert predictions.pred_keypoints.shape == (len(predictions), len(resolve_schema(cfg)), 3)
    if "box3d" in needed:
        assert predictions.pred_locations.shape == predictions.pred_dimensions.shape == (len(predictions), 3)
    if "corners" in needed:
        assert predictions.pred_rotated_boxes.tensor.shape == (len(predictions), 5)
    if "previous_frame" in needed:
        assert predictions.pred_displacement.shape == (len(predictions), 2) and (predictions.pred_track_ids > 0).all()


def training_sample(cfg: CfgNode) -> dict:
    instances = Instances((128, 128))
    instances.gt_boxes = Boxes(torch.tensor([[10.0, 20.0, 60.0, 90.0], [70.0, 30.0, 110.0, 120.0]]))
    instances.gt_classes = torch.tensor([0, classes_of(cfg) - 1])
    needed = get_required_fields(cfg)
    if "keypoints" in needed:
        instances.gt_keypoints = keypoints_inside(instances, cfg)
    if "box3d" in needed:
        annotations = [{"dim": [1.5, 1.6, 4.0], "location": [x, 1.7, 20.0], "alpha": 0.1} for x in (-3.0, 2.0)]
        dataset_dict = {"height": 128, "width": 128, "calib": np.array(cfg.MODEL.BOX3D.CALIBRATION).reshape(3, 4)}
        for name, values in read_object_fields(dataset_dict, annotations, TransformList([])).items():
            instances.set(name, values)
    for name, count in (("extreme_points", 4), ("contour", cfg.MODEL.LSNET.CONTOUR_POINTS), ("corners", 4)):
        if name in needed:
            low, high = (x[:, None] for x in instances.gt_boxes.tensor.split(2, dim=1))
            points = low + torch.rand(2, count, 2) * (high - low)
            instances.set(f"gt_{name}", Keypoints(torch.cat([points, torch.full((2, count, 1), 2.0)], dim=2)))
    if "crowd" in needed:
        instances.gt_ignored = torch.zeros(2, dtype=torch.bool)
    images = torch.randint(0, 256, (2, 3, 128, 128), dtype=torch.uint8)
    sample = {"image": images[0], "instances": instances}
    if "previous_frame" in needed:
        seen = torch.tensor([1.0, 0.0])[:, None]
        instances.gt_previous_center = Keypoints(torch.cat([instances.gt_boxes.get_centers(), seen], dim=1)[:, None])
        sample |= {"previous_image": images[1], "previous_boxes": instances.gt_boxes.tensor}
    return sample


def keypoints_inside(instances: Instances, cfg: CfgNode) -> Keypoints:
    schema = resolve_schema(cfg)
    keypoints = torch.zeros(len(instances), len(schema), 3)
    for i, (box, category) in enumerate(zip(instances.gt_boxes, instances.gt_classes.tolist(), strict=True)):
        first, end = schema.get_class_range(category)
        keypoints[i, first:end, :2] = box[:2] + torch.rand(end - first, 2) * (box[2:] - box[:2])
        keypoints[i, first:end, 2] = 2
    return Keypoints(keypoints)


@pytest.mark.parametrize("name", GRID_CONFIGS)
def test_the_points_are_those_of_the_name(name):
    count = int(name.removesuffix("pt.yaml").rpartition("_")[2])
    flags = load(name).MODEL.CENTERNET.GRID_POINTS
    assert flags == {1: [4], 3: [0, 4, 8], 9: list(range(9))}[count]


@pytest.mark.parametrize("name", [n for n in CONFIGS if n.partition("/")[0] in IMAGES])
def test_the_schedule_is_the_reference_number_of_epochs(name):
    solver = load(name).SOLVER
    images = next((n for part, n in PARTS.items() if part in name), IMAGES[name.partition("/")[0]])
    epochs = (70, [45, 60]) if name.startswith(("VOC", "KITTI")) else (140, [90, 120])
    if name.startswith("MOT") and "crowdhuman" not in name:
        epochs = (70, [60])
    if "HG_104" in name:
        epochs = (50, [40])
    if "ttfnet" in name:
        epochs = (12, [9, 11])
    a_whole_epoch = images // solver.IMS_PER_BATCH
    assert epochs[0] * a_whole_epoch == solver.MAX_ITER
    assert list(solver.STEPS) == [epoch * a_whole_epoch for epoch in epochs[1]]
    # Rate per image: 1.25e-4 for 32; the reference hourglass and 3D boxes, and TTFNet's, are the exceptions.
    per_image = solver.BASE_LR / solver.IMS_PER_BATCH
    exception = 2.5e-4 / 24 if "HG_104" in name else 1.25e-4 / 16 if name.startswith("KITTI") else None
    exception = 0.016 / 128 if "ttfnet" in name else exception
    assert per_image == pytest.approx(exception or 1.25e-4 / 32)


# Published COCO statistics of blue, green, red; the others are ImageNet's of red, green, blue, used in the wrong order.
STATISTICS = {
    "coco": ([0.40789654, 0.44719302, 0.47026115], [0.28863828, 0.27408164, 0.27809835]),
    "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
}


@pytest.mark.parametrize("name", PRETRAINED)
def test_reference_models_see_images_as_they_were_trained_to(name):
    cfg = load(pretrained(name))
    mean, std = STATISTICS["imagenet" if name.startswith(("ctdet_pascal", "ddd")) else "coco"]
    assert cfg.INPUT.FORMAT == "BGR"
    assert np.allclose(cfg.MODEL.PIXEL_MEAN, 255 * np.array(mean), atol=1e-3)
    assert np.allclose(cfg.MODEL.PIXEL_STD, 255 * np.array(std), atol=1e-3)
    assert cfg.MODEL.CENTERNET.PIXEL_CENTER == 0 and cfg.MODEL.CENTERNET.GAUSSIAN_RADIUS == "cornernet"
    # CenterTrack's are fitted in.
    keeps = name.startswith(("ctdet_coco", "exdet_coco", "multi_pose", "extremenet", "enhanced_coco"))
    assert cfg.INPUT.PAD_ALWAYS and ("keep" if keeps else "fixed") == cfg.INPUT.RESIZE_TEST
    assert name.startswith("ddd") == cfg.INPUT.FIT_WIDTH == (cfg.INPUT.SIZE_TEST == [384, 1280])
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        assert build_model(cfg).test_time_augmentation.pixel_center == 0
    assert f"[{name}](../configs/{pretrained(name)})" in (ROOT.parent / "docs" / "model_zoo.md").read_text()


@pytest.mark.parametrize(
    ("name", "per_epoch", "epochs", "steps"),
    [
        ("ctdet_coco_dla_2x", 118287 // 128, 230, [180, 210]),
        ("multi_pose_dla_3x", 64115 // 128, 320, [270, 300]),
        ("multi_pose_hg_3x", 64115 // 24, 150, [130]),
    ],
)
def test_longer_reference_schedules(name, per_epoch, epochs, steps):
    solver = load(pretrained(name)).SOLVER
    assert epochs * per_epoch == solver.MAX_ITER and list(solver.STEPS) == [step * per_epoch for step in steps]


def test_the_base_config_has_what_get_cfg_recommends():
    """For users who merge it into Detectron2's own config."""
    cfg = get_detectron2_cfg()
    add_centernet_config(cfg)
    cfg.merge_from_file(str(ROOT / "Base-CenterNet.yaml"))
    assert {key: get(cfg, key) for key in RECOMMENDED} == RECOMMENDED


def test_names_say_what_is_inside():
    for name in CONFIGS:
        cfg, parts = load(name), Path(name).stem.split("_")
        if "R" in parts:
            assert int(parts[parts.index("R") + 1]) == cfg.MODEL.RESNETS.DEPTH
            deformable = cfg.MODEL.NECK.CONV == "deformable" or any(cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE)
            assert ("DCN" in parts) == deformable
        if "DLA" in parts:
            assert "dla" in cfg.MODEL.BACKBONE.NAME
        if "darknet53" in parts:
            assert cfg.MODEL.BACKBONE.NAME == "build_darknet_backbone"
        if parts[-1] != "augmented" and {"mobilenet", "shufflenet"} & set(parts[1:2]):
            assert cfg.MODEL.BACKBONE.NAME == "build_torchvision_backbone"
            assert parts[1] in cfg.MODEL.TORCHVISION.NAME
        if "HG" in parts:
            assert cfg.MODEL.HOURGLASS.NUM_STACKS == 2 and "hourglass" in cfg.MODEL.BACKBONE.NAME
        for size in {"384", "512"} & set(parts):
            assert list(cfg.INPUT.SIZE_TRAIN) == list(cfg.INPUT.SIZE_TEST) == [int(size)] * 2


def test_a_config_says_only_what_its_base_does_not():
    for path in ROOT.rglob("*.yaml"):
        if path.name == "Base-CenterNet.yaml":
            continue
        content = CfgNode.load_cfg(path.open())
        bases = content.pop("_BASE_", [])
        base = centernet_d2.get_cfg()
        for name in [bases] if isinstance(bases, str) else bases:
            base.merge_from_file(str(path.parent / name))
        repeated = [key for key, value in flat(content) if get(base, key) == value]
        assert repeated == [], f"{path.name} repeats {repeated} of its base"


def flat(node: dict, prefix: str = "") -> list[tuple[str, object]]:
    pairs = []
    for key, value in node.items():
        pairs += flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
    return pairs


def get(cfg: CfgNode, key: str) -> object:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def test_no_path_of_a_machine():
    for path in ROOT.rglob("*.yaml"):
        assert not any(word in path.read_text() for word in ("/home", "/data", "/work", "/mnt", "C:\\"))
