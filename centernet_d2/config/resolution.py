"""Values of a config that depend on its datasets, filled in before a model is built from it."""

from __future__ import annotations

from collections.abc import Callable

from detectron2.config import CfgNode

_RESOLVERS: list[Callable[[CfgNode], None]] = []


def register_resolver(function: Callable[[CfgNode], None]) -> Callable[[CfgNode], None]:
    """Register ``function``, which fills values into a config in place; :func:`resolve` calls it. A decorator."""
    _RESOLVERS.append(function)
    return function


def resolve(cfg: CfgNode) -> CfgNode:
    """Return a copy of ``cfg`` with ``MODEL.CENTERNET.NUM_CLASSES``, ``MODEL.KEYPOINT.SCHEMA`` and the shape of the
    input taken from the datasets where the config leaves them open. ``DATASETS.CUSTOM`` is registered.

    Raises:
        ValueError: the config and the datasets do not agree.
        FileNotFoundError: the files of the datasets are needed and absent.
    """
    cfg = cfg.clone()
    cfg.defrost()
    for function in _RESOLVERS:
        function(cfg)
    return cfg
