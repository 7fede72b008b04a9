"""Networks of timm (PyTorch Image Models, an optional package) as backbones."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn

from centernet_d2.layers.deform_conv import make_deformable

STRIDES = (4, 8, 16, 32)
# Side of the image that shows what a map depends on.
_PROBE_SIZE = 64


class TimmBackbone(Backbone):
    """(N, 3, H, W) becomes "stride4".."stride32": (N, c, H / R, W / R); H and W multiples of 32.

    Args:
        name: of a network of ``timm.list_models()`` that timm gives the maps of (``features_only``).
        pretrained: with the weights that timm publishes under that name, downloaded once.
        freeze_at: 0, or 1 to 5: what maps of strides up to 2 ** ``freeze_at`` depend on is not trained.

    Raises:
        ModuleNotFoundError: timm is not installed.
        ValueError: the network does not give these maps, or has none of the stride to freeze up to.
    """

    def __init__(self, *, name: str, pretrained: bool = False, freeze_at: int = 0) -> None:
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
        self._keep_frozen: list[nn.Module] = []
        if freeze_at:
            self._freeze(timm, name, available, freeze_at)

    @property
    def size_divisibility(self) -> int:
        return STRIDES[-1]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return dict(zip(self._out_features, self.body(x), strict=True))

    def train(self, mode: bool = True) -> TimmBackbone:
        super().train(mode)
        for module in self._keep_frozen:
            module.eval()
        return self

    def _freeze(self, timm: ModuleType, name: str, strides: Sequence[int], freeze_at: int) -> None:
        """Freeze what a map of stride 2 ** ``freeze_at`` depends on: what has a gradient from it."""
        if 2**freeze_at not in strides:
            raise ValueError(
                f"MODEL.BACKBONE.FREEZE_AT is {freeze_at}, and timm's {name} has no map of stride {2**freeze_at} "
                f"(it has {', '.join(map(str, strides))})"
            )
        probe = timm.create_model(name, features_only=True, out_indices=[strides.index(2**freeze_at)])
        output = probe(torch.zeros(1, 3, _PROBE_SIZE, _PROBE_SIZE))[0]
        parameters = dict(probe.named_parameters())
        gradients = torch.autograd.grad(output.sum(), list(parameters.values()), allow_unused=True)
        used = {path for path, gradient in zip(parameters, gradients, strict=True) if gradient is not None}
        for path, parameter in self.body.named_parameters():
            parameter.requires_grad_(path not in used)
        frozen = {path.rpartition(".")[0] for path in used}
        self._keep_frozen = [m for path, m in self.body.named_modules() if path in frozen]


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """Build MODEL.TIMM; with MODEL.BACKBONE.FREEZE_AT.

    MODEL.RESNETS.DEFORM_ON_PER_STAGE makes stages of ResNets, Res2Nets and ResNeXts deformable.

    Raises:
        ValueError: it is set for a network without such stages.
    """
    backbone = TimmBackbone(
        name=cfg.MODEL.TIMM.NAME, pretrained=cfg.MODEL.TIMM.PRETRAINED, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT
    )
    for number, deformable in enumerate(cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE, start=1):
        if deformable and not hasattr(backbone.body, f"layer{number}"):
            raise ValueError(f"MODEL.RESNETS.DEFORM_ON_PER_STAGE: {cfg.MODEL.TIMM.NAME} has no stage layer{number}")
        if deformable:
            make_deformable(getattr(backbone.body, f"layer{number}"))
    return backbone
