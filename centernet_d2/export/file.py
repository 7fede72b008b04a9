"""From a config and its weights to an exported file."""

from __future__ import annotations

from pathlib import Path

from detectron2.config import CfgNode
from detectron2.modeling import build_model

from centernet_d2.checkpoint.checkpointer import SafeCheckpointer
from centernet_d2.export.onnx import export_onnx
from centernet_d2.export.torchscript import export_torchscript
from centernet_d2.export.verify import check_file


def export_file(
    cfg: CfgNode, path: Path, batch_size: int = 1, dynamic: bool = False, check: bool = False
) -> dict[str, float]:
    """Write the model of ``cfg`` with its MODEL.WEIGHTS to ``path``: ONNX where it ends in ".onnx", else TorchScript.

    Returns:
        With ``check``, the largest difference of each output from the model's, see :func:`check_file`.

    Raises:
        As :func:`export_onnx`, and as ``SafeCheckpointer.load``.
    """
    model = build_model(cfg).eval()
    SafeCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    if path.suffix == ".onnx":
        graph = export_onnx(cfg, model, path, batch_size, dynamic)
    else:
        graph = export_torchscript(cfg, model, path, batch_size)
    return check_file(graph, path, batch_size, dynamic) if check else {}
