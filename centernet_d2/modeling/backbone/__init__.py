"""One file a family; importing this registers them. Plain ResNets are Detectron2's own
``build_resnet_backbone``."""

from centernet_d2.modeling.backbone.darknet import Darknet, build_darknet_backbone
from centernet_d2.modeling.backbone.deformable_resnet import build_deformable_resnet_backbone
from centernet_d2.modeling.backbone.dla import DLA, build_dla_backbone
from centernet_d2.modeling.backbone.efficientnet_lite import EfficientNetLite, build_efficientnet_lite_backbone
from centernet_d2.modeling.backbone.hourglass import HourglassNet, build_hourglass_backbone
from centernet_d2.modeling.backbone.swin import build_swin_backbone
from centernet_d2.modeling.backbone.timm import TimmBackbone, build_timm_backbone
from centernet_d2.modeling.backbone.torchvision import TorchvisionBackbone, build_torchvision_backbone

__all__ = [
    "DLA",
    "Darknet",
    "EfficientNetLite",
    "HourglassNet",
    "TimmBackbone",
    "TorchvisionBackbone",
    "build_darknet_backbone",
    "build_deformable_resnet_backbone",
    "build_dla_backbone",
    "build_efficientnet_lite_backbone",
    "build_hourglass_backbone",
    "build_swin_backbone",
    "build_timm_backbone",
    "build_torchvision_backbone",
]
