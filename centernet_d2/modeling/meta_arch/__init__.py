"""Meta-architectures."""

from centernet_d2.modeling.meta_arch.centernet import CenterNet
from centernet_d2.modeling.meta_arch.centertrack import CenterTrack

__all__ = ["CenterNet", "CenterTrack"]
