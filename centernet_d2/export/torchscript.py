"""TorchScript export, by tracing."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch
from detectron2.config import CfgNode

from centernet_d2.checkpoint.writing import write_atomically
from centernet_d2.export.graph import ExportedGraph, name_outputs
from centernet_d2.export.onnx import _prepare
from centernet_d2.modeling.meta_arch import CenterNet

#: The file in a TorchScript archive that holds the description.
DESCRIPTION = "centernet_d2.json"


def export_torchscript(cfg: CfgNode, model: CenterNet, path: str | Path, batch_size: int = 1) -> ExportedGraph:
    """Write ``model`` as TorchScript for batches of ``batch_size`` images of ``INPUT.SIZE_TEST``, on the device of
    the model; the description is the file ``DESCRIPTION`` in it. Otherwise as :func:`export_onnx`."""
    graph, inputs, description = _prepare(cfg, model, batch_size, dynamic=False)
    with torch.no_grad(), warnings.catch_warnings():
        # Constant sizes are intended, and TorchScript is deprecated.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        description["outputs"] = list(name_outputs(graph.get_candidates(*inputs)))
        traced = torch.jit.freeze(torch.jit.trace(graph, inputs, check_trace=False))
        extra = {DESCRIPTION: json.dumps(description)}
        write_atomically(Path(path), lambda file: torch.jit.save(traced, file, _extra_files=extra), lambda _: None)
    return graph
