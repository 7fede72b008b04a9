"""Every kind of backbone with every neck: built, trained one step, requested objects."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone, SwinTransformer, build_model, build_resnet_backbone
from detectron2.modeling.backbone import FPN
from detectron2.modeling.backbone.fpn import LastLevelMaxPool

from centernet_d2.modeling.backbone import DLA, Darknet, TimmBackbone, TorchvisionBackbone
from tests.helpers.tiny import base_cfg, tiny_cfg, training_input

NARROW = (4, 6, 8, 12, 16, 20)


def detectron2_resnet() -> Backbone:
    cfg = base_cfg()
    cfg.MODEL.RESNETS.merge_from_other_cfg(
        CfgNode({"NORM": "BN", "STEM_OUT_CHANNELS": 8, "RES2_OUT_CHANNELS": 16, "WIDTH_PER_GROUP": 8})
    )
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    return build_resnet_backbone(cfg, ShapeSpec(channels=3))


def detectron2_fpn() -> Backbone:
    """With a map of stride 64 more than the others."""
    names = ["res2", "res3", "res4", "res5"]
    return FPN(detectron2_resnet(), names, 12, norm="BN", top_block=LastLevelMaxPool())


def detectron2_swin() -> Backbone:
    """In an FPN, as in its published configurations: by itself it fails when requested its ``size_divisibility``."""
    swin = SwinTransformer(embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), drop_path_rate=0.0)
    return FPN(swin, ["p0", "p1", "p2", "p3"], 12, norm="BN")


def detectron2_vit() -> Backbone:
    """ViTDet's pyramid, as its published configurations have it, with a small plain ViT."""
    pytest.importorskip("timm.models.layers", reason="Detectron2's ViT needs timm")
    from detectron2.modeling import SimpleFeaturePyramid, ViT

    vit = ViT(img_size=64, embed_dim=16, depth=1, num_heads=2, out_feature="last_feat")
    return SimpleFeaturePyramid(vit, "last_feat", 12, scale_factors=(4.0, 2.0, 1.0, 0.5))


def timm_mobilenet() -> Backbone:
    pytest.importorskip("timm")
    return TimmBackbone(name="mobilenetv3_small_050")


BACKBONES = {
    "shufflenet_v2": lambda: TorchvisionBackbone(name="shufflenet_v2_x0_5"),
    "mobilenet_v2": lambda: TorchvisionBackbone(name="mobilenet_v2"),
    "mobilenet_v3": lambda: TorchvisionBackbone(name="mobilenet_v3_small"),
    "resnet": lambda: TorchvisionBackbone(name="resnet18"),
    "darknet": lambda: Darknet(channels=NARROW, blocks=(1, 2, 1, 1, 1)),
    "dla": lambda: DLA(channels=NARROW),
    "timm_mobilenet": timm_mobilenet,
    "detectron2_resnet": detectron2_resnet,
    "detectron2_fpn": detectron2_fpn,
    "detectron2_swin": detectron2_swin,
    "detectron2_vit": detectron2_vit,
}
# Name of the neck, kind of convolution, fusion.
NECKS = {
    "deconv": ("DeconvNeck", "", "sum"),
    "deconv_dcn": ("DeconvNeck", "deformable", "sum"),
    "dla_up": ("DLAUpNeck", "plain", "sum"),
    "fpn_sum": ("FPNNeck", "separable", "sum"),
    "fpn_weighted": ("FPNNeck", "deformable", "weighted"),
    "fpn_concat": ("FPNNeck", "plain", "concat"),
    "ida": ("IDANeck", "separable", "sum"),
    "bifpn": ("BiFPNNeck", "plain", "weighted"),
    "seb": ("SEBNeck", "separable", "sum"),
}


# These give maps that are ready to be read, each by layers of its own: a neck that reads one leaves the others dead.
PYRAMIDS = ("detectron2_fpn", "detectron2_swin", "detectron2_vit")
PAIRS = [(b, n) for b in BACKBONES for n in NECKS if not (b in PYRAMIDS and NECKS[n][0] == "DeconvNeck")]


@BACKBONE_REGISTRY.register()
def build_small_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    return small_backbone(cfg.MODEL.TORCHVISION.NAME)


@cache
def small_backbone(name: str) -> Backbone:
    torch.manual_seed(0)
    return BACKBONES[name]()


@pytest.mark.parametrize(("backbone", "neck"), PAIRS)
def test_every_pair(backbone, neck):
    shapes = small_backbone(backbone).output_shape()
    name, conv, fusion = NECKS[neck]
    # One width for each map but the coarsest: whichever neck it is, strides up to 4 have one each.
    cfg = tiny_cfg("MODEL.BACKBONE.NAME", "build_small_backbone", "MODEL.TORCHVISION.NAME", backbone)
    cfg.merge_from_list(["MODEL.NECK.NAME", name, "MODEL.NECK.CONV", conv, "MODEL.NECK.FUSION", fusion])
    cfg.MODEL.NECK.CHANNELS = [12, 10, 8, 6][: len(shapes) - 1]
    torch.manual_seed(0)
    model = build_model(cfg)
    model.zero_grad()

    shape = model.neck.output_shape()["neck"]
    finest = min(shapes.values(), key=lambda s: s.stride)
    assert shape.stride == finest.stride == 4
    assert shape.channels == (finest.channels if name == "DLAUpNeck" else cfg.MODEL.NECK.CHANNELS[-1])
    (x,) = model.extract_features(torch.rand(2, 3, 64, 128))
    assert x.shape == (2, shape.channels, 16, 32)

    losses = model.train()([training_input([[8, 8, 40, 50]], [1], seed=i) for i in range(2)])
    sum(losses.values()).backward()
    assert [key for key, p in model.named_parameters() if p.grad is None] == [], "distributed training would stop"
    assert all(p.grad.isfinite().all() for p in model.parameters())

    (result,) = model.eval()([{"image": torch.randint(0, 256, (3, 50, 60), dtype=torch.uint8)}])
    predictions = result["instances"]
    assert len(predictions) <= 100 and predictions.image_size == (50, 60)
    assert (
        (predictions.scores > 0) & (predictions.scores < 1)
    ).all() and predictions.pred_boxes.tensor.isfinite().all()
