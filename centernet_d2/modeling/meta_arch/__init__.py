"""Meta-architectures."""

from centernet_d2.modeling.meta_arch.centernet import CenterNet

__all__ = ["CenterNet"]
