"""Detectron2's Swin Transformers (Liu et al. 2021) as backbones."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone.swin import SwinTransformer

#: Size -> width of the first stage, blocks and attention heads of each stage.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"embed_dim": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24)},
    "small": {"embed_dim": 96, "depths": (2, 2, 18, 2), "num_heads": (3, 6, 12, 24)},
    "base": {"embed_dim": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32)},
    "large": {"embed_dim": 192, "depths": (2, 2, 18, 2), "num_heads": (6, 12, 24, 48)},
}


@BACKBONE_REGISTRY.register()
def build_swin_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> SwinTransformer:
    """Build the transformer of MODEL.SWIN; (N, 3, H, W) becomes "p0".."p3" (N, c, H / R, W / R), R 4 to
    32, of which MODEL.SWIN.OUT_FEATURES are given.

    H and W are multiples of 32. The official files load through MODEL.WEIGHTS. MODEL.SWIN.DROP_PATH above 0 needs
    timm.

    Raises:
        ValueError: there is no such size.
    """
    settings = cfg.MODEL.SWIN
    if settings.SIZE not in SIZES:
        raise ValueError(f"MODEL.SWIN.SIZE must be one of {list(SIZES)}, not {settings.SIZE!r}")
    backbone = SwinTransformer(
        **SIZES[settings.SIZE],
        window_size=settings.WINDOW,
        drop_path_rate=settings.DROP_PATH,
        frozen_stages=cfg.MODEL.BACKBONE.FREEZE_AT - 1,
        out_indices=[int(name.removeprefix("p")) for name in settings.OUT_FEATURES],
    )
    # Detectron2 reads this attribute and does not set it. Sides of 32 are what keeps the maps exact halves.
    backbone._size_divisibility = 32
    return backbone
