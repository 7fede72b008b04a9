"""The registries of heads, tasks and necks, and what a config's task needs of the data.

They stand here, beside Detectron2's own, so that the data layer can ask what a task needs without knowing the models.
"""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils.registry import Registry

HEAD_REGISTRY = Registry("HEAD")
HEAD_REGISTRY.__doc__ = "Heads by name: ``Head`` classes built from a config and the widths of the stacks' maps."
TASK_REGISTRY = Registry("TASK")
TASK_REGISTRY.__doc__ = "Tasks by name: ``Task`` classes built from a config and the widths of the stacks' maps."
NECK_REGISTRY = Registry("NECK")
NECK_REGISTRY.__doc__ = "Necks by name: called with a config and the backbone's ``output_shape()``."


def get_required_fields(cfg: CfgNode) -> tuple[str, ...]:
    """Return the fields of an object that training needs besides box and class: names in ``data.fields.FIELDS`` that
    the config's task and meta-architecture declare as ``required_fields``.

    Raises:
        KeyError: there is no such task or meta-architecture.
    """
    classes = (TASK_REGISTRY.get(cfg.MODEL.CENTERNET.TASK), META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE))
    return tuple(dict.fromkeys(name for one in classes for name in getattr(one, "required_fields", ())))
