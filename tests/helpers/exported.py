"""A small network on synthetic shapes: a training's folder, and its exported file."""

from __future__ import annotations

from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from centernet_d2 import model_zoo
from centernet_d2.checkpoint.checkpointer import SafeCheckpointer
from centernet_d2.engine import setup_cfg
from centernet_d2.export import export_file

SMALL = [
    "MODEL.DEVICE=cpu", "MODEL.HOURGLASS.CHANNELS=[8, 8]", "MODEL.HOURGLASS.BLOCKS=[1, 1]",
    "INPUT.SIZE_TRAIN=[64, 64]", "INPUT.SIZE_TEST=[64, 64]",
]  # fmt: skip


def write_run(folder: Path, config: str = "Synthetic/shapes_1pt.yaml", seed: int = 0, *opts: str) -> CfgNode:
    """``config.yaml`` and ``model_final.pth`` of random weights, as a training leaves them."""
    folder.mkdir(parents=True, exist_ok=True)
    cfg = setup_cfg(model_zoo.get_config_file(config), [*SMALL, f"OUTPUT_DIR={folder}", *opts])
    torch.manual_seed(seed)
    model = build_model(cfg)
    (folder / "config.yaml").write_text(cfg.dump())
    SafeCheckpointer(model, str(folder)).save("model_final")
    return cfg


def export_synthetic(path: Path) -> None:
    """Export the network of :func:`write_run`."""
    cfg = write_run(path.parent / "run")
    cfg.defrost()
    cfg.MODEL.WEIGHTS = str(path.parent / "run" / "model_final.pth")
    export_file(cfg, path)
