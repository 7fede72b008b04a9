"""BoxQualityHead: the IoU that it learns, and what it does to the order of candidates."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from detectron2.structures import Boxes, Instances

from centernet_d2.modeling.heads import BoxHead, BoxQualityHead, ClassHeatmapHead
from centernet_d2.modeling.tasks import DetectionTask
from centernet_d2.structures import Targets

SHARED = {"in_channels": [4], "head_channels": 0, "loss_weight": 1.0}
# Input pixels; the center of the first is that of the cell (10, 5).
BOXES = [[26.0, 14.0, 58.0, 30.0], [90.0, 60.0, 110.0, 100.0]]


def make_objects() -> Targets:
    instances = Instances((128, 128), gt_boxes=Boxes(BOXES), gt_classes=torch.tensor([0, 1]))
    return Targets.from_instances([instances], 4, (32, 32))


@pytest.mark.parametrize("flags", [(4,), (0, 2, 4)])
def test_round_trip_and_flip(flags):
    head = BoxQualityHead(point_flags=flags, sampling="peak", **SHARED)
    heatmap = ClassHeatmapHead(num_classes=2, point_flags=flags, **SHARED)
    task = DetectionTask(heads={"heatmap": heatmap, "box_size": head}, merge="vote")
    objects = make_objects()
    maps = task.encode_dense(objects)
    found = task.merge(task.decode(maps), 2)
    wanted = {tuple(x.tolist()) for x in torch.tensor(BOXES) / 4}
    assert {tuple(x.round(decimals=3).tolist()) for x in found.boxes[0]} == wanted
    assert found.scores.min() > 0.99
    plain = BoxHead(point_flags=flags, sampling="peak", **SHARED)
    sides = [maps["box_size"].unflatten(1, (len(flags), 5))[:, :, i] for i in range(5)]
    without = torch.stack(sides[:4], dim=2).flatten(1, 2)
    flipped = head.unflip(maps["box_size"]).unflatten(1, (len(flags), 5))
    torch.testing.assert_close(flipped[:, :, :4].flatten(1, 2), plain.unflip(without))
    assert torch.equal(head.unflip(head.unflip(maps["box_size"])), maps["box_size"])


def test_the_loss_is_the_cross_entropy_of_the_iou():
    """The box is half as wide as the first object at one end, so that its IoU is 1/2; the second is found exactly."""
    head = BoxQualityHead(point_flags=[4], sampling="peak", box_loss="iou", quality_weight=0.3, **SHARED)
    objects = make_objects()
    output = head.encode_dense(objects)
    (x, y), unit = (10, 5), 16 / 4
    left, top, right, bottom = (16 / 4 / unit, 8 / 4 / unit, 0.0, 8 / 4 / unit)
    output[0, :4, y, x] = torch.tensor([left, top, right, bottom])
    output[0, 4] = 0.7
    output.requires_grad_(True)
    loss = head.loss(output, head.encode(objects), torch.tensor(2.0))
    logit = torch.tensor(0.7)
    errors = [F.binary_cross_entropy_with_logits(logit, torch.tensor(iou)) for iou in (_compute_iou(x, y), 1.0)]
    expected = (1 - _compute_iou(x, y)) / 2 + 0.3 * (errors[0] + errors[1]) / 2
    torch.testing.assert_close(loss.detach(), torch.as_tensor(expected), rtol=1e-4, atol=1e-5)
    loss.backward()
    assert output.grad[0, 4].count_nonzero() == 2, "quality is learned where boxes are"


def _compute_iou(x: int, y: int) -> float:
    """Of the first object and the box from 4 cells left of the cell's center, 2 above, to it and 2 below; cells."""
    center = x + 0.5, y + 0.5
    box = (center[0] - 4, center[1] - 2, center[0], center[1] + 2)
    left, top, right, bottom = (side / 4 for side in BOXES[0])
    width, height = min(box[2], right) - max(box[0], left), min(box[3], bottom) - max(box[1], top)
    return width * height / (16 + 32 - width * height)


def test_of_two_peaks_the_better_box_comes_first():
    heatmap = ClassHeatmapHead(num_classes=1, point_flags=[4], **SHARED)
    scores = {}
    for power in (0.0, 0.5, 1.0):
        head = BoxQualityHead(point_flags=[4], quality_power=power, **SHARED)
        task = DetectionTask(heads={"heatmap": heatmap, "box_size": head})
        logits, sides = torch.full((1, 1, 16, 16), -9.0), torch.ones(1, 5, 16, 16)
        logits[0, 0, 4, 4], logits[0, 0, 10, 10] = torch.tensor([0.6, 0.5]).logit()
        sides[0, 4, 4, 4], sides[0, 4, 10, 10] = torch.tensor([0.4, 0.9]).logit()
        scores[power] = task.decode({"heatmap": logits, "box_size": sides}).scores[0, :2]
    torch.testing.assert_close(scores[0.0], torch.tensor([0.6, 0.5]))
    torch.testing.assert_close(scores[0.5], torch.tensor([0.24, 0.45]).sqrt())
    torch.testing.assert_close(scores[1.0], torch.tensor([0.4, 0.9]))


def test_a_power_above_1_is_refused():
    with pytest.raises(ValueError, match=r"BOX_QUALITY_POWER must be in 0\.\.1"):
        BoxQualityHead(point_flags=[4], quality_power=1.5, **SHARED)
