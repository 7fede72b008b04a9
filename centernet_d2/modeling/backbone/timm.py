"""Networks of timm (PyTorch Image Models, an optional package) as backbones."""

from __future__ import annotations

import importlib

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor

from centernet_d2.layers.conv_blocks import freeze_stages
from centernet_d2.layers.deform_conv import make_deformable

STRIDES = (4, 8, 16, 32)


class TimmBackbone(Backbone):
    """(N, 3, H, W) becomes "stride4".."stride32": (N, c, H / R, W / R); H and W multiples of 32.

    Args:
        name: of a network of ``timm.list_models()`` that timm gives the maps of (``features_only``).
        pretrained: with the weights that timm publishes under that name, downloaded once.

    Raises:
        ModuleNotFoundError: timm is not installed.
        ValueError: the network does not give these maps.
    """

    def __init__(self, *, name: str, pretrained: bool = False) -> None:
        super().__init__()
        try:
            timm = importlib.import_module("timm")
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("build_timm_backbone needs timm: pip install timm") from error
        available = timm.create_model(name, features_only=True).feature_info.reduction()
        if not set(STRIDES) <= set(available):
            raise ValueError(f"timm's {name} gives maps of strides {available}, not {STRIDES}")
        indices = [available.index(stride) for stride in STRIDES]
        self.body = timm.create_model(name, features_only=True, out_indices=indices, pretrained=pretrained)
        self._out_feature_strides = {f"stride{stride}": stride for stride in STRIDES}
        self._out_features = list(self._out_feature_strides)
        channels = self.body.feature_info.channels()
        self._out_feature_channels = dict(zip(self._out_features, channels, strict=True))

    @property
    def size_divisibility(self) -> int:
        return STRIDES[-1]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return dict(zip(self._out_features, self.body(x), strict=True))


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """Build MODEL.TIMM; none of its stages can be frozen here.

    MODEL.RESNETS.DEFORM_ON_PER_STAGE makes stages of ResNets, Res2Nets and ResNeXts deformable.

    Raises:
        ValueError: it is set for a network without such stages.
    """
    freeze_stages([], cfg.MODEL.BACKBONE.FREEZE_AT)
    backbone = TimmBackbone(name=cfg.MODEL.TIMM.NAME, pretrained=cfg.MODEL.TIMM.PRETRAINED)
    for number, deformable in enumerate(cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE, start=1):
        if deformable and not hasattr(backbone.body, f"layer{number}"):
            raise ValueError(f"MODEL.RESNETS.DEFORM_ON_PER_STAGE: {cfg.MODEL.TIMM.NAME} has no stage layer{number}")
        if deformable:
            make_deformable(getattr(backbone.body, f"layer{number}"))
    return backbone
