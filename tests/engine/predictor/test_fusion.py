"""Networks without their normalizations compute what they did."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import FrozenBatchNorm2d, get_norm
from detectron2.modeling import build_model
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from centernet_d2.engine.fusion import fuse_batch_norm
from centernet_d2.layers.deform_conv import ModulatedDeformConv2d
from centernet_d2.modeling.backbone import TorchvisionBackbone
from tests.helpers.tiny import tiny_cfg
from tests.modeling.meta_arch.test_centertrack import tracking_model
from tests.modeling.neck.test_pairs import BACKBONES, NECKS, small_backbone


def randomized(network: nn.Module) -> nn.Module:
    """A copy in float64 and evaluation mode, with statistics and factors that are not those of a start."""
    torch.manual_seed(0)
    network = copy.deepcopy(network).double().eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, (_BatchNorm, FrozenBatchNorm2d)):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
            if module.weight is not None:
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-1, 1)
        if isinstance(module, ModulatedDeformConv2d):
            nn.init.normal_(module.offset_mask.weight, std=0.05)
    return network


def check(network: nn.Module, run, x: torch.Tensor, side: int = 32) -> set[str]:
    """Folds, having looked at an input of ``side``, and compares what ``run`` gives; returns the names of the
    normalizations that are left."""
    expected = run(x)
    fuse_batch_norm(network, lambda: run(x[..., :side, :side]))
    predictions = run(x)
    assert predictions.keys() == expected.keys()
    for name, value in expected.items():
        assert value.std() > 0
        assert (predictions[name] - value).abs().max() <= 1e-5 * value.abs().max(), name
    return {name for name, m in network.named_modules() if isinstance(m, (_BatchNorm, FrozenBatchNorm2d))}


@pytest.mark.parametrize(
    ("backbone", "neck"), [*((name, "dla_up") for name in BACKBONES), *(("dla", name) for name in NECKS)]
)
def test_nothing_is_left_of_backbones_and_necks(backbone, neck):
    name, conv, fusion = NECKS[neck]
    cfg = tiny_cfg("MODEL.BACKBONE.NAME", "build_small_backbone", "MODEL.TORCHVISION.NAME", backbone)
    cfg.merge_from_list(["MODEL.NECK.NAME", name, "MODEL.NECK.CONV", conv, "MODEL.NECK.FUSION", fusion])
    cfg.MODEL.NECK.CHANNELS = [12, 10, 8, 6][: len(small_backbone(backbone).output_shape()) - 1]
    model = randomized(build_model(cfg))
    assert (
        check(model, model.predict_maps, torch.randn(2, 3, 64, 128, dtype=torch.float64), model.divisibility) == set()
    )


def test_nothing_is_left_of_an_hourglass_that_sees_the_previous_frame():
    """Its further stems are added by hooks."""
    model = randomized(tracking_model())
    assert check(model, model.predict_maps, torch.randn(2, 7, 64, 128, dtype=torch.float64)) == set()


def test_normalizations_of_concatenated_maps_stay():
    """DenseNet's layers: norm1, conv1, norm2, conv2 of everything so far."""
    network = randomized(TorchvisionBackbone(name="densenet121"))
    before = {name for name, m in network.named_modules() if isinstance(m, _BatchNorm)}
    left = check(network, network, torch.randn(1, 3, 64, 64, dtype=torch.float64))
    assert {name.rpartition(".")[2] for name in before} == {"norm0", "norm1", "norm2", "norm", "norm5"}
    assert left == {name for name in before if name.endswith((".norm1", ".norm", ".norm5"))}


class Parts(nn.Module):
    """Layers of four channels; what is done with them is ``way``."""

    def __init__(self, norm: nn.Module, way) -> None:
        super().__init__()
        self.conv, self.other = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.Conv2d(4, 4, 1)
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.groups = nn.ConvTranspose2d(4, 4, 2, stride=2, groups=2)
        self.deformable = ModulatedDeformConv2d(4, 4, copy.deepcopy(norm))
        self.norm, self.norm2 = norm, copy.deepcopy(norm)
        self.way = way

    def forward(self, x):
        y = self.way(self, x)
        return y if isinstance(y, dict) else {"y": y}


def partly(m, x):
    y = m.conv(x)
    return torch.cat([m.norm(y), y.chunk(2, dim=1)[0]], dim=1)


FUSED = {
    "one after the other": lambda m, x: m.norm(m.conv(x)).relu_(),
    "another in front": lambda m, x: m.norm2(m.other(m.norm(m.conv(x)))),
    "transposed": lambda m, x: m.norm(m.up(x)),
    "the same twice": lambda m, x: m.norm(m.conv(m.norm(m.conv(x)))),
    "two into one": lambda m, x: m.norm(m.conv(x)) + m.norm2(m.other(x)),
    "its size is requested": lambda m, x: (y := m.conv(x)).shape[0] * m.norm(y),
    "deformable": lambda m, x: m.deformable(x) + m.deformable.offset_mask(x).sum(),
}
KEPT = {
    "in front": lambda m, x: m.conv(m.norm(x)),
    "an activation in between": lambda m, x: m.norm(m.conv(x).relu()),
    "in place": lambda m, x: m.norm(F.relu(m.conv(x), inplace=True)),
    "an addition": lambda m, x: m.norm(m.conv(x) + x),
    "also read by others": lambda m, x: (y := m.conv(x)) + m.norm(y),
    "also read in part": partly,
    "also a result": lambda m, x: {"y": (y := m.conv(x)), "z": m.norm(y)},
    "also without": lambda m, x: m.norm(m.conv(x)) + m.conv(x),
    "also of another": lambda m, x: m.norm(m.conv(x)) + m.norm(m.other(x)),
    "two of one": lambda m, x: m.norm(y := m.conv(x)) * m.norm2(y),
    "groups": lambda m, x: m.norm(m.groups(x)),
}


@pytest.mark.parametrize("norm", ["BN", "SyncBN", "FrozenBN", "plain"])
@pytest.mark.parametrize("name", [*FUSED, *KEPT])
def test_only_what_reads_a_convolution_and_nothing_else(name, norm):
    layer = nn.BatchNorm2d(4, eps=1e-3, affine=False) if norm == "plain" else get_norm(norm, 4)
    network = randomized(Parts(layer, {**FUSED, **KEPT}[name]))
    left = check(network, network, torch.randn(2, 4, 9, 7, dtype=torch.float64))
    used = {"norm", "norm2"} if name in ("two of one", "another in front", "two into one") else {"norm"}
    used -= {"norm"} if name == "deformable" else set()
    assert left & used == (used if name in KEPT else set())
    assert "deformable.norm" not in left


def test_weights_keep_their_order_in_memory():
    network = randomized(Parts(nn.BatchNorm2d(4), FUSED["one after the other"])).to(memory_format=torch.channels_last)
    fuse_batch_norm(network, lambda: network(torch.randn(1, 4, 5, 5, dtype=torch.float64)))
    assert network.conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_network_in_training_is_refused():
    with pytest.raises(ValueError, match="evaluation mode"):
        fuse_batch_norm(nn.Conv2d(3, 3, 1), list)
