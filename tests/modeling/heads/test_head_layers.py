"""Settings, layers and maps that all heads share."""

from __future__ import annotations

import inspect
import math

import pytest
import torch
from torch import nn

from centernet_d2.modeling.heads import (
    HEAD_REGISTRY,
    Box3DDimensionsHead,
    BoxHead,
    BoxQualityHead,
    ClassHeatmapHead,
    DisplacementHead,
    KeypointOffsetHead,
    KeypointRegressionHead,
    PointOffsetHead,
    build_extra_heads,
    get_head_name,
)
from centernet_d2.modeling.heads.class_heatmap import average_probabilities
from centernet_d2.modeling.heads.sparse import average_per_object
from tests.helpers.head_batch import SHARED, defer
from tests.helpers.keypoints import keypoint_cfg


def test_defaults_are_those_of_the_config():
    cfg, seen = keypoint_cfg("pose17", "KeypointRegressionTask"), 0
    for _, head in HEAD_REGISTRY:
        given = head.from_config(cfg, [3])
        parameters = inspect.signature(head.__init__).parameters
        own = {name: x.default for name, x in parameters.items() if x.default is not x.empty and name in given}
        if head in (BoxHead, BoxQualityHead):
            own.pop("encoding", None)  # of BoxHead it is "ltrb"
        assert own == {name: given[name] for name in own}, head
        seen += len(own)
    assert seen >= 14


def test_names_of_extra_heads():
    assert [get_head_name(x) for x in ("DisplacementHead", "Box3DDepthHead", "Head2Head")] == [
        *("displacement", "box3_ddepth", "head2")
    ]
    cfg = keypoint_cfg("pose17", "KeypointRegressionTask", "MODEL.CENTERNET.EXTRA_HEADS", ["DisplacementHead"])
    (name, head), *_ = build_extra_heads(cfg, [3]).items()
    assert name == "displacement" and isinstance(head, DisplacementHead)


@pytest.mark.parametrize("kind", [PointOffsetHead, KeypointOffsetHead, ClassHeatmapHead])
def test_layers_before_training(kind):
    """3x3 and 1x1 convolutions of each stack, zero biases but for the prior of heatmaps, small weights of others."""
    torch.manual_seed(0)
    own = {"num_classes": 40} if kind is ClassHeatmapHead else {}
    own |= (
        {"flip_indices": range(20), "shared": False, "radius": 0}
        if kind is KeypointOffsetHead
        else {"point_flags": range(9)}
    )
    head = kind(in_channels=[3, 5], head_channels=16, loss_weight=1.0, **own)
    for layers, width in zip(head.layers, (3, 5), strict=True):
        first, relu, last = layers
        assert first.weight.shape == (16, width, 3, 3) and not first.bias.any() and isinstance(relu, nn.ReLU)
        assert last.weight.shape == (head.out_channels, 16, 1, 1)
        if kind is ClassHeatmapHead:
            assert last.bias.unique().tolist() == pytest.approx([math.log(0.1 / 0.9)], abs=0.01)
            assert last.weight.std() > 0.1
        else:
            assert not last.bias.any() and last.weight.std().item() == pytest.approx(0.001, rel=0.2)
    (alone,) = kind(in_channels=[7], head_channels=0, loss_weight=1.0, **own).layers
    assert len(alone) == 1 and alone[0].weight.shape == (head.out_channels, 7, 1, 1)
    maps = [torch.rand(2, width, 4, 6) for width in (3, 5)]
    both, last = head.eval()(maps), head([maps[1]])
    assert [x.shape for x in both] == [(2, head.out_channels, 4, 6)] * 2 and len(last) == 1
    assert torch.equal(last[0], both[1])
    if kind is KeypointOffsetHead:
        (deferred,) = head.train()([maps[1]])
        torch.testing.assert_close(deferred.to_dense(), both[1])


def test_deferred_maps_are_read_as_dense_ones():
    head = KeypointRegressionHead(flip_indices=range(3), **SHARED)
    deferred, dense = defer(head)
    image, cells = torch.tensor([1, 0, 1]), torch.tensor([[11, 7], [0, 3], [4, 0]])
    expected = torch.stack([dense[n, :, y, x] for n, (x, y) in zip(image.tolist(), cells.tolist(), strict=True)])
    torch.testing.assert_close(deferred.read(image, cells), expected)
    channels, around = torch.tensor([[0, 1], [4, 5], [2, 3]]), torch.stack([cells, cells.flip(0)], dim=1)
    read = deferred.read_channels(image, around, channels)
    for e, s in [(e, s) for e in range(3) for s in range(2)]:
        x, y = around[e, s].tolist()
        torch.testing.assert_close(read[e, s], dense[image[e], channels[e], y, x])
    maps = deferred.select_maps(image, channels)
    torch.testing.assert_close(maps, torch.stack([dense[n, c] for n, c in zip(image, channels, strict=True)]))
    torch.testing.assert_close(deferred.to_dense(), dense)


def test_errors_are_averaged_over_each_object():
    found = average_per_object(torch.tensor([3.0, 1.0, 5.0, 2.0, 6.0]), torch.tensor([1, 0, 3, 3, 3]), 5)
    torch.testing.assert_close(found, torch.tensor([1.0, 3.0, 0.0, 13 / 3, 0.0]))


def test_flipped_maps_are_added_and_halved():
    maps = torch.rand(2, 3, 2, 4)
    torch.testing.assert_close(Box3DDimensionsHead(**SHARED).merge_flipped(maps, 3 * maps.flip(-1)), 2 * maps)


def test_means_of_probabilities():
    a, b = torch.tensor([0.2, 0.9, 0.0, 1.0]).logit(), torch.tensor([0.6, 0.9, 0.0, 1.0]).logit()
    torch.testing.assert_close(average_probabilities(a, b)[:2].sigmoid(), torch.tensor([0.4, 0.9]))
    assert average_probabilities(a, b)[2:].abs().tolist() == pytest.approx([-math.log(1e-7)] * 2, rel=0.02)
