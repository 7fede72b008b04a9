"""The configurations of the package, by their path below ``configs/``."""

from __future__ import annotations

import difflib
import importlib
import os
from pathlib import Path
from typing import Any

_PACKAGED = Path(__file__).parent / "configs"
_CHECKOUT = Path(__file__).parents[2] / "configs"


def get_config_root() -> Path:
    """Return the folder of the configurations: in the package where it is installed, else
    ``configs/`` of the checkout."""
    return _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT


def list_configs() -> list[str]:
    """Return names that :func:`get_config_file` takes, without the bases of others."""
    root = get_config_root()
    names = [path.relative_to(root).as_posix() for path in root.rglob("*.yaml") if not path.name.startswith("Base-")]
    return sorted(names)


def get_config_file(name: str) -> str:
    """Return the path of a configuration, such as "COCO-Detection/centernet_R_18_DCN_1pt.yaml".

    Raises:
        FileNotFoundError: there is none of this name (the closest are named).
    """
    root = get_config_root().resolve()
    path = (root / name).resolve()
    if path.is_file() and path.is_relative_to(root):
        return str(path)
    close = ", ".join(difflib.get_close_matches(name, list_configs(), n=3, cutoff=0.5))
    raise FileNotFoundError(f"there is no configuration {name!r}" + (f"; did you mean {close}?" if close else ""))


def find_config(text: str) -> str:
    """Return the path of a configuration that a user names: a file, or a name of :func:`get_config_file` with or
    without ``configs/`` before it.

    Raises:
        FileNotFoundError: it is neither.
    """
    if not text or os.path.isfile(text):
        return text
    return get_config_file(text.removeprefix("./").removeprefix("configs/"))


def get_config(name: str) -> Any:
    """Return the config (Detectron2's ``CfgNode``) of :func:`get_config_file`, to be changed and built."""
    cfg = importlib.import_module("centernet_d2").get_cfg()
    cfg.merge_from_file(get_config_file(name))
    return cfg
