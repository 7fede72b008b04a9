"""Costs of networks against closed forms, another counter, and files."""

from __future__ import annotations

import pytest
import torch
import torchvision
from fvcore.nn import FlopCountAnalysis
from torch import nn

from centernet_d2.analysis.model_cost import (
    count_flops,
    describe_times,
    measure_file_size,
    measure_latency,
    measure_model_cost,
)
from centernet_d2.layers.deform_conv import ModulatedDeformConv2d
from tests.helpers.tiny import tiny_model
from tests.modeling.meta_arch.test_centertrack import tracking_model


def test_operations_of_a_small_network():
    """Convolution of stride 2, grouped, transposed, and a deformable one with its offsets; normalization is free."""
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=4),
        ModulatedDeformConv2d(8, 5), nn.ConvTranspose2d(5, 6, 4, stride=2, padding=1),
    )  # fmt: skip
    cells = 8 * 10
    expected = cells * (9 * 3 * 8 + 9 * 2 * 8 + 9 * 8 * 27 + 9 * 8 * 5 + 16 * 5 * 6)
    assert count_flops(network.eval(), torch.zeros(1, 3, 16, 20)) == expected
    assert count_flops(network, torch.zeros(2, 3, 16, 20)) == 2 * expected


def test_the_operator_for_gpus_counts_the_same():
    images, offset, mask, weight = torch.zeros(2, 8, 6, 7), torch.zeros(2, 18, 6, 7), None, torch.zeros(5, 8, 3, 3)
    found = count_flops(lambda x: torchvision.ops.deform_conv2d(x, offset, weight, None, 1, 1, 1, mask), images)
    assert found == 2 * 6 * 7 * 9 * 8 * 5


def test_operations_of_a_classification_network():
    """ResNet-18 on 224x224 has 1.8 * 10^9 (He et al. 2016, table 1); fvcore traces and counts on its own."""
    network = torchvision.models.resnet18().eval()
    images = torch.zeros(1, 3, 224, 224)
    theirs = FlopCountAnalysis(network, images).uncalled_modules_warnings(False).unsupported_ops_warnings(False)
    kinds = theirs.by_operator()
    found = count_flops(network, images)
    assert found == kinds["conv"] + kinds["linear"]
    assert found == pytest.approx(1.8e9, rel=0.02)


def test_cost_of_a_model(tmp_path):
    model = tiny_model()
    cost = measure_model_cost(model, (64, 96))
    cells = 16 * 24
    heads = 3 * 9 * 32 * 16 + 16 * (3 + 2 + 2)
    assert cost.flops == cells * (16 * 3 * 16 + 9 * 16 * 32 + 9 * 32 * 32 + heads)
    biases_and_norm = 16 + 32 + 2 * 32 + 32 + 3 * 16 + 7
    assert cost.parameters == 16 * 3 * 16 + 9 * 16 * 32 + 9 * 32 * 32 + heads + biases_and_norm
    torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
    assert cost.size == pytest.approx((tmp_path / "model.pth").stat().st_size, abs=1024)
    assert cost.size > 4 * cost.parameters


def test_a_tracker_has_the_previous_frame_to_look_at():
    """Two more stems (the frame's, 7x7 and a residual block), and a head."""
    tracker = tracking_model()
    detector = tracking_model("MODEL.META_ARCHITECTURE", "CenterNet")
    images = torch.zeros(1, 7, 64, 64)
    extra = tracker.eval().previous_frame
    expected = count_flops(extra.image_stem, images[:, :3]) + count_flops(extra.heatmap_stem, images[:, :1])
    features = tracker.extract_features(images)
    expected += count_flops(tracker.task.heads["displacement"], features)
    assert measure_model_cost(tracker, (64, 64)).flops == measure_model_cost(detector, (64, 64)).flops + expected


def test_size_of_what_is_saved_twice():
    """Tensors that share their memory are written once."""
    x = torch.zeros(1000)
    assert measure_file_size([x, x]) < measure_file_size([x]) + 1000 < measure_file_size([x, x.clone()])


def test_times():
    model = tiny_model()
    sizes = []
    model.backbone.register_forward_hook(
        lambda module, inputs, _: sizes.append((tuple(inputs[0].shape), module.training))
    )
    times = measure_latency(model, (64, 64), threads=1, seconds=0.2)
    assert set(sizes) == {((1, 3, 64, 64), False)} and len(times) >= 1
    assert min(times) > 0 and sum(times) < 60_000
    assert describe_times([4.0, 1.0, 2.0, 3.0, 5.0]) == "3.0 [1.4-4.6]"
