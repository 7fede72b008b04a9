"""Names of EfficientNet in lukemelas' PyTorch port to those of timm, which our ``EfficientNetLite`` has as well."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from centernet_d2.checkpoint.reference_names import UNKNOWN, Conversion

_LAYERS = {"_conv_stem": "conv_stem", "_bn0": "bn1"}
_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
# Of blocks without expansion.
_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_CLASSIFIER = ("_conv_head.", "_bn1.", "_fc.")


def convert_efficientnet(weights: Mapping[str, Tensor]) -> Conversion[Tensor]:
    """Return ``weights`` under timm's names, without the classifier.

    The port numbers all blocks in a row; a stage begins where the number of output channels changes.

    Raises:
        ValueError: they are not of that port.
    """
    if "_conv_stem.weight" not in weights:
        raise ValueError("not EfficientNet: no _conv_stem.weight")
    places = _place_blocks(weights)
    converted, left_out = {}, {}
    for name, value in weights.items():
        block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
        layer, _, kind = name.rpartition(".")
        if block:
            stage, index = places[int(block[1])]
            names = _BLOCK if f"_blocks.{block[1]}._expand_conv.weight" in weights else _FIRST_BLOCK
            ours = names.get(block[2]) and f"blocks.{stage}.{index}.{names[block[2]]}.{block[3]}"
        else:
            ours = _LAYERS.get(layer) and f"{_LAYERS[layer]}.{kind}"
        if ours:
            converted[ours] = value
        else:
            left_out[name] = "not of the backbone" if name.startswith(_CLASSIFIER) else f"{UNKNOWN} EfficientNet"
    return Conversion("EfficientNet", converted, left_out)


def _place_blocks(weights: Mapping[str, Tensor]) -> list[tuple[int, int]]:
    """Return (stage, index in the stage) of each block."""
    places: list[tuple[int, int]] = []
    width = 0
    while (projection := weights.get(f"_blocks.{len(places)}._project_conv.weight")) is not None:
        stage, index = places[-1] if places else (-1, 0)
        places.append((stage, index + 1) if len(projection) == width else (stage + 1, 0))
        width = len(projection)
    return places
