"""EfficientNet-Lite against its published sizes, and against timm's where that is installed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from centernet_d2.modeling.backbone import EfficientNetLite


@pytest.mark.parametrize(("size", "millions"), [(0, 4.7), (1, 5.4), (2, 6.1), (3, 8.2), (4, 13.0)])
def test_number_of_parameters(size, millions):
    """Those of the authors' table (README of tpu/models/official/efficientnet/lite), which count the classifier: a 1x1
    convolution to 1280, its normalization, 1000 classes."""
    network = EfficientNetLite(size)
    last = network.output_shape()["stride32"].channels
    classifier = last * 1280 + 2 * 1280 + 1281 * 1000
    assert sum(p.numel() for p in network.parameters()) + classifier == pytest.approx(millions * 1e6, abs=0.06e6)


def test_maps_have_their_shapes():
    network = EfficientNetLite(2).eval()
    with torch.no_grad():
        maps = network(torch.zeros(1, 3, 96, 64))
    for name, shape in network.output_shape().items():
        assert maps[name].shape == (1, shape.channels, 96 // shape.stride, 64 // shape.stride)


@pytest.mark.parametrize("size", [0, 2])
def test_equal_to_timm(size):
    timm = pytest.importorskip("timm")
    theirs = timm.create_model(f"tf_efficientnet_lite{size}", features_only=True, out_indices=(1, 2, 3, 4)).eval()
    ours = EfficientNetLite(size).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        for a, b in zip(ours(images).values(), theirs(images), strict=True):
            torch.testing.assert_close(a, b)


def test_there_is_no_such_size():
    with pytest.raises(ValueError, match="SIZE must be 0 to 4, not 5"):
        EfficientNetLite(5)


def test_a_network_of_fewer_blocks_is_one_whose_last_blocks_add_nothing():
    whole, shorter = EfficientNetLite().eval(), EfficientNetLite(depths=(1, 2, 2, 3, 3, 3, 1)).eval()
    nn.init.zeros_(whole.blocks[5][3].bn3.weight)  # its bias and its mean are 0 already
    left = shorter.load_state_dict(whole.state_dict(), strict=False)
    assert not left.missing_keys and all(key.startswith("blocks.5.3.") for key in left.unexpected_keys)
    images = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        for a, b in zip(shorter(images).values(), whole(images).values(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("depths", [(1, 2, 2), (1, 2, 2, 3, 3, 0, 1)])
def test_depths_are_of_all_stages(depths):
    with pytest.raises(ValueError, match=r"DEPTHS must have .* each of the 7 stages, such as \[1, 2, 2, 3, 3, 4, 1\]"):
        EfficientNetLite(depths=depths)
