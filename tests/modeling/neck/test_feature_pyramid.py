"""The feature pyramid with LSNet's coarser levels, and deformable stages of ResNets."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchvision
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from detectron2.modeling.backbone.resnet import build_resnet_backbone

from centernet_d2.config import get_cfg
from centernet_d2.layers.deform_conv import ModulatedDeformConv2d
from centernet_d2.modeling.neck import FeaturePyramidNeck

SHAPES = {
    "res3": ShapeSpec(channels=8, stride=8),
    "res4": ShapeSpec(channels=16, stride=16),
    "res5": ShapeSpec(channels=24, stride=32),
}


def draw_maps(height, width):
    torch.manual_seed(0)
    return {name: torch.randn(2, s.channels, height // s.stride, width // s.stride) for name, s in SHAPES.items()}


def test_every_level_against_plain_operations():
    torch.manual_seed(1)
    neck = FeaturePyramidNeck(input_shape=SHAPES, channels=32)
    maps = draw_maps(96, 160)
    results = neck(maps)
    modules = dict(neck.pyramid.named_modules())

    def conv(x, layer, stride=1):
        norm = layer.norm
        assert layer.bias is None
        out = F.conv2d(x, layer.weight, stride=stride, padding=layer.weight.shape[-1] // 2)
        return F.group_norm(out, 32, norm.weight, norm.bias, norm.eps)

    inner = {5: conv(maps["res5"], modules["fpn_lateral5"])}
    for level in (4, 3):
        up = F.interpolate(inner[level + 1], scale_factor=2, mode="nearest")
        inner[level] = conv(maps[f"res{level}"], modules[f"fpn_lateral{level}"]) + up
    expected = {f"p{level}": conv(inner[level], modules[f"fpn_output{level}"]) for level in (3, 4, 5)}
    # P6 is made of the backbone's map, and there is no ReLU before P7.
    expected["p6"] = conv(maps["res5"], modules["top_block.layers.0"], stride=2)
    expected["p7"] = conv(expected["p6"], modules["top_block.layers.1"], stride=2)
    assert list(results) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(results[name], value)
    assert [s.stride for s in neck.output_shape().values()] == [8, 16, 32, 64, 128]
    assert [tuple(x.shape[-2:]) for x in results.values()] == [(12, 20), (6, 10), (3, 5), (2, 3), (1, 2)]
    assert neck.size_divisibility == 32


def test_three_levels_and_no_finer_ones():
    shapes = {"res2": ShapeSpec(channels=4, stride=4), **SHAPES}
    neck = FeaturePyramidNeck(input_shape=shapes, channels=32, num_levels=3)
    assert list(neck(draw_maps(64, 64))) == ["p3", "p4", "p5"]
    with pytest.raises(ValueError, match="NUM_LEVELS is 2, but the backbone has 3 levels"):
        FeaturePyramidNeck(input_shape=SHAPES, channels=32, num_levels=2)


@pytest.mark.parametrize(("finest", "names"), [(8, ["p3", "p4", "p5"]), (16, ["p4", "p5", "p6"])])
def test_of_one_fine_map_all_levels_are_strided_convolutions(finest, names):
    torch.manual_seed(2)
    shapes = {"fine": ShapeSpec(channels=4, stride=4)}
    neck = FeaturePyramidNeck(input_shape=shapes, channels=8, num_levels=3, norm="", finest_stride=finest)
    x = torch.randn(2, 4, 32, 48)
    results = neck({"fine": x})
    expected = {}
    for level, layer in enumerate(neck.pyramid.levels.layers, start=3):
        x = expected[f"p{level}"] = F.conv2d(x, layer.weight, layer.bias, stride=2, padding=1)
    assert list(results) == list(neck.output_shape()) == names
    for name, value in results.items():
        torch.testing.assert_close(value, expected[name])
        assert neck.output_shape()[name].stride == 128 // value.shape[2] and value.shape[1] == 8
    assert neck.size_divisibility == 4 * finest


def resnet_config(**settings):
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_deformable_resnet_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    for name, value in settings.items():
        cfg.MODEL.RESNETS[name] = value
    return cfg


@pytest.mark.parametrize("groups", [1, 32])
def test_deformable_stages_start_from_the_weights_of_plain_ones(groups):
    settings = {"NUM_GROUPS": groups, "WIDTH_PER_GROUP": 64 if groups == 1 else 4}
    cfg = resnet_config(DEFORM_ON_PER_STAGE=[False, True, True, True], DEFORM_MODULATED=True, **settings)
    torch.manual_seed(0)
    backbone = build_backbone(cfg)
    layers = [name for name, x in backbone.named_modules() if isinstance(x, ModulatedDeformConv2d)]
    assert len(layers) == 4 + 6 + 3
    assert all(name.startswith(("res3", "res4", "res5")) and name.endswith("conv2") for name in layers)
    plain = build_resnet_backbone(resnet_config(**settings), ShapeSpec(channels=3))
    missing = backbone.load_state_dict(plain.state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert all("offset_mask" in name for name in missing.missing_keys)
    # With offsets 0 and weights of 1/2 the convolution is half the plain one, so twice the weight makes them equal.
    with torch.no_grad():
        for name in layers:
            backbone.get_submodule(name).weight.mul_(2)
    image = torch.randn(1, 3, 64, 96)
    for name, value in plain.eval()(image).items():
        torch.testing.assert_close(backbone.eval()(image)[name], value, rtol=1e-3, atol=1e-4)


def test_strides_and_groups_against_torchvision():
    torch.manual_seed(0)
    layer = ModulatedDeformConv2d(8, 16, stride=2, groups=4).double()
    for parameter in layer.offset_mask.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 8, 9, 11, dtype=torch.double, requires_grad=True)
    offset, mask = layer.offset_mask(x).split([18, 9], dim=1)
    expected = torchvision.ops.deform_conv2d(
        x, offset, layer.weight, layer.bias, stride=2, padding=1, mask=mask.sigmoid()
    )
    result = layer(x)
    assert result.shape == (2, 16, 5, 6)
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(*(torch.autograd.grad(y.square().sum(), x)[0] for y in (result, expected)))


def test_only_one_group_of_offsets():
    with pytest.raises(ValueError, match="DEFORM_NUM_GROUPS must be 1, not 2"):
        build_backbone(resnet_config(DEFORM_ON_PER_STAGE=[False, True, True, True], DEFORM_NUM_GROUPS=2))
