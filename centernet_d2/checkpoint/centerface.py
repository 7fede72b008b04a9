"""Weights of CenterFace (Xu et al. 2019, "CenterFace: Joint Face Detection and Alignment Using Face as Point",
arXiv:1911.03599) from its published ONNX file, for ``configs/Pretrained/centerface.yaml``.

What differs there: normalizations are part of the convolutions before them; y comes before x; offsets are measured from
the center of a cell; the neck's normalizations have another epsilon. Ours is the same network in the frame's
conventions.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from centernet_d2.checkpoint.onnx_initializers import OnnxFormatError, read_initializers

#: Name of the network in reports.
NETWORK = "CenterFace"
# Of our normalizations, and of the neck's there.
_EPSILON, _NECK_EPSILON = 1e-5, 1e-3
# Their name of a head, ours, and the order of its channels there that gives ours: x before y.
_HEADS = (
    ("pos_conv", "heatmap", [0]),
    ("reg_conv", "box_size", [1, 0]),
    ("off_conv", "offset", [1, 0]),
    ("lm_conv", "keypoint_regression", [1, 0, 3, 2, 5, 4, 7, 6, 9, 8]),
)


def convert_centerface(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Return the weights of a published ``centerface.onnx`` under our names, float32.

    Raises:
        OSError: the file can't be read.
        ValueError: it is damaged, or of another network.
    """
    try:
        published = read_initializers(path)
        return {name: torch.from_numpy(np.array(x, np.float32)) for name, x in _convert(published)}
    except OnnxFormatError as error:
        raise ValueError(f"{os.fspath(path)} is damaged or no ONNX file: {error}") from None
    except KeyError as error:
        raise ValueError(
            f"{os.fspath(path)} is not CenterFace's, the only ONNX file that weights are read from: it has no {error}"
        ) from None


def _convert(published: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and value of every tensor; KeyError names what ``published`` lacks."""
    layers = list(_list_fused_layers())
    # These have numbers for names, two for each layer in the order of the graph: weight, bias.
    numbers = sorted((name for name in published if name.isdecimal()), key=int)
    if len(numbers) != 2 * len(layers):
        raise KeyError(f"{len(layers)} convolutions with a bias")
    for (convolution, norm), *pair in zip(layers, numbers[::2], numbers[1::2], strict=True):
        weight, bias = (published[name] for name in pair)
        ones = np.ones_like(bias)
        yield f"{convolution}.weight", weight
        yield from _name_norm(norm, ones, bias, 0 * ones, ones - _EPSILON)
    for i in range(3):
        theirs, ours = f"neck.deconv_layers.{2 - i}", f"neck.ups.{i}"
        weight, bias, mean, variance = (
            published[f"{theirs}.bn.{key}"] for key in ("weight", "bias", "running_mean", "running_var")
        )
        yield f"{ours}.0.weight", published[f"{theirs}.conv.weight"]
        yield from _name_norm(f"{ours}.1", weight, bias, mean, variance + (_NECK_EPSILON - _EPSILON))
    for theirs, ours, order in _HEADS:
        weight, bias = (published[f"head.{theirs}.{key}"] for key in ("weight", "bias"))
        if len(weight) != len(order) or bias.shape != (len(order),):
            raise KeyError(f"head of {len(order)} channels")
        yield f"task.heads.{ours}.layers.0.0.weight", weight[order]
        yield f"task.heads.{ours}.layers.0.0.bias", bias[order] + (0.5 if ours == "offset" else 0)


def _name_norm(
    name: str, weight: np.ndarray, bias: np.ndarray, mean: np.ndarray, variance: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    values = {"weight": weight, "bias": bias, "running_mean": mean, "running_var": variance}
    yield from ((f"{name}.{key}", value) for key, value in values.items())


def _list_fused_layers() -> Iterator[tuple[str, str]]:
    """Yield our names of each convolution and of its normalization, in the order of the network."""
    body = "backbone.body.features"
    yield f"{body}.0.0", f"{body}.0.1"
    for block in range(1, 18):
        # Expansion (but in the first block) and depthwise convolution, then projection.
        inner = 1 if block == 1 else 2
        for i in range(inner):
            yield f"{body}.{block}.conv.{i}.0", f"{body}.{block}.conv.{i}.1"
        yield f"{body}.{block}.conv.{inner}", f"{body}.{block}.conv.{inner + 1}"
    for name in (*(f"neck.laterals.{i}" for i in range(4)), "neck.output"):
        yield name, f"{name}.norm"
