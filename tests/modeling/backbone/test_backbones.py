"""Networks: shapes, published sizes, no dead parameters, starting values."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from torch import nn

from centernet_d2.checkpoint.reference_names import convert_imagenet
from centernet_d2.modeling.backbone import DLA, Darknet, HourglassNet
from centernet_d2.modeling.neck import DeconvNeck, DLAUpNeck, FPNNeck, build_neck
from centernet_d2.modeling.neck.deconv import build_bilinear_kernel
from tests.helpers.tiny import base_cfg

SMALL_DLA = (2, 4, 6, 8, 10, 12)
# CenterNet's three heads for 80 classes: 3x3 convolution from c to d channels, then 1x1 to 84 channels in all.
HEADS = {(c, d): 3 * (9 * c * d + d) + 84 * d + 84 for c, d in ((64, 64), (64, 256), (256, 64), (256, 256))}


def small_network(kind: str) -> nn.Module:
    """A narrow backbone with its neck, so that a test takes a moment."""
    torch.manual_seed(0)
    if kind == "hourglass":
        return HourglassNet(channels=(8, 8, 12), blocks=(2, 1, 3))
    if kind == "darknet":
        darknet = Darknet(channels=SMALL_DLA, blocks=(1, 2, 1, 2, 1))
        return nn.Sequential(darknet, FPNNeck(input_shape=darknet.output_shape(), channels=(8, 6, 4)))
    backbone = DLA(channels=SMALL_DLA)
    if kind.startswith("dla_up"):
        neck: nn.Module = DLAUpNeck(
            input_shape=backbone.output_shape(), conv="deformable" if kind == "dla_up_dcn" else "plain"
        )
    else:
        neck = DeconvNeck(
            input_shape=backbone.output_shape(), channels=(8, 6, 4), conv="deformable" if kind == "deconv_dcn" else ""
        )
    return nn.Sequential(backbone, neck)


KINDS = ["hourglass", "darknet", "dla_up_dcn", "dla_up_plain", "deconv_dcn", "deconv_plain"]


def settle(network: nn.Module) -> nn.Module:
    """In evaluation mode, with statistics of images, small offsets and open ReLUs: no gradient vanishes by chance."""
    generator = torch.Generator().manual_seed(1)
    for name, p in network.named_parameters():
        if ".norm." in name or "offset_mask" in name:
            p.data += 0.1 * torch.randn(p.shape, generator=generator) + (0.5 if name.endswith("norm.bias") else 0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    network.train()(torch.randn(4, 3, 64, 64, generator=generator))
    return network.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_no_dead_parameters(kind):
    """In evaluation mode: batch statistics would cancel the bias before them."""
    network = settle(small_network(kind))
    maps = network(torch.randn(1, 3, 64, 64))
    # Every stack is supervised in training; the last one alone depends on all but the outputs of those before it.
    sum((x**2).sum() for x in maps.values()).backward()
    dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(32, 64), (96, 32)])
def test_shapes(kind, size):
    network = small_network(kind)
    parts = list(network) if isinstance(network, nn.Sequential) else [network]
    x: object = torch.randn(2, 3, *size)
    for part in parts:
        assert all(side % part.size_divisibility == 0 for side in (32, 64, 96))
        x = part(x)
        expected = {
            name: (2, shape.channels, size[0] // shape.stride, size[1] // shape.stride)
            for name, shape in part.output_shape().items()
        }
        assert {name: tuple(value.shape) for name, value in x.items()} == expected
    assert {shape.stride for shape in parts[-1].output_shape().values()} == {4}


def built(backbone: str, neck: str, *opts) -> tuple[nn.Module, nn.Module | None]:
    """Full size, without memory or numbers."""
    cfg = base_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = backbone
    cfg.MODEL.NECK.NAME = neck
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.merge_from_list(list(opts))
    with torch.device("meta"):
        network = build_backbone(cfg)
        return network, build_neck(cfg, network.output_shape()) if neck else None


R_18 = ("MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64)
PLAIN = ("MODEL.NECK.CONV", "", "MODEL.NECK.CHANNELS", [256, 256, 256])


@pytest.mark.parametrize(
    ("backbone", "neck", "opts", "heads", "published"),
    [
        # Less the two unread projections (with normalization) and the ImageNet classifier that the file carries.
        ("build_dla_backbone", "DLAUpNeck", (), HEADS[64, 256], 20_188_892 - (8_192 + 256) - (32_768 + 512) - 513_000),
        ("build_hourglass_backbone", "", (), 2 * HEADS[256, 256], 191_284_008),
        ("build_resnet_backbone", "DeconvNeck", R_18, HEADS[64, 64], 14_437_349),
        ("build_resnet_backbone", "DeconvNeck", ("MODEL.RESNETS.DEPTH", 101), HEADS[64, 64], 49_673_189),
        ("build_resnet_backbone", "DeconvNeck", (*R_18, *PLAIN), HEADS[256, 64], 15_820_372),
        ("build_resnet_backbone", "DeconvNeck", ("MODEL.RESNETS.DEPTH", 50, *PLAIN), HEADS[256, 64], 34_443_348),
    ],
    ids=["dla34", "hourglass", "resdcn_18", "resdcn_101", "res_18", "res_50"],
)
def test_as_many_parameters_as_reference(backbone, neck, opts, heads, published):
    parts = built(backbone, neck, *opts)
    assert sum(p.numel() for part in parts if part for p in part.parameters()) + heads == published


def test_strides_of_the_full_size_networks():
    for backbone, neck, opts, divisor in (
        ("build_dla_backbone", "DLAUpNeck", (), 32),
        ("build_hourglass_backbone", "", (), 128),
        ("build_resnet_backbone", "DeconvNeck", R_18, 32),
    ):
        network, on_top = built(backbone, neck, *opts)
        last = on_top or network
        assert {shape.stride for shape in last.output_shape().values()} == {4}
        assert last.size_divisibility == divisor
    network, _ = built("build_hourglass_backbone", "")
    assert list(network.output_shape()) == ["stack1", "stack2"]
    network, _ = built("build_hourglass_backbone", "", "MODEL.HOURGLASS.NUM_STACKS", 1)
    assert list(network.output_shape()) == ["stack1"]


def test_darknet():
    """The paper's table, with weights under OpenMMLab's names; the whole one has 41,609,928 with its classifier."""
    channels, blocks = (4, 6, 8, 10, 12, 14), (1, 2, 8, 8, 4)
    generator = torch.Generator().manual_seed(0)
    weights: dict[str, torch.Tensor] = {}

    def conv(name: str, x: torch.Tensor, out_channels: int, size: int, stride: int = 1) -> torch.Tensor:
        weight = torch.randn(out_channels, x.shape[1], size, size, generator=generator) / (size * x.shape[1] ** 0.5)
        norm = torch.rand(4, out_channels, generator=generator) + 0.5
        weights[f"{name}.conv.weight"] = weight
        for key, values in zip(("weight", "bias", "running_mean", "running_var"), norm, strict=True):
            weights[f"{name}.bn.{key}"] = values
        x = F.conv2d(x, weight, stride=stride, padding=size // 2)
        scale, shift, mean, var = norm.view(4, 1, -1, 1, 1)
        x = (x - mean) / (var + 1e-5).sqrt() * scale + shift
        return torch.where(x > 0, x, 0.1 * x)

    image = torch.randn(1, 3, 64, 64, generator=generator)
    x, maps = conv("conv1", image, channels[0], 3), []
    for i, (width, count) in enumerate(zip(channels[1:], blocks, strict=True)):
        x = conv(f"conv_res_block{i + 1}.conv", x, width, 3, stride=2)
        for j in range(count):
            name = f"conv_res_block{i + 1}.res{j}"
            x = x + conv(f"{name}.conv2", conv(f"{name}.conv1", x, width // 2, 1), width, 3)
        maps.append(x)
    network = Darknet(channels=channels).eval()
    ours = {name.removeprefix("backbone."): x for name, x in convert_imagenet(weights).weights.items()}
    missing, unexpected = network.load_state_dict(ours, strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)
    for result, expected in zip(network(image).values(), maps[1:], strict=True):
        torch.testing.assert_close(result, expected, rtol=1e-3, atol=1e-3)
    with torch.device("meta"):
        assert sum(p.numel() for p in Darknet().parameters()) == 41_609_928 - (1024 * 1000 + 1000)


def test_bilinear_kernel():
    """Closed form for stride 2; for stride 4 a ramp comes out as a ramp."""
    row = torch.tensor([0.25, 0.75, 0.75, 0.25])
    torch.testing.assert_close(build_bilinear_kernel(4), row[:, None] * row)
    up = nn.ConvTranspose2d(1, 1, 8, stride=4, padding=2, bias=False)
    up.weight.data[:] = build_bilinear_kernel(8)
    ramp = torch.arange(8.0).expand(8, 8)[None, None]
    result = up(ramp)[0, 0, 16, 4:-4]
    torch.testing.assert_close(result.diff(), torch.full((23,), 0.25))
    assert result[:2].mean().item() == pytest.approx((4.5 + 0.5) / 4 - 0.5)


def test_necks_start_as_bilinear_interpolation():
    torch.manual_seed(0)
    shapes = {f"dla{i}": ShapeSpec(channels=4 * 2**i, stride=2**i) for i in range(2, 6)}
    up = DLAUpNeck(input_shape=shapes).ida_up[1].up
    assert (up.stride, up.groups) == ((4, 4), 16)
    assert torch.equal(up.weight[3, 0].data, build_bilinear_kernel(8))
    stage = DeconvNeck(input_shape=shapes, channels=(8, 8, 8)).stages[1]
    assert torch.equal(stage.up.weight[5, 5].data, build_bilinear_kernel(4))
    assert stage.up.weight[5, 4].abs().max() < 0.1
    plain = DeconvNeck(input_shape=shapes, channels=(64, 64, 64), conv="").stages[1]
    assert plain.up.weight.std().item() == pytest.approx(0.001, rel=0.05)


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match=r"MODEL.HOURGLASS: CHANNELS \[8, 8\] and BLOCKS \[1\]"):
        HourglassNet(channels=(8, 8), blocks=(1,))
    with pytest.raises(ValueError, match=r"strides double, not \[4, 16\]"):
        DLAUpNeck(input_shape={"a": ShapeSpec(channels=4, stride=4), "b": ShapeSpec(channels=4, stride=16)})
