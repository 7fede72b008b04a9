"""What turns a backbone's maps into the stride-4 map; importing this registers the necks."""

from centernet_d2.modeling.neck.build import NECK_REGISTRY, Neck, build_neck
from centernet_d2.modeling.neck.deconv import DeconvNeck
from centernet_d2.modeling.neck.dla_up import DLAUpNeck

__all__ = ["NECK_REGISTRY", "DLAUpNeck", "DeconvNeck", "Neck", "build_neck"]
