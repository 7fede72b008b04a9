"""LSNet's targets, written as the maps of a perfect network, decode to the objects that they came from."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, Keypoints

import centernet_d2.data.schemas  # noqa: F401  # registers pose17
from centernet_d2.config import get_cfg
from centernet_d2.modeling.tasks.lsnet_box import compute_middle_points
from centernet_d2.structures import Candidates, Targets

SIZE = (256, 320)
#: One object for each level and image, from 24 to 250 pixels.
BOXES = [
    torch.tensor([[10.0, 20, 34, 50], [60.0, 40, 150, 120], [100.0, 30, 310, 250]]),
    torch.tensor([[200.5, 100.25, 260, 180], [3.0, 2, 300, 254]]),
]


def build(config, *options):
    cfg = get_cfg()
    cfg.merge_from_file(f"configs/Synthetic-LSNet/{config}.yaml")
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ()
    cfg.MODEL.DEVICE, cfg.MODEL.CENTERNET.NUM_CLASSES = "cpu", 2
    cfg.MODEL.NECK.NUM_LEVELS = 3 if config == "centernet_rt" else 4
    cfg.MODEL.KEYPOINT.SCHEMA = "pose17"
    cfg.merge_from_list(["TEST.AUG.ENABLED", True, "TEST.AUG.FLIP", True, *options])
    torch.manual_seed(0)
    return build_model(cfg).eval()


def draw_objects(count):
    """Instances with boxes, extreme points, contours and keypoints of their boxes."""
    generator = torch.Generator().manual_seed(0)
    result = []
    for boxes in BOXES:
        low, sides = boxes[:, None, :2], boxes[:, None, 2:] - boxes[:, None, :2]
        instances = Instances(SIZE)
        instances.gt_boxes = Boxes(boxes)
        instances.gt_classes = torch.arange(len(boxes)) % 2 if count != 17 else torch.zeros(len(boxes)).long()
        extremes = compute_middle_points(boxes)
        along = torch.rand(len(boxes), 4, 2, generator=generator)
        inside = low + along * sides
        extremes[:, [0, 2], 0], extremes[:, [1, 3], 1] = inside[:, [0, 2], 0], inside[:, [1, 3], 1]
        angle = -torch.arange(36) * 2 * torch.pi / 36 - torch.pi / 2
        circle = torch.stack([angle.cos(), angle.sin()], dim=-1) / 2 + 0.5
        joints = torch.rand(len(boxes), 17, 2, generator=generator)
        for name, points in (
            ("extreme_points", extremes),
            ("contour", low + circle * sides),
            ("keypoints", low + joints * sides),
        ):
            visible = torch.full((*points.shape[:2], 1), 2.0)
            if name == "keypoints":
                visible[:, ::5] = 0
            instances.set(f"gt_{name}", Keypoints(torch.cat([points, visible], dim=2)))
        result.append(instances)
    return result


CASES = {
    "lsnet_box": "extreme_points",
    "lsnet_contour": "contour",
    "lsnet_pose": "keypoints",
    "lsnet_pose_kbox": "keypoints",
}


@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("config", CASES)
def test_objects_come_back(config, flipped, offset):
    field = CASES[config]
    model = build(config, "MODEL.LSNET.POINT_OFFSET", offset)
    instances = draw_objects(17 if "pose" in config else 2)
    objects = Targets.from_instances(instances, 1, SIZE)
    maps = model.task.encode_dense(flip(objects, field) if flipped else objects)
    candidates = model.task.decode(maps)
    if flipped:
        scale, shift = torch.tensor([[-1.0, 1.0]]).repeat(2, 1), torch.tensor([[float(SIZE[1]), 0.0]]).repeat(2, 1)
        candidates = model.task.unflip_candidates(candidates.transform(scale, shift))
    merged = model.task.merge(candidates, 20)
    results = merged.to_instances([SIZE, SIZE], 0.5)
    levels = set()
    for result, expected in zip(results, instances, strict=True):
        result = model.task.finish(result, {})
        assert len(result) == len(expected)
        points = expected.get(f"gt_{field}").tensor
        for i, box in enumerate(result.pred_boxes.tensor):
            label = visible_box(points[:, :, :]) if config == "lsnet_pose_kbox" else expected.gt_boxes.tensor
            k = int((label - box).abs().sum(dim=1).argmin())
            if config == "lsnet_pose_kbox":
                # The predicted box is that of all keypoints, also of those without a label.
                box = result.pred_keypoints[i][points[k, :, 2] > 0][:, :2]
                box = torch.cat([box.amin(dim=0), box.amax(dim=0)])
            torch.testing.assert_close(box, label[k], atol=1e-3, rtol=0)
            assert result.pred_classes[i] == expected.gt_classes[k]
            found = result.get(f"pred_{field}")[i]
            seen = points[k, :, 2] > 0
            torch.testing.assert_close(found[seen, :2], points[k, seen, :2], atol=1e-3, rtol=0)
            assert (found[:, 2] > 0.99).all()  # both stages agree
            levels.add(int((label[k, 2:] - label[k, :2]).prod().sqrt() // 64))
    assert len(levels) >= 3  # objects of several levels


def visible_box(points):
    """The boxes of the labeled keypoints."""
    seen = points[..., 2:] > 0
    low = points[..., :2].where(seen, 1e6).amin(dim=1)
    return torch.cat([low, points[..., :2].where(seen, -1e6).amax(dim=1)], dim=1)


def flip(objects, field):
    """Objects of the flipped images, in the order that the task expects."""
    width = float(SIZE[1])
    x1, y1, x2, y2 = objects.boxes.unbind(1)
    points = objects.fields[field].clone()
    points[..., 0] = width - points[..., 0]
    order = {
        "extreme_points": [0, 3, 2, 1],
        "contour": [0, *range(35, 0, -1)],
        "keypoints": [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15],
    }[field]
    objects.boxes = torch.stack([width - x2, y1, width - x1, y2], dim=1)
    objects.fields[field] = points[:, order]
    return objects


def test_views_vote(monkeypatch):
    """The image and its flipped copy as two passes, both of a perfect network."""
    model = build("lsnet_box")
    instances = draw_objects(2)
    objects = Targets.from_instances(instances, 1, SIZE)
    passes = [model.task.decode(model.task.encode_dense(objects))] * 2
    candidates = Candidates.cat(passes)
    assert candidates.num_passes == 2
    results = model.task.merge(candidates, 20).to_instances([SIZE, SIZE], 0.5)
    for result, expected in zip(results, instances, strict=True):
        assert len(result) == len(expected)
        order = result.pred_boxes.tensor[:, 0].argsort(), expected.gt_boxes.tensor[:, 0].argsort()
        torch.testing.assert_close(
            result.pred_boxes.tensor[order[0]], expected.gt_boxes.tensor[order[1]], atol=1e-3, rtol=0
        )


def test_a_mask_is_the_polygon_at_the_size_of_the_output():
    model = build("lsnet_contour")
    instances = draw_objects(2)
    objects = Targets.from_instances(instances, 1, SIZE)
    merged = model.task.merge(model.task.decode(model.task.encode_dense(objects)), 20)
    result = model.task.finish(merged.to_instances([SIZE, SIZE], 0.5)[1], {})
    scaled = model.rescale_to_original(result, {"height": 512, "width": 640})
    assert scaled.pred_masks.shape == (2, 512, 640)
    for mask, box in zip(scaled.pred_masks, scaled.pred_boxes.tensor, strict=True):
        width, height = (box[2:] - box[:2]).tolist()
        # The area of a regular polygon of 36 points in an ellipse.
        area = width * height / 4 * 18 * torch.sin(torch.tensor(2 * torch.pi / 36)).item()
        assert mask.sum().item() == pytest.approx(area, rel=0.01)
