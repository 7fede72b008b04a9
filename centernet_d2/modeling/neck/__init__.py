"""One file a neck; importing this registers them."""

from centernet_d2.modeling.neck.build import NECK_REGISTRY, build_neck

__all__ = ["NECK_REGISTRY", "build_neck"]
