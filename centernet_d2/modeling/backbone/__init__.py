"""One file a family; importing this registers them. ResNets are Detectron2's own ``build_resnet_backbone``."""

from centernet_d2.modeling.backbone.dla import DLA, build_dla_backbone
from centernet_d2.modeling.backbone.hourglass import HourglassNet, build_hourglass_backbone

__all__ = ["DLA", "HourglassNet", "build_dla_backbone", "build_hourglass_backbone"]
