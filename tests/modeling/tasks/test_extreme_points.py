"""Extreme points: what is rendered comes back, also flipped and through the predictor, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, Keypoints
from torch import Tensor

from centernet_d2.data.schemas import EXTREME4
from centernet_d2.structures import Targets
from tests.engine.predictor.test_keypoint_predictor import HEIGHT, WIDTH, perfect_network
from tests.helpers.keypoints import sample
from tests.helpers.tiny import tiny_cfg

AGNOSTIC = ("MODEL.EXTREME.CLASS_AGNOSTIC", True)
PLAIN = ("MODEL.EXTREME.EDGE_AGGREGATION", 0.0)
SETTINGS = [(), AGNOSTIC, PLAIN]
# Where one object's points and another's have the center of a third, nobody can tell: not so here.
LAYOUTS = {
    "apart": [[10, 12, 60, 70], [70, 30, 120, 121]],
    "overlapping": [[10, 10, 90, 97], [42, 22, 121, 113]],
    "inside": [[4, 3, 125, 118], [80, 70, 107, 105]],
    "at the border": [[0, 0, 50, 60], [80, 70, 128, 128]],
    "tiny": [[10, 10, 15, 14], [60, 60, 63, 67]],
}


def extreme_cfg(*opts):
    return tiny_cfg(
        *("MODEL.CENTERNET.TASK", "ExtremePointTask", "MODEL.KEYPOINT.SCHEMA", "extreme4"),
        *("DATASETS.TRAIN", (), "DATASETS.TEST", (), *opts),
    )


def extremes(boxes, classes, size=(128, 128), seed=0) -> Instances:
    """Extreme points at random positions on the sides of ``boxes`` (input pixels)."""
    instances = Instances(size)
    boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    low, sides = boxes[:, None, :2], (boxes[:, 2:] - boxes[:, :2])[:, None]
    fraction = 0.15 + 0.7 * torch.rand(len(boxes), 4, 2, generator=torch.Generator().manual_seed(seed))
    fraction[:, [0, 2], 1] = torch.tensor([0.0, 1.0])
    fraction[:, [1, 3], 0] = torch.tensor([0.0, 1.0])
    instances.gt_boxes = Boxes(boxes)
    instances.gt_classes = torch.as_tensor(classes, dtype=torch.int64).reshape(-1)
    points = low + fraction * sides
    instances.gt_keypoints = Keypoints(torch.cat([points, torch.full_like(points[..., :1], 2)], dim=-1))
    return instances


def flipped(instances: Instances) -> Instances:
    width = instances.image_size[1]
    result = instances[:]
    boxes = instances.gt_boxes.tensor.clone()
    boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    result.gt_boxes = Boxes(boxes)
    points = instances.gt_keypoints.tensor[:, [0, 3, 2, 1]].clone()
    points[..., 0] = width - points[..., 0]
    result.gt_keypoints = Keypoints(points)
    return result


def task_of(*opts):
    torch.manual_seed(0)
    return build_model(extreme_cfg(*opts)).task.eval()


def targets_of(*instances: Instances) -> Targets:
    height, width = instances[0].image_size
    return Targets.from_instances(list(instances), 4, (height // 4, width // 4))


def assert_predictions(boxes: Tensor, classes: Tensor, keypoints: Tensor, gt: Instances) -> None:
    distance = (keypoints[:, None, :, :2] - gt.gt_keypoints.tensor[None, ..., :2]).abs().amax(dim=(2, 3))
    order = distance.argmin(dim=0)
    assert distance.min(dim=0).values.max() < 0.01 and len(set(order.tolist())) == len(gt)
    assert (boxes[order] - gt.gt_boxes.tensor).abs().max() < 0.01
    assert torch.equal(classes[order], gt.gt_classes)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("opts", SETTINGS)
def test_what_is_rendered_comes_back(opts, layout, seed):
    gt = extremes(LAYOUTS[layout], [0, 2], seed=seed)
    task = task_of(*opts)
    candidates = task.decode(task.encode_dense(targets_of(gt, gt[:1])))
    result = task.merge(candidates.transform(torch.full((2, 2), 4.0), torch.zeros(2, 2)), 2)
    assert (result.scores[0] > 0.9).all()
    assert_predictions(result.boxes[0], result.classes[0], result.points["keypoints"][0], gt)
    assert_predictions(result.boxes[1, :1], result.classes[1, :1], result.points["keypoints"][1, :1], gt[:1])


def test_the_center_is_where_the_points_say_not_their_cells():
    """A small object whose points lie late in their cells: published, its center is sought in the cell before."""
    gt = extremes([[7.6, 7.6, 19.6, 19.6]], [1])  # cells 1.9 to 4.9, their center 3.4, that of the cells 2
    task, published = task_of(), task_of("MODEL.EXTREME.CENTER_LOOKUP", "cells")
    maps = task.encode_dense(targets_of(gt))
    spread = torch.full_like(maps["center_heatmap"], -16.0)
    spread[0, 1, 3, 3] = 16.0
    for maps["center_heatmap"], predictions in (
        (spread, [True, False]),
        (spread.roll((-1, -1), (2, 3)), [False, True]),
    ):
        assert [bool((t.decode(maps).scores > 0.9).any()) for t in (task, published)] == predictions


@pytest.mark.parametrize("opts", SETTINGS)
def test_a_flipped_image_adds_its_objects_right_way_round(opts):
    gt = extremes(LAYOUTS["apart"], [0, 2])
    task = task_of(*opts)
    predictions = task.decode(task.encode_dense(targets_of(flipped(gt))))
    back = predictions.transform(torch.tensor([[-4.0, 4.0]]), torch.tensor([[128.0, 0.0]]))
    result = task.merge(back, 2)
    assert_predictions(result.boxes[0], result.classes[0], result.points["keypoints"][0], gt)


@pytest.mark.parametrize("resize", ["fixed", "keep"])
@pytest.mark.parametrize("flip", [False, True])
def test_points_boxes_and_octagons_in_pixels_of_the_image(flip, resize):
    cfg = extreme_cfg("INPUT.SIZE_TEST", [128, 192], "INPUT.RESIZE_TEST", resize, "MODEL.MASK_ON", True)
    cfg.TEST.AUG.ENABLED = flip
    cfg.TEST.DETECTIONS_PER_IMAGE = 2
    gt = extremes([[12, 8, 110, 120], [120, 20, 229, 149]], [2, 0], (HEIGHT, WIDTH))
    predictor = DefaultPredictor(cfg)
    calls = perfect_network(predictor.model, gt, EXTREME4)
    predictions = predictor(np.zeros((HEIGHT, WIDTH, 3), np.uint8))["instances"]
    assert len(calls) == 1 + flip and len(predictions) == 2
    assert_predictions(predictions.pred_boxes.tensor, predictions.pred_classes, predictions.pred_keypoints, gt)
    assert (predictions.pred_keypoints[..., 2] > 0.9).all()
    assert predictions.pred_masks.shape == (2, HEIGHT, WIDTH) and predictions.pred_masks.dtype == torch.bool
    for mask, box in zip(predictions.pred_masks, predictions.pred_boxes.tensor, strict=True):
        ys, xs = mask.nonzero().unbind(1)
        assert (torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) - box).abs().max() < 1.5
        assert 0.6 < mask.sum() / (box[2:] - box[:2]).prod() < 0.95  # a box less its corners


def test_no_objects_no_masks():
    model = build_model(extreme_cfg("MODEL.MASK_ON", True, "MODEL.EXTREME.POINT_THRESH", 0.99)).eval()
    (result,) = model([{"image": torch.zeros(3, 40, 60, dtype=torch.uint8)}])
    assert len(result["instances"]) == 0 and result["instances"].pred_masks.shape == (0, 40, 60)


@pytest.mark.parametrize("side", range(4))
def test_points_without_label_are_not_learned(side):
    """Neither their heatmap nor their place; the other sides and the center are."""
    whole, partly = (extremes([[10, 12, 60, 70]], [1]) for _ in range(2))
    partly.gt_keypoints.tensor[0, side] = torch.tensor([-1e6, 1e6, 0.0])
    task = task_of()
    target, fewer = task.encode(targets_of(whole)), task.encode(targets_of(partly))
    for index, name in enumerate(EXTREME4.names):
        select_supervised = index != side
        assert len(fewer[f"{name}_heatmap"].index) == (len(target[f"{name}_heatmap"].index) if select_supervised else 0)
        assert len(fewer[f"{name}_offset"][1]) == int(select_supervised)
    assert torch.equal(fewer["center_heatmap"].to_dense(), target["center_heatmap"].to_dense())


def test_targets_are_the_reference_ones():
    """A peak of 1 in the cell of each point, the radius from the box, offsets from the cells' corners."""
    gt = extremes([[10, 12, 60, 70]], [1])
    targets = task_of().encode(targets_of(gt))
    for side, name in enumerate(EXTREME4.names):
        x, y = (gt.gt_keypoints.tensor[0, side, :2] / 4).tolist()
        maps = targets[f"{name}_heatmap"].to_dense()
        assert (maps == 1).nonzero().tolist() == [[0, 1, int(y), int(x)]]
        columns = maps[0, 1].amax(dim=0) > 0
        # 12.5 x 14.5 cells, rounded up: radius 3 of CornerNet's published formula.
        assert columns.nonzero()[:, 0].tolist() == [c for c in range(int(x) - 3, int(x) + 4) if 0 <= c < 32]
        image, cells, values = targets[f"{name}_offset"]
        assert (image.item(), cells.tolist()) == (0, [[[int(x), int(y)]]])
        assert values.flatten().tolist() == pytest.approx([x % 1, y % 1], abs=1e-5)


@pytest.mark.parametrize("opts", [(), AGNOSTIC])
def test_without_objects_every_parameter_gets_a_gradient(opts):
    model = build_model(extreme_cfg(*opts)).train()
    losses = model([sample(extremes([], []))])
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_channels_are_those_of_the_reference_networks():
    channels = {name: head.out_channels for name, head in task_of().items()}
    sides = [f"{side}_heatmap" for side in EXTREME4.names]
    assert [channels[name] for name in sides] == [3] * 4 and channels["center_heatmap"] == 3
    assert all(channels[f"{side}_offset"] == 2 for side in EXTREME4.names) and len(channels) == 9
    assert {task_of(*AGNOSTIC).heads[name].out_channels for name in sides} == {1}


def test_batch_equals_singles():
    torch.manual_seed(0)
    model = build_model(extreme_cfg("MODEL.EXTREME.POINT_THRESH", 0.05, "MODEL.EXTREME.CENTER_THRESH", 0.05)).eval()
    for name, head in model.task.items():
        torch.nn.init.normal_(head.layers[0][-1].weight, std=0.5 if name.endswith("heatmap") else 0.05)
    generator = torch.Generator().manual_seed(1)
    images = [{"image": torch.randint(0, 256, (3, h, 80), generator=generator, dtype=torch.uint8)} for h in (64, 90)]
    together = [x["instances"] for x in model(images)]
    for result, image in zip(together, images, strict=True):
        alone = model([image])[0]["instances"]
        assert len(alone) == len(result) > 5
        assert torch.allclose(result.scores, alone.scores, atol=1e-6)
        assert torch.allclose(result.pred_keypoints, alone.pred_keypoints, atol=1e-3)


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (("INPUT.AFFINE.ROTATION_PROB", 0.5), "ROTATION_PROB must be 0, not 0.5"),
        (("MODEL.EXTREME.CENTER_LOOKUP", "box"), "CENTER_LOOKUP must be one of"),
        (("MODEL.EXTREME.POINT_THRESH", 0.0), "thresholds above 0"),
        (("MODEL.EXTREME.TOPK", 0), "needs a TOPK"),
        (("MODEL.EXTREME.EDGE_AGGREGATION", -0.1), "AGGREGATION of at least 0"),
        (("MODEL.CENTERNET.GRID_POINTS", [0, 4]), "GRID_POINTS"),
        (("MODEL.KEYPOINT.SCHEMA", "face68"), "needs the keypoints top, left, bottom, right; the datasets have face68"),
        (
            ("DATASETS.TRAIN", ("synthetic_shapes_train",), "MODEL.CENTERNET.NUM_CLASSES", 6),
            "synthetic_shapes_train has no keypoint schema",
        ),
    ],
)
def test_a_wrong_configuration_gets_a_sentence(opts, message):
    with pytest.raises(ValueError, match=message):
        build_model(extreme_cfg(*opts))
