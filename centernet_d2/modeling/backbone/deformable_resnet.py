"""Detectron2's ResNets with deformable convolutions that run on CPUs and GPUs."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone.resnet import ResNet, build_resnet_backbone

from centernet_d2.layers.deform_conv import make_deformable


@BACKBONE_REGISTRY.register()
def build_deformable_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Build ``build_resnet_backbone`` of the same keys; MODEL.RESNETS.DEFORM_ON_PER_STAGE needs no compiled operator.

    Deformable convolutions are modulated (version 2) with one group of offsets. They keep the names and weights of the
    convolutions that they replace, so the files of plain ResNets load.

    Raises:
        ValueError: another kind of deformable convolution is wanted.
    """
    settings = cfg.MODEL.RESNETS
    stages = list(settings.DEFORM_ON_PER_STAGE)
    if any(stages) and settings.DEFORM_NUM_GROUPS != 1:
        raise ValueError(f"MODEL.RESNETS.DEFORM_NUM_GROUPS must be 1, not {settings.DEFORM_NUM_GROUPS}")
    plain = cfg.clone()
    plain.defrost()
    plain.MODEL.RESNETS.DEFORM_ON_PER_STAGE = [False] * len(stages)
    backbone = build_resnet_backbone(plain, input_shape)
    for stage, deformable in zip(backbone.stages, stages, strict=False):
        if deformable:
            make_deformable(stage)
    return backbone
