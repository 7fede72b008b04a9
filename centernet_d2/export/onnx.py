"""Writing exported models: ONNX by torch.export, TorchScript by tracing."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor

from centernet_d2.checkpoint.writing import write_atomically
from centernet_d2.export.graph import ExportedGraph, describe, name_outputs
from centernet_d2.export.verify import make_synthetic_inputs
from centernet_d2.modeling.meta_arch import CenterNet

#: The first with DeformConv is 19; GroupNormalization and others are settled by 20, which runtimes have known for long.
OPSET = 20


def export_onnx(
    cfg: CfgNode, model: CenterNet, path: str | Path, batch_size: int = 1, dynamic: bool = False
) -> ExportedGraph:
    """Write ``model`` as ONNX, with :func:`~centernet_d2.export.graph.describe` as JSON values in its metadata.

    Args:
        cfg: which ``model`` was built from; images are of ``INPUT.SIZE_TEST``.
        batch_size: of the inputs, where not ``dynamic``.
        dynamic: batches of any number of images, of any size from twice what the network divides by.

    Returns:
        The exported graph, for :func:`~centernet_d2.export.verify.check_file`.

    Raises:
        ValueError: one graph cannot do what the config says, such as TEST.AUG.
        ImportError: onnx or onnxscript is not installed.
    """
    graph, inputs, description = _prepare(cfg, model, batch_size, dynamic)
    shapes = _make_dynamic_shapes(len(inputs), model.divisibility) if dynamic else None
    with torch.no_grad(), warnings.catch_warnings():
        # Warnings of the exporter about itself and copied initializers.
        warnings.simplefilter("ignore")
        # Strict mode keeps len() of a tensor as a variable.
        program = torch.export.export(graph, inputs, dynamic_shapes=shapes, strict=True)
        _check_sizes(program)
        converted = torch.onnx.export(
            program,
            opset_version=OPSET,
            input_names=graph.input_names,
            output_names=list(name_outputs(graph.get_candidates(*inputs))),
            verbose=False,
        )
    assert converted is not None
    converted.model.metadata_props.update({name: json.dumps(value) for name, value in description.items()})
    data = converted.model_proto.SerializeToString()
    write_atomically(Path(path), lambda file: file.write(data), lambda _: None)
    return graph


def _prepare(
    cfg: CfgNode, model: CenterNet, batch_size: int, dynamic: bool
) -> tuple[ExportedGraph, tuple[Tensor, ...], dict[str, Any]]:
    graph = ExportedGraph(model).eval()
    size = graph.get_size()
    if dynamic:
        # The exporter treats sizes 0 and 1 as constants.
        minimum = 2 * model.divisibility
        batch_size, size = max(batch_size, 2), (max(size[0], minimum), max(size[1], minimum))
    inputs = make_synthetic_inputs(model, batch_size, size)
    with torch.no_grad():
        predictions = graph.get_candidates(*inputs)
    return graph, inputs, describe(cfg, model, predictions, None if dynamic else size)


def _check_sizes(program: torch.export.ExportedProgram) -> None:
    """Raise if the exporter restricted the sizes to those of the example without a warning."""
    if any(bounds.upper.is_Integer for bounds in program.range_constraints.values()):
        raise ValueError(
            "the steps of this model's decoding depend on the image size (MODEL.EXTREME.EDGE_AGGREGATION): "
            "export one size, not dynamic ones"
        )


def _make_dynamic_shapes(count: int, divisibility: int) -> tuple[tuple[dict[int, Any], ...]]:
    batch, rows, columns = (
        torch.export.Dim("batch"),
        torch.export.Dim("rows", min=2),
        torch.export.Dim("columns", min=2),
    )
    return (tuple({0: batch, 2: divisibility * rows, 3: divisibility * columns} for _ in range(count)),)
