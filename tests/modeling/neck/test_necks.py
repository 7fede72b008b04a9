"""Necks against closed forms and loops: what is fused with what, how often, with which weight."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec
from torch import nn

from centernet_d2.layers.fusion import Fuse, conv3x3
from centernet_d2.modeling.neck import BiFPNNeck, DeconvFPNNeck, DeconvNeck, DLAUpNeck, FPNNeck, IDANeck, SEBNeck
from centernet_d2.modeling.neck.base import Neck
from centernet_d2.modeling.neck.seb import SemanticEmbedding

KINDS = ["plain", "separable", "deformable"]
FUSING = [FPNNeck, IDANeck, BiFPNNeck]


def shapes_of(*channels: int) -> dict[str, ShapeSpec]:
    return {f"stride{4 * 2**i}": ShapeSpec(channels=c, stride=4 * 2**i) for i, c in enumerate(channels)}


def maps_of(shapes: dict[str, ShapeSpec], size: int = 16, batch: int = 1, seed: int = 0) -> dict[str, torch.Tensor]:
    """Positive, so that no ReLU changes them."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(batch, shape.channels, 4 * size // shape.stride, 4 * size // shape.stride, generator=generator)
        for name, shape in shapes.items()
    }


def transparent(neck: nn.Module) -> nn.Module:
    """Every convolution hands its input through (the sum of several parts, where it has concatenated ones)."""
    for module in neck.modules():
        if isinstance(module, nn.Conv2d):
            center = module.kernel_size[0] // 2
            nn.init.zeros_(module.weight)
            module.weight.data[:, :, center, center] = 1.0
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return neck.eval()


def plain(neck: type[Neck], fusion: str, *channels: int) -> nn.Module:
    return transparent(neck(input_shape=shapes_of(1, 1, 1, 1), channels=channels, fusion=fusion, norm=""))


def enlarged(x: np.ndarray) -> np.ndarray:
    return x.repeat(2, axis=0).repeat(2, axis=1)


def pooled(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x) // 2, 2, len(x) // 2, 2).max(axis=(1, 3))


def numbers(maps: dict[str, torch.Tensor]) -> list[np.ndarray]:
    return [x[0, 0].numpy() for x in maps.values()]


@pytest.mark.parametrize("fusion", ["sum", "weighted", "concat"])
def test_fpn(fusion):
    """The sum of what lies above a cell; weighted, each fusion halves what came before."""
    maps = maps_of(shapes_of(1, 1, 1, 1))
    p4, p8, p16, p32 = numbers(maps)
    fraction = 2 if fusion == "weighted" else 1
    expected = p32
    for finer in (p16, p8, p4):
        expected = (finer + enlarged(expected)) / fraction
    result = plain(FPNNeck, fusion, 1, 1, 1)(maps)["neck"][0, 0]
    torch.testing.assert_close(result, torch.from_numpy(expected), rtol=1e-3, atol=1e-3)


def test_deconv_fpn():
    """Each cell becomes 2x2 cells, times a weight each, plus the finer map; between two and three ReLUs."""
    maps = maps_of(shapes_of(1, 1, 1, 1))
    weight = np.array([[1.0, -2.0], [0.5, 3.0]], np.float32)
    neck = transparent(DeconvFPNNeck(input_shape=shapes_of(1, 1, 1, 1), channels=(1, 1, 1), norm=""))
    for up in neck.ups:
        up[0].weight.data[0, 0], up[0].bias.data[:] = torch.from_numpy(weight), 0
    p4, p8, p16, expected = numbers(maps)
    for finer in (p16, p8, p4):
        expected = finer + np.kron(expected, weight).clip(min=0)
    torch.testing.assert_close(neck(maps)["neck"][0, 0], torch.from_numpy(expected))


@pytest.mark.parametrize("fusion", ["sum", "weighted"])
def test_ida(fusion):
    """Three rounds of neighbors: binomial coefficients."""
    maps = maps_of(shapes_of(1, 1, 1, 1))
    expected = np.zeros((16, 16), np.float32)
    for i, x in enumerate(numbers(maps)):
        for _ in range(i):
            x = enlarged(x)
        expected += math.comb(3, i) * x / (8 if fusion == "weighted" else 1)
    result = plain(IDANeck, fusion, 1, 1, 1)(maps)["neck"][0, 0]
    torch.testing.assert_close(result, torch.from_numpy(expected), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("fusion", ["sum", "weighted"])
def test_bifpn(fusion):
    """A whole layer, then the way down alone: every fusion is the sum, or the mean, of its two or three maps."""

    def fused(*parts: np.ndarray) -> np.ndarray:
        return sum(parts) / (len(parts) if fusion == "weighted" else 1)

    maps = maps_of(shapes_of(1, 1, 1, 1))
    p4, p8, p16, p32 = numbers(maps)
    d16 = fused(p16, enlarged(p32))
    d8 = fused(p8, enlarged(d16))
    o4 = fused(p4, enlarged(d8))
    o8 = fused(p8, d8, pooled(o4))
    o16 = fused(p16, d16, pooled(o8))
    o32 = fused(p32, pooled(o16))
    expected = fused(o4, enlarged(fused(o8, enlarged(fused(o16, enlarged(o32))))))
    result = plain(BiFPNNeck, fusion, 1, 1)(maps)["neck"][0, 0]
    torch.testing.assert_close(result, torch.from_numpy(expected), rtol=1e-3, atol=1e-3)


def test_weights_are_learned_and_never_negative():
    fuse = transparent(Fuse([(1, 1), (1, 1), (1, 1)], 1, 1, "weighted", "plain", ""))
    fuse.weights.data = torch.tensor([3.0, 1.0, -5.0])
    maps = [torch.full((1, 1, 3, 3), value) for value in (1.0, 5.0, 100.0)]
    torch.testing.assert_close(fuse(*maps), torch.full((1, 1, 3, 3), 2.0), rtol=1e-4, atol=1e-4)


def test_semantic_embedding():
    """The fine map times (weight * coarse + bias), the coarse map enlarged bilinearly; at first about times one."""
    torch.manual_seed(0)
    fresh = SemanticEmbedding(1, 1, 1, "plain", "")
    head = transparent(SemanticEmbedding(1, 1, 1, "plain", ""))
    fine = torch.rand(1, 1, 4, 4)
    coarse = torch.tensor([[0.0, 8.0], [16.0, 24.0]])[None, None]
    head.embed.weight.data *= 0.5
    head.embed.bias.data[:] = 3.0
    at = torch.tensor([0.0, 0.25, 0.75, 1.0])  # bilinear between the centers of two cells, the border's value beyond
    factor = 3.0 + 0.5 * (8.0 * at + 16.0 * at[:, None])
    torch.testing.assert_close(head(fine, coarse), fine * factor)
    fresh.conv = nn.Identity()
    torch.testing.assert_close(fresh(fine, torch.rand(1, 1, 2, 2)), fine, rtol=0.01, atol=0.0)


def test_seb_embeds_with_the_backbones_own_maps():
    """Without what comes from below, each level is its map times the next coarser one."""
    neck = transparent(SEBNeck(input_shape=shapes_of(1, 1, 1, 1), channels=(1, 1, 1), norm=""))
    for embedding in neck.embeddings:
        nn.init.zeros_(embedding.embed.bias)
    for up in neck.up:
        nn.init.zeros_(up.up.weight)
        nn.init.zeros_(up.up.bias)
    maps = maps_of(shapes_of(1, 1, 1, 1))
    factor = nn.functional.interpolate(maps["stride8"], scale_factor=2, mode="bilinear")
    torch.testing.assert_close(neck(maps)["neck"], maps["stride4"] * factor)


def test_kinds_of_convolution():
    """Parameters: 9cd; 9c + cd; 9cd and the prediction of 27 numbers. Each with its normalizations."""
    c, d = 6, 10
    counts = {kind: sum(p.numel() for p in conv3x3(c, d, kind, "BN").parameters()) for kind in KINDS}
    offsets = 27 * 9 * c + 27
    assert counts == {
        "plain": 9 * c * d + 2 * d,
        "separable": 9 * c + 2 * c + c * d + 2 * d,
        "deformable": 9 * c * d + d + offsets + 2 * d,
    }
    with pytest.raises(ValueError, match=r"MODEL\.NECK\.CONV must be .* not 'dilated'"):
        conv3x3(c, d, "dilated", "BN")


def all_necks() -> list:
    necks = [("DeconvNeck", kind, "sum") for kind in ("", *KINDS)]
    necks += [(name, kind, "sum") for name in ("DLAUpNeck", "DeconvFPNNeck", "SEBNeck") for kind in KINDS]
    fusing = [(neck.__name__, fusion) for neck in FUSING for fusion in ("sum", "weighted", "concat")]
    return necks + [(name, kind, fusion) for name, fusion in fusing for kind in KINDS]


CLASSES = {neck.__name__: neck for neck in (DeconvFPNNeck, DeconvNeck, DLAUpNeck, SEBNeck, *FUSING)}


@pytest.mark.parametrize(("name", "conv", "fusion"), all_necks())
def test_no_dead_parameters_and_every_map_is_read(name, conv, fusion):
    """In evaluation mode, with images' statistics and open ReLUs: no gradient vanishes by chance."""
    torch.manual_seed(0)
    shapes = shapes_of(4, 5, 6, 7)
    arguments = {} if name == "DLAUpNeck" else {"channels": (8, 6, 4)}
    arguments |= {"fusion": fusion} if CLASSES[name] in FUSING else {}
    neck = CLASSES[name](input_shape=shapes, conv=conv, **arguments)
    for key, p in neck.named_parameters():
        if "norm" in key or "offset_mask" in key:
            p.data += 0.1 * torch.randn(p.shape) + (0.5 if key.endswith("norm.bias") else 0)
    for module in neck.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    neck.train()(maps_of(shapes, batch=4))
    maps = {key: x.requires_grad_() for key, x in maps_of(shapes, seed=1).items()}
    result = neck.eval()(maps)["neck"]
    shape = neck.output_shape()["neck"]
    assert result.shape == (1, shape.channels, 16, 16) and shape.stride == 4 and neck.size_divisibility == 32
    (result**2).sum().backward()
    assert [key for key, p in neck.named_parameters() if p.grad is None or not p.grad.any()] == []
    read = {key for key, x in maps.items() if x.grad is not None and x.grad.any()}
    assert read == ({"stride32"} if name == "DeconvNeck" else set(maps))


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match=r"MODEL\.NECK\.CHANNELS: FPNNeck needs 3 widths for 4 maps, not \[8, 8\]"):
        FPNNeck(input_shape=shapes_of(4, 4, 4, 4), channels=(8, 8))
    with pytest.raises(ValueError, match=r"MODEL\.NECK\.FUSION must be one of .*, not 'mean'"):
        IDANeck(input_shape=shapes_of(4, 4), channels=(8,), fusion="mean")
    stack = {f"stack{i}": ShapeSpec(channels=4, stride=4) for i in (1, 2)}
    with pytest.raises(ValueError, match=r"SEBNeck needs maps whose strides double, not \[4, 4\]"):
        SEBNeck(input_shape=stack, channels=(8,))
