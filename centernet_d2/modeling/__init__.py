"""Importing this registers backbones, necks, heads, tasks and meta-architectures."""

from centernet_d2.modeling import backbone, heads, meta_arch, neck, tasks

__all__ = ["backbone", "heads", "meta_arch", "neck", "tasks"]
