"""Converts checkpoints between reference names and ours, with a report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import Tensor

from centernet_d2.checkpoint.centerface import NETWORK
from centernet_d2.checkpoint.naming import compare, describe_differences, extract_weights, format_place_of_weights
from centernet_d2.checkpoint.reading import load_file
from centernet_d2.checkpoint.reference_names import Conversion, convert_reference, to_reference
from centernet_d2.checkpoint.writing import save_checkpoint
from centernet_d2.structures.model_metadata import CHECKPOINT_KEY

#: Whose names a file is written with.
NAMES = ("ours", "published")


def convert_file(
    source: Path, target: Path, names: str = "ours", half: bool = False
) -> tuple[dict[str, Tensor], list[str]]:
    """Write ``target`` with the weights of ``source`` under other names, one of :data:`NAMES`.

    "ours" is read by this project, "published" by CenterNet's own code, which wants an epoch beside the weights and
    starts without the rest (optimizer, parameters that no output depends on). With ``half`` numbers are written as
    float16, which loads as any other checkpoint.

    Returns:
        The weights by our names as they were, and a report: the network, and every skipped tensor with the reason.

    Raises:
        OSError, UnsafeCheckpointError, CorruptCheckpointError: as ``load_file`` and ``save_checkpoint``.
        ValueError: the weights are of no known network, or the reference one has no such parameter.
    """
    if target.exists() and target.samefile(source):
        raise ValueError(f"{target} would be overwritten: give the result another name")
    data = load_file(source)
    weights = extract_weights(data, str(source))
    try:
        if names == "published":
            ours, result, report = _to_reference(weights)
        else:
            ours, result, report = _to_ours(_recognize(source, data, weights))
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    place = format_place_of_weights(data)
    others = [key for key in data if key not in (place, CHECKPOINT_KEY)] if place is not None else []
    if place is not None and CHECKPOINT_KEY in data:
        result[CHECKPOINT_KEY] = data[CHECKPOINT_KEY]
    save_checkpoint(_halve(result) if half else result, target)
    beside = [f"left out, not weights: {', '.join(others)}"] if others else []
    return ours, [f"{source}: {len(weights)} tensors", *report, *beside, f"{target}: {len(ours)} tensors"]


def _halve(value: Any) -> Any:
    """Return nested dictionaries with floating-point tensors as float16."""
    if isinstance(value, Mapping):
        return {name: _halve(one) for name, one in value.items()}
    return value.half() if isinstance(value, Tensor) and value.is_floating_point() else value


def describe_fit(weights: dict[str, Tensor], cfg: CfgNode) -> list[str]:
    """Return one sentence for each head or part of the config's model that ``weights`` (our
    names) do not fit or fill."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg)
    return describe_differences(model, compare(weights, model.state_dict()))


def _recognize(source: Path, data: Mapping[str, Any], weights: dict[str, Tensor]) -> Conversion[Tensor]:
    if source.suffix == ".onnx":  # CenterFace's file has been converted when it was read
        return Conversion(NETWORK, weights, {})
    if CHECKPOINT_KEY in data:
        return Conversion("this project", weights, {})
    return convert_reference(weights)


def _to_ours(conversion: Conversion[Tensor]) -> tuple[dict[str, Tensor], dict[str, Any], list[str]]:
    report = [f"weights of {conversion.network}", *conversion.describe_left_out()]
    return conversion.weights, {"model": conversion.weights}, report


def _to_reference(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any], list[str]]:
    return weights, {"epoch": 0, "state_dict": to_reference(weights)}, []
