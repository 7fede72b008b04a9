"""Maps parameter names of other projects' files to the model's names."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from fvcore.common.checkpoint import _IncompatibleKeys
from torch import Tensor, nn

from centernet_d2.checkpoint.efficientnet_names import convert_efficientnet
from centernet_d2.checkpoint.reference_names import UNKNOWN, Conversion, convert_imagenet, convert_reference
from centernet_d2.checkpoint.renamed import rename_parameters

_logger = logging.getLogger(__name__)

# Where whole files keep their weights: Detectron2, most others, pycls, Caffe2.
_COUNTER = ".num_batches_tracked"
_KEYS = ("model", "state_dict", "model_state", "blobs")


def format_place_of_weights(data: Mapping[str, Any]) -> str | None:
    """Return the key of a file's contents that holds its weights; None if the contents are the weights."""
    return next((key for key in _KEYS if isinstance(data.get(key), dict)), None)


def extract_weights(data: Mapping[str, Any], path: str) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name, without the "module." of (Distributed)DataParallel.

    Other values are skipped, with one log message per kind.

    Raises:
        ValueError: there are no tensors.
    """
    place = format_place_of_weights(data)
    weights = data if place is None else data[place]
    weights = {name: torch.from_numpy(x) if isinstance(x, np.ndarray) else x for name, x in weights.items()}
    strange = [name for name, x in weights.items() if not isinstance(x, Tensor)]
    if len(strange) == len(weights):
        found = f"{strange[0]!r} is a {type(weights[strange[0]]).__name__}" if strange else "it is empty"
        raise ValueError(f"{path} holds no weights under any of {', '.join(_KEYS)}, or directly: {found}")
    for kind in sorted({type(weights[name]).__name__ for name in strange}):
        names = [name for name in strange if type(weights[name]).__name__ == kind]
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        _logger.warning("left out, no tensor but a %s: %s", kind, shown)
    weights = {name: x for name, x in weights.items() if isinstance(x, Tensor)}
    # A counter beside them need not have the prefix.
    if 2 * sum(name.startswith("module.") for name in weights) > len(weights):
        weights = {name.removeprefix("module."): x for name, x in weights.items()}
    return rename_parameters(weights)


def match_names(weights: dict[str, Tensor], model: Mapping[str, Tensor]) -> Conversion[Tensor]:
    """Return ``weights`` under the names that fit most of the ``model``'s tensors, without tensors of an unknown kind.

    Tried are the names as they are, those of CenterNet's reference models, of torchvision's ResNets and of DLA-34 on
    ImageNet, and each of these below a part of the model (a bare backbone of any family).
    """
    kinds = {_get_kind(name) for name in model} | {
        "weight",
        "bias",
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }
    strange = {name: f"{UNKNOWN} this model" for name in weights if _get_kind(name) not in kinds}
    weights = {name: x for name, x in weights.items() if name not in strange}
    best = Conversion("", weights, {})
    best_count = count_fitting(weights, model)
    for candidate in _iterate_candidates(weights):
        for prefix in _list_prefixes(model):
            prefixed = {prefix + name: x for name, x in candidate.weights.items()}
            count = count_fitting(prefixed, model)
            if count > best_count:
                best, best_count = candidate._replace(weights=prefixed), count
    return best._replace(left_out={**best.left_out, **strange})


def _get_kind(name: str) -> str:
    """Return the last part of a parameter name, such as "weight". Profilers add others, such as "total_ops"."""
    return name.rpartition(".")[2]


def recognize_network(weights: dict[str, Tensor]) -> str:
    """Return the name of the reference network; "" if unknown."""
    return next((candidate.network for candidate in _iterate_candidates(weights) if candidate.network), "")


def count_fitting(weights: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> int:
    """Count the tensors that agree in name and shape."""
    return sum(name in model and model[name].shape == x.shape for name, x in weights.items())


def compare(weights: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> _IncompatibleKeys:
    """Return what ``load_state_dict`` would report. A BatchNorm's ``num_batches_tracked`` may be missing."""
    return _IncompatibleKeys(
        missing_keys=[name for name in model if name not in weights and not name.endswith(".num_batches_tracked")],
        unexpected_keys=[name for name in weights if name not in model],
        incorrect_shapes=[
            (name, tuple(x.shape), tuple(model[name].shape))
            for name, x in weights.items()
            if name in model and x.shape != model[name].shape
        ],
    )


def describe_differences(model: nn.Module, differences: _IncompatibleKeys) -> list[str]:
    """Return one sentence per part of the model that the checkpoint does not fill, or has but the model does not."""
    sentences = describe_mismatches(model, differences.incorrect_shapes)
    mismatched = {name for name, *_ in differences.incorrect_shapes}
    sizes = {part: len(names) for part, names in _group_by_part(model.state_dict()).items()}
    for part, names in _group_by_part(name for name in differences.missing_keys if name not in mismatched).items():
        lacking = f"checkpoint lacks {len(names)} of the {sizes[part]} tensors of the {part}"
        sentences.append(f"{lacking}: they start new (such as {names[0]})")
    for part, names in _group_by_part(differences.unexpected_keys).items():
        sentences.append(f"the model has no use for {len(names)} tensors of the {part} (such as {names[0]})")
    return sentences


def describe_loaded(path: str, weights: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> str:
    """Return one sentence: how many tensors of each part of the ``model`` come from the file, which part has none, and
    how many of the file are not used."""
    fits = {name for name, x in weights.items() if name in model and model[name].shape == x.shape}
    parts = {
        part: (sum(name in fits for name in names), len(names))
        for part, names in _group_by_part(name for name in model if not name.endswith(_COUNTER)).items()
    }
    loaded = ", ".join(f"{part} {count} of {total}" for part, (count, total) in parts.items() if count)
    new = ", ".join(part for part, (count, _) in parts.items() if not count)
    unused = sum(name not in fits for name in weights)
    return f"{path}: loaded {loaded or 'nothing'}; new {new or 'nothing'}; not used {unused} of the file"


def describe_mismatches(model: nn.Module, mismatches: list[tuple[str, tuple[int, ...], tuple[int, ...]]]) -> list[str]:
    """Return one sentence per layer whose (name, shape in the checkpoint, shape in the model) disagree."""
    heads: dict[str, tuple[int, int]] = {}
    sentences: list[str] = []
    for name, theirs, ours in mismatches:
        found = re.match(r"(.*\.heads\.\w+)\.layers\.", name)
        if found and theirs[1:] == ours[1:]:
            heads[found[1]] = (theirs[0], ours[0])
        else:
            sentences.append(f"{name} is {theirs} in the checkpoint and {ours} in the model: it starts new")
    # All heads but the class heatmap have equal shapes for equal grid points.
    same_points = all(name.endswith("heatmap") for name in heads)
    for name, (their_channels, our_channels) in heads.items():
        classes = int(getattr(model.get_submodule(name), "num_classes", 0))
        points = our_channels // classes if classes else 1
        if same_points and classes and their_channels % points == 0:
            difference = f"checkpoint has {their_channels // points} classes, the model {classes}"
        else:
            difference = f"checkpoint has {their_channels} channels, the model {our_channels}"
        sentences.append(f"{difference}: {name.rpartition('.')[2]} head is new")
    return sentences


def _group_by_part(names: Iterable[str]) -> dict[str, list[str]]:
    """Group parameters by the head or the part of the model (backbone, neck) that they belong to."""
    parts: dict[str, list[str]] = {}
    for name in names:
        head = re.match(r"task\.heads\.(\w+)\.", name)
        parts.setdefault(f"{head[1]} head" if head else name.partition(".")[0], []).append(name)
    return parts


def _iterate_candidates(weights: dict[str, Tensor]) -> Iterator[Conversion[Tensor]]:
    yield Conversion("", weights, {})
    for convert in (convert_reference, convert_imagenet, convert_efficientnet):
        with contextlib.suppress(ValueError):
            yield convert(weights)


def _list_prefixes(model: Mapping[str, Tensor]) -> list[str]:
    """Return the prefixes of the model itself, of its parts, and of their parts."""
    parts = {".".join(name.split(".")[:depth]) + "." for name in model for depth in (1, 2) if name.count(".") >= depth}
    return ["", *sorted(parts)]
