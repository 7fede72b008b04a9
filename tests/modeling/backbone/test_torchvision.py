"""torchvision's networks as backbones, against torchvision's own."""

from __future__ import annotations

import hashlib
import sys

import pytest
import torch
import torchvision
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from torch import nn

from centernet_d2.modeling.backbone import TimmBackbone, TorchvisionBackbone
from centernet_d2.modeling.backbone.torchvision import get_weights_url
from tests.helpers.tiny import tiny_cfg

# Modules whose outputs are the maps, by hand; and what of torchvision's parameters comes after them.
NETWORKS = {
    "shufflenet_v2_x0_5": (("maxpool", "stage2", "stage3", "stage4"), ("conv5.", "fc.")),
    "mobilenet_v2": (("features.3", "features.6", "features.13", "features.17"), ("features.18.", "classifier.")),
    "mobilenet_v3_small": (("features.1", "features.3", "features.8", "features.11"), ("features.12.", "classifier.")),
    "mnasnet0_5": (("layers.8", "layers.9", "layers.11", "layers.13"), ("layers.14.", "layers.15.", "classifier.")),
    "efficientnet_b0": (("features.2", "features.3", "features.5", "features.7"), ("features.8.", "classifier.")),
    "regnet_y_400mf": (tuple(f"trunk_output.block{i}" for i in (1, 2, 3, 4)), ("fc.",)),
    "resnet18": (("layer1", "layer2", "layer3", "layer4"), ("fc.",)),
}
SLOW_NETWORKS = {
    "shufflenet_v2_x2_0": NETWORKS["shufflenet_v2_x0_5"],
    "mobilenet_v3_large": (
        ("features.3", "features.6", "features.12", "features.15"),
        ("features.16.", "classifier."),
    ),
    "resnext50_32x4d": NETWORKS["resnet18"],
    "wide_resnet50_2": NETWORKS["resnet18"],
    "convnext_tiny": (("features.1", "features.3", "features.5", "features.7"), ("classifier.",)),
    "densenet121": (
        ("features.denseblock1", "features.denseblock2", "features.denseblock3", "features.norm5"),
        ("classifier.",),
    ),
    "vgg11_bn": (("features.13", "features.20", "features.27", "features.28"), ("classifier.",)),
}
ALL = [*NETWORKS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_NETWORKS)]


def trained(name: str) -> nn.Module:
    """torchvision's network with numbers everywhere, as if it had seen images."""
    torch.manual_seed(0)
    network = torchvision.models.get_model(name)
    for x in network.state_dict().values():
        if x.is_floating_point() and x.dim() == 1:
            x += 0.2 * torch.rand_like(x)
    return network.eval()


def detector(name: str, *opts) -> nn.Module:
    torch.manual_seed(1)
    cfg = tiny_cfg("MODEL.BACKBONE.NAME", "build_torchvision_backbone", "MODEL.TORCHVISION.NAME", name)
    cfg.merge_from_list(["MODEL.NECK.NAME", "FPNNeck", "MODEL.NECK.CHANNELS", [8, 8, 8], "MODEL.NECK.CONV", "plain"])
    cfg.merge_from_list(list(opts))
    return build_model(cfg)


@pytest.mark.parametrize("name", ALL)
def test_the_maps_are_torchvisions(name, tmp_path):
    """A file as torchvision publishes them, through MODEL.WEIGHTS; nothing that comes after the maps exists."""
    modules, rest = {**NETWORKS, **SLOW_NETWORKS}[name]
    network = trained(name)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    model = detector(name).eval()
    DetectionCheckpointer(model).load(str(tmp_path / "weights.pth"))

    seen = {}
    for module in modules:
        # Copied, for a ReLU that works in place may come next.
        network.get_submodule(module).register_forward_hook(lambda m, x, y, key=module: seen.update({key: y.clone()}))
    x = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        network(x)
        maps = model.backbone(x)
    assert list(maps) == ["stride4", "stride8", "stride16", "stride32"]
    for (key, ours), module in zip(maps.items(), modules, strict=True):
        stride, channels = int(key.removeprefix("stride")), model.backbone.output_shape()[key].channels
        assert ours.shape == (2, channels, 64 // stride, 96 // stride)
        # Another order in memory rounds otherwise: as float32 does, relative to the map's largest value.
        expected = seen[module]
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4 * max(1.0, float(expected.abs().max())))
    left_out = set(network.state_dict()) - set(model.backbone.body.state_dict())
    assert left_out == {key for key in network.state_dict() if key.startswith(rest)}
    assert set(model.backbone.body.state_dict()) <= set(network.state_dict())


@pytest.mark.parametrize("name", ALL)
def test_every_parameter_is_trained(name):
    backbone = TorchvisionBackbone(name=name)
    sum(x.square().mean() for x in backbone(torch.randn(2, 3, 64, 64)).values()).backward()
    assert [key for key, p in backbone.named_parameters() if p.grad is None] == []


def test_reference_widths():
    """Those of the papers' tables, at strides 4 to 32."""
    widths = {
        "shufflenet_v2_x1_0": [24, 116, 232, 464],
        "mobilenet_v3_large": [24, 40, 112, 160],
    }
    for name, expected in widths.items():
        with torch.device("meta"):
            shapes = TorchvisionBackbone(name=name).output_shape()
        assert {s.stride: s.channels for s in shapes.values()} == dict(zip((4, 8, 16, 32), expected, strict=True))


def test_frozen_stages_stay_as_they_are():
    model = detector("mobilenet_v2", "MODEL.BACKBONE.FREEZE_AT", 3).train()
    body = model.backbone.body
    before = {key: x.clone() for key, x in body.state_dict().items()}
    sum(x.mean() for x in model.extract_features(torch.randn(2, 3, 64, 64))).backward()
    changed = {int(key.split(".")[1]) for key, x in body.state_dict().items() if not torch.equal(x, before[key])}
    trained = {int(key.split(".")[1]) for key, p in body.named_parameters() if p.grad is not None}
    assert changed == trained == set(range(7, 18))  # the map of stride 8 is that of features.6


def test_normalizations():
    sync = TorchvisionBackbone(name="shufflenet_v2_x0_5", norm="SyncBN")
    assert {type(m) for m in sync.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)} == {nn.SyncBatchNorm}
    frozen = TorchvisionBackbone(name="shufflenet_v2_x0_5", norm="FrozenBN")
    kinds = {type(m) for m in frozen.modules() if "BatchNorm" in type(m).__name__}
    assert kinds == {FrozenBatchNorm2d}


def test_relu_in_place_of_relu6():
    """Larger inputs: the maps are torchvision's where its ReLU6 have no upper limit."""
    torch.manual_seed(0)
    own, other = (TorchvisionBackbone(name="mobilenet_v2", activation=x).eval() for x in ("", "ReLU"))
    other.load_state_dict(own.state_dict())
    x = 100 * torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        limited, unlimited = own(x), other(x)
        for module in own.modules():
            if isinstance(module, nn.ReLU6):
                module.max_val = float("inf")
        expected = own(x)
    assert all(torch.equal(unlimited[key], expected[key]) for key in expected)
    assert not torch.allclose(limited["stride4"], expected["stride4"])
    with pytest.raises(ValueError, match=r"MODEL\.TORCHVISION\.ACTIVATION must be '' or 'ReLU', not 'SiLU'"):
        TorchvisionBackbone(name="mobilenet_v2", activation="SiLU")


def test_weights_by_name(tmp_path, monkeypatch):
    """From torchvision's cache, so that nothing is downloaded; a file that is not what its name says is refused."""
    published = torchvision.models.MobileNet_V3_Small_Weights.IMAGENET1K_V1.url
    assert get_weights_url("torchvision://mobilenet_v3_small") == published
    assert get_weights_url("torchvision://resnet50/IMAGENET1K_V1").endswith("/resnet50-0676ba61.pth")
    for wrong in ("torchvision://mobilenet_v9", "torchvision://resnet50/IMAGENET21K"):
        with pytest.raises(ValueError, match=f"{wrong}: torchvision has no such weights"):
            get_weights_url(wrong)

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    source = tmp_path / "source.pth"
    network = trained("mobilenet_v3_small")
    torch.save(network.state_dict(), source)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    model = detector("mobilenet_v3_small")
    place = "centernet_d2.modeling.backbone.torchvision.get_weights_url"
    monkeypatch.setattr(place, lambda path: (source.rename(source.with_name(f"w-{'0' * 8}.pth"))).as_uri())
    with pytest.raises(RuntimeError, match="invalid hash value"):
        DetectionCheckpointer(model).load("torchvision://mobilenet_v3_small")
    file = source.with_name(f"w-{'0' * 8}.pth").rename(source.with_name(f"w-{digest[:8]}.pth"))
    monkeypatch.setattr(place, lambda path: file.as_uri())
    DetectionCheckpointer(model).load("torchvision://mobilenet_v3_small")
    file.unlink()
    DetectionCheckpointer(model).load("torchvision://mobilenet_v3_small")
    loaded = model.backbone.body.state_dict()
    assert all(torch.equal(x, network.state_dict()[key]) for key, x in loaded.items())


def test_other_networks_are_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"MODEL\.TORCHVISION\.NAME: 'shufflenet' is none of torchvision's"):
        TorchvisionBackbone(name="shufflenet")
    for name in ("squeezenet1_1", "vit_b_16", "swin_t"):
        with torch.device("meta"), pytest.raises(ValueError, match=f"torchvision's {name} gives no maps"):
            TorchvisionBackbone(name=name)
    with pytest.raises(ValueError, match=r"MODEL\.TORCHVISION\.NORM must be .*, not 'GN'"):
        TorchvisionBackbone(name="resnet18", norm="GN")
    with pytest.raises(ValueError, match=r"FREEZE_AT must be 0 or 2 to 5 .*, not 1"):
        TorchvisionBackbone(name="resnet18", freeze_at=1)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModuleNotFoundError, match="pip install timm"):
        TimmBackbone(name="resnet18")
