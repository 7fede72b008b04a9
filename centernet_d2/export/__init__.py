"""Models as files that run without this package: ONNX, TorchScript."""

from centernet_d2.export.checking import check_file, differences, drawn_inputs
from centernet_d2.export.files import export_onnx, export_torchscript
from centernet_d2.export.graph import ExportedGraph, describe

__all__ = [
    "ExportedGraph",
    "check_file",
    "describe",
    "differences",
    "drawn_inputs",
    "export_onnx",
    "export_torchscript",
]
