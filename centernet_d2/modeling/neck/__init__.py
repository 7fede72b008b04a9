"""What turns a backbone's maps into the map, or maps, that the heads read; importing this registers the necks."""

from centernet_d2.modeling.neck.base import NECK_REGISTRY, Neck, build_neck
from centernet_d2.modeling.neck.bifpn import BiFPNNeck
from centernet_d2.modeling.neck.deconv import DeconvNeck
from centernet_d2.modeling.neck.deconv_fpn import DeconvFPNNeck
from centernet_d2.modeling.neck.dla_up import DLAUpNeck
from centernet_d2.modeling.neck.feature_pyramid import FeaturePyramidNeck
from centernet_d2.modeling.neck.fpn import FPNNeck
from centernet_d2.modeling.neck.ida import IDANeck
from centernet_d2.modeling.neck.seb import SEBNeck

__all__ = [
    "NECK_REGISTRY",
    "BiFPNNeck",
    "DLAUpNeck",
    "DeconvFPNNeck",
    "DeconvNeck",
    "FPNNeck",
    "FeaturePyramidNeck",
    "IDANeck",
    "Neck",
    "SEBNeck",
    "build_neck",
]
