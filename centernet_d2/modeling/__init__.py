"""Importing this registers backbones, necks, branches, tasks and meta-architectures."""

from centernet_d2.modeling import backbone, branch, meta_arch, neck, task

__all__ = ["backbone", "branch", "meta_arch", "neck", "task"]
