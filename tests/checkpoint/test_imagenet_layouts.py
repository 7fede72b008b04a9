"""ImageNet weights in the layouts of their files fill the backbones of LSNet and CenterNet++."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from detectron2.modeling import build_backbone
from torch import Tensor, nn

from centernet_d2.checkpoint.checkpointer import SafeCheckpointer
from tests.helpers.tiny import tiny_cfg

RESNET = ("MODEL.BACKBONE.NAME", "build_deformable_resnet_backbone", "MODEL.RESNETS.STRIDE_IN_1X1", False)
RESNET += ("MODEL.RESNETS.OUT_FEATURES", ["res3", "res4", "res5"], "MODEL.RESNETS.DEFORM_MODULATED", True)
DEFORMABLE = ("MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False, True, True, True])
GROUPS = ("MODEL.RESNETS.NUM_GROUPS", 32, "MODEL.RESNETS.WIDTH_PER_GROUP", 4)


class Detector(nn.Module):
    """A backbone and something that no file of a backbone has."""

    def __init__(self, *opts: Any) -> None:
        super().__init__()
        self.backbone = build_backbone(tiny_cfg(*opts))
        self.head = nn.Conv2d(3, 1, 1)


def randomize(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Random numbers where there are any, so that no tensor is like a model's start."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(x.shape, generator=generator) + 0.5 if x.is_floating_point() else x
        for name, x in weights.items()
    }


def load(model: nn.Module, path: Path) -> set[str]:
    """The backbone's tensors that the file did not fill, by what the checkpointer says and by value."""
    before = {name: x.clone() for name, x in model.backbone.state_dict().items()}
    checkpointer = SafeCheckpointer(model)
    checkpointer.load(str(path))
    unfilled = {
        name.removeprefix("backbone.") for name in checkpointer.incompatible.missing_keys if name.startswith("backbone")
    }
    after = model.backbone.state_dict()
    unchanged = {name for name, x in before.items() if x.is_floating_point() and torch.equal(x, after[name])}
    assert unchanged == unfilled
    return unfilled


def to_detectron2(name: str) -> str | None:
    """torchvision's name of a ResNet's tensor as Detectron2's tool converts it (convert-torchvision-to-d2.py)."""
    if name.startswith("fc") or name.endswith("num_batches_tracked"):
        return None
    if "layer" not in name:
        name = f"stem.{name}"
    for number in range(1, 5):
        name = name.replace(f"layer{number}", f"res{number + 1}")
    for number in range(1, 4):
        name = name.replace(f"bn{number}", f"conv{number}.norm")
    return name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")


@pytest.mark.parametrize("deformable", [False, True])
@pytest.mark.parametrize("layout", ["torchvision", "Detectron2"])
@pytest.mark.parametrize("network", ["resnet50", "resnext50_32x4d"])
def test_resnets(network, layout, deformable, tmp_path):
    source = randomize(torchvision.models.get_model(network, weights=None).state_dict())
    converted = {to_detectron2(name): x for name, x in source.items()}
    converted.pop(None)
    if layout == "torchvision":
        torch.save(source, path := tmp_path / "weights.pth")
    else:
        content = {"model": {name: x.numpy() for name, x in converted.items()}, "__author__": "torchvision"}
        path = tmp_path / "weights.pkl"
        path.write_bytes(pickle.dumps({**content, "matching_heuristics": True}))
    model = Detector(*RESNET, *(GROUPS if "next" in network else ()), *(DEFORMABLE if deformable else ()))
    unfilled = load(model, path)
    assert all(".offset_mask." in name for name in unfilled)
    assert len(unfilled) == (2 * (4 + 6 + 3) if deformable else 0)
    filled = model.backbone.state_dict()
    assert all(torch.equal(filled[name], x) for name, x in converted.items())


def test_swin(tmp_path):
    """The official files have one norm behind the last stage; those of our four maps start new, as in Detectron2."""
    model = Detector("MODEL.BACKBONE.NAME", "build_swin_backbone", "MODEL.SWIN.SIZE", "tiny")
    own = {name: x for name, x in model.backbone.state_dict().items() if not name.startswith("norm")}
    assert {"patch_embed.proj.weight", "layers.0.blocks.0.attn.qkv.weight", "layers.2.downsample.reduction.weight"} <= {
        *own
    }
    weights = randomize(own)
    for stage in range(3):  # buffers that Detectron2 computes
        weights[f"layers.{stage}.blocks.1.attn_mask"] = torch.zeros(64 >> stage, 49, 49)
    weights |= {"norm.weight": torch.ones(768), "norm.bias": torch.zeros(768)}
    weights |= {"head.weight": torch.zeros(1000, 768), "head.bias": torch.zeros(1000)}
    torch.save({"model": weights}, tmp_path / "swin.pth")
    assert load(model, tmp_path / "swin.pth") == {f"norm{i}.{kind}" for i in range(4) for kind in ("weight", "bias")}


def test_res2net_of_timm(tmp_path):
    timm = pytest.importorskip("timm")
    weights = randomize(timm.create_model("res2net101d", pretrained=False).state_dict())
    torch.save(weights, tmp_path / "res2net.pth")
    opts = ("MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME", "res2net101d", *DEFORMABLE)
    unfilled = load(Detector(*opts), tmp_path / "res2net.pth")
    assert unfilled and all(".offset_mask." in name for name in unfilled)
