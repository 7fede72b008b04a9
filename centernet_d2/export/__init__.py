"""Models as files that run without this package: ONNX, TorchScript."""

from centernet_d2.export.file import export_file
from centernet_d2.export.graph import ExportedGraph, describe
from centernet_d2.export.onnx import export_onnx
from centernet_d2.export.torchscript import export_torchscript
from centernet_d2.export.verify import check_file, compute_differences, make_synthetic_inputs

__all__ = [
    "ExportedGraph",
    "check_file",
    "compute_differences",
    "describe",
    "export_file",
    "export_onnx",
    "export_torchscript",
    "make_synthetic_inputs",
]
