"""Stages that are not trained: which they are, and that nothing of them changes."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from detectron2.modeling import build_backbone
from torch import nn

from centernet_d2.modeling.backbone import DLA, Darknet, EfficientNetLite, HourglassNet, TimmBackbone
from tests.helpers.tiny import base_cfg


def narrow(kind: str, freeze_at: int) -> nn.Module:
    if kind == "efficientnet_lite":
        return EfficientNetLite(freeze_at=freeze_at)
    if kind == "timm":
        pytest.importorskip("timm")
        return TimmBackbone(name="mobilenetv3_small_050", freeze_at=freeze_at)
    shape = {"channels": (2, 4, 6, 8, 10, 12), "freeze_at": freeze_at}
    return DLA(**shape) if kind == "dla" else Darknet(**shape, blocks=(1, 1, 1, 1, 1))


def modules_of(names: Iterable[str]) -> set[str]:
    return {name.rpartition(".")[0] for name in names}


@pytest.mark.parametrize("freeze_at", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["dla", "darknet", "efficientnet_lite", "timm"])
def test_what_maps_up_to_a_stride_depend_on_stays(kind, freeze_at):
    """By the gradients of a network that is not frozen; maps are those of strides 4, 8, 16, 32."""
    free, network, images = narrow(kind, 0), narrow(kind, freeze_at), torch.randn(2, 3, 64, 64)
    sum(x.square().sum() for x in list(free(images).values())[: freeze_at - 1]).backward()
    expected = {name for name, p in free.named_parameters() if p.grad is not None}
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert {name for name, _ in free.named_parameters()} - trained == expected
    before = {name: x.clone() for name, x in network.state_dict().items()}
    network.train()(images)
    changed = {name for name, x in network.state_dict().items() if not torch.equal(x, before[name])}
    assert not modules_of(changed) & modules_of(expected), "statistics stay, too"
    assert bool(changed) == (freeze_at < 5)


@pytest.mark.parametrize(("kind", "parts"), [("dla", ("stem", "level0", "level1")), ("darknet", ("stem", "stages.0"))])
def test_the_first_stage_has_stride_2(kind, parts):
    network = narrow(kind, 1)
    for name, p in network.named_parameters():
        assert p.requires_grad != name.startswith(tuple(f"{part}." for part in parts)), name
    assert not any(p.requires_grad for p in network.stem.parameters())


@pytest.mark.parametrize(
    ("backbone", "freeze_at", "stages"),
    [("dla", 6, 5), ("darknet", -1, 5), ("hourglass", 3, 2), ("efficientnet_lite", 6, 5)],
)
def test_stages_that_are_not_there(backbone, freeze_at, stages):
    """Rather than to train what was to stay."""
    cfg = base_cfg()
    opts = ["MODEL.BACKBONE.NAME", f"build_{backbone}_backbone", "MODEL.BACKBONE.FREEZE_AT", freeze_at]
    cfg.merge_from_list(opts)
    with pytest.raises(ValueError, match=rf"FREEZE_AT is {freeze_at}, and this backbone has {stages} stages"):
        build_backbone(cfg)


def test_an_hourglass_freezes_its_stem():
    network = HourglassNet(num_stacks=1, channels=(8, 8), blocks=(1, 1), freeze_at=2)
    assert {name.split(".")[0] for name, p in network.named_parameters() if p.requires_grad} == {
        "hourglasses",
        "outputs",
    }


def test_timm_has_no_stage_of_stride_64():
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match="FREEZE_AT is 6"):
        TimmBackbone(name="mobilenetv3_small_050", freeze_at=6)
