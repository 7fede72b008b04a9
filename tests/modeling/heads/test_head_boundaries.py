"""Heads at the boundaries of their conditions: occluded keypoints, radius 0, the padded score."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, Keypoints

from centernet_d2.data.schemas import SCHEMAS
from centernet_d2.modeling.heads import build_head
from centernet_d2.structures import Targets
from tests.helpers.keypoints import keypoint_cfg


def one_object(schema):
    """A large box with all keypoints visible at random positions."""
    instances = Instances((128, 128))
    instances.gt_boxes, instances.gt_classes = Boxes([[8.0, 8, 120, 120]]), torch.tensor([0])
    points = 8 + 112 * torch.rand(1, len(SCHEMAS[schema]), 2, generator=torch.Generator().manual_seed(3))
    instances.gt_keypoints = Keypoints(torch.nn.functional.pad(points, (0, 1), value=2.0))
    return instances


def encode_with_visibility(task, schema, visibility):
    """Every head's target of one object whose first keypoint has this visibility, the others 2."""
    instances = one_object(schema)
    instances.gt_keypoints.tensor[0, 0, 2] = visibility
    return task.encode(Targets.from_instances([instances], 4, (32, 32)))


def flatten(target):
    """All tensors of a head's target."""
    if isinstance(target, torch.Tensor):
        return [target.double()]
    if dataclasses.is_dataclass(target):
        target = [getattr(target, field.name) for field in dataclasses.fields(target)]
    return [x for part in target for x in flatten(part)] if isinstance(target, list | tuple) else []


def is_equal(one, other):
    pairs = list(zip(flatten(one), flatten(other), strict=True))
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    ("schema", "task", "heads"),
    [
        ("extreme4", "ExtremePointTask", ["top_heatmap", "top_offset"]),
        ("pose17", "KeypointRegressionTask", ["keypoint_heatmap", "keypoint_regression", "keypoint_offset"]),
        ("face68", "KeypointHeatmapTask", ["keypoint_heatmap"]),
    ],
)
def test_occluded_keypoints_are_learned_and_unlabeled_ones_are_not(schema, task, heads):
    """COCO: 0 is not labeled, 1 labeled but occluded, 2 visible."""
    options = ("MODEL.CENTERNET.NUM_CLASSES", 1) if schema == "extreme4" else ()
    model = build_model(keypoint_cfg(schema, task, *options)).task.train()
    visible, occluded, unlabeled = (encode_with_visibility(model, schema, value) for value in (2, 1, 0))
    for name in heads:
        assert is_equal(occluded[name], visible[name]), name
        assert not is_equal(unlabeled[name], visible[name]), name


@pytest.mark.parametrize("schema", ["pose17", "face68"])
def test_a_heatmap_radius_of_0_is_one_cell(schema):
    """However large the object; only a negative radius depends on its size."""
    cfg = keypoint_cfg(schema, "KeypointHeatmapTask", "MODEL.KEYPOINT.HEATMAP_RADIUS", 0)
    head = build_head("KeypointHeatmapHead", cfg, [32])
    maps = head.encode(Targets.from_instances([one_object(schema)], 4, (32, 32))).maps.to_dense()
    assert (maps.flatten(2) > 0).sum(dim=2).unique().tolist() == [1]


def test_a_displaced_center_has_score_1():
    cfg = keypoint_cfg("pose17", "KeypointRegressionTask")
    head = build_head("DisplacementHead", cfg, [32])
    output = torch.tensor([2.0, -1.5]).view(1, 2, 1, 1).expand(1, 2, 8, 8)
    points = head.decode(output, torch.zeros(1, 1, dtype=torch.int64), torch.tensor([[[3, 4]]]))
    assert points.tolist() == [[[[5.0, 2.5, 1.0]]]]


def test_boxes_are_16_pixels_large_before_training():
    """Sides of half a unit of 16 input pixels from the center of the cell (30, 42)."""
    cfg = keypoint_cfg("pose17", "KeypointRegressionTask", "MODEL.CENTERNET.BOX_ENCODING", "ltrb")
    head = build_head("BoxHead", cfg, [32])
    with torch.no_grad():
        output = head([torch.zeros(1, 32, 16, 8)])[-1]
        cells = torch.tensor([[[7, 10]]])
        boxes = head.decode_boxes(output, torch.zeros(1, 1, dtype=torch.int64), cells, cells)
    assert (4 * boxes).flatten().tolist() == pytest.approx([30 - 8, 42 - 8, 30 + 8, 42 + 8])


def test_images_without_objects_have_empty_heatmaps():
    """One class has maps for all images, several for images of the batch's classes."""
    cfg = keypoint_cfg("pose17", "KeypointHeatmapTask")
    head = build_head("KeypointHeatmapHead", cfg, [32])
    empty = Instances((128, 128), gt_boxes=Boxes(torch.zeros(0, 4)), gt_classes=torch.zeros(0, dtype=torch.int64))
    empty.gt_keypoints = Keypoints(torch.zeros(0, 17, 3))
    maps = head.encode(Targets.from_instances([empty, one_object("pose17")], 4, (32, 32))).maps.to_dense()
    assert maps.shape == (2, 17, 32, 32) and maps[0].max() == 0 and maps[1].flatten(1).amax(dim=1).min() == 1
