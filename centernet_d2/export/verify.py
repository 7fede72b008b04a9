"""Compares the outputs of an exported file with those of its model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from centernet_d2.data.synthetic.shapes import ShapesConfig, draw, sample_layout
from centernet_d2.export.graph import ExportedGraph, name_outputs
from centernet_d2.modeling.meta_arch import CenterNet, CenterTrack
from centernet_d2.structures import Candidates

# Candidates whose scores differ by less may swap.
_SAME_SCORE = 1e-4


def make_synthetic_inputs(model: CenterNet, count: int, size: tuple[int, int], seed: int = 0) -> tuple[Tensor, ...]:
    """Return ``count`` synthetic images of ``size`` (height, width) as inputs of ``model``'s graph, on its device: (N,
    3, H, W) uint8; for CenterTrack also previous frames and a heatmap of their objects."""
    shorter = min(size)
    config = ShapesConfig(size[0], size[1], min_size=shorter / 12, max_size=shorter / 2)

    def make_images(first: int) -> Tensor:
        drawn = np.stack([draw(config, seed, first + i) for i in range(count)])
        return torch.from_numpy(np.ascontiguousarray(drawn.transpose(0, 3, 1, 2))).to(model.device)

    if not isinstance(model, CenterTrack):
        return (make_images(0),)
    boxes = [torch.tensor([shape.box for shape in sample_layout(config, seed, count + i)]) for i in range(count)]
    return make_images(0), make_images(count), model.render_heatmap(boxes, size)


def check_file(graph: ExportedGraph, path: str | Path, batch_size: int = 1, dynamic: bool = False) -> dict[str, float]:
    """Return :func:`compute_differences` of an exported file and its model on synthetic images: one batch, and for
    ``dynamic`` files also a larger and a wider one."""
    height, width = graph.get_size()
    shapes = [(batch_size, height, width)]
    if dynamic:
        shapes.append((batch_size + 2, height + graph.model.divisibility, 2 * width))
    run = _make_runner(Path(path), graph.input_names)
    worst: dict[str, float] = {}
    for count, *size in shapes:
        inputs = make_synthetic_inputs(graph.model, count, (size[0], size[1]), seed=1)
        with torch.no_grad():
            expected = graph.get_candidates(*inputs)
        outputs = dict(zip(name_outputs(expected), run(inputs), strict=True))
        worst = {name: max(worst.get(name, 0.0), away) for name, away in compute_differences(expected, outputs).items()}
    return worst


def _make_runner(path: Path, names: Sequence[str]) -> Callable[[Sequence[Tensor]], list[np.ndarray]]:
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return lambda inputs: session.run(None, {k: x.cpu().numpy() for k, x in zip(names, inputs, strict=True)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        traced = torch.jit.load(str(path))
    return lambda inputs: [x.cpu().numpy() for x in traced(*inputs)]


def compute_differences(expected: Candidates, predictions: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the largest difference of each output, as a fraction of its largest expected value (where that is above
    1).

    Candidates of scores that are equal but for rounding may come in another order: each is compared with the one of its
    class and score whose box is nearest; without such a one all differences are infinite. Empty slots (score 0), and
    points of score 0, may be anything.

    Args:
        predictions: outputs by their names, see :func:`~centernet_d2.export.graph.name_outputs`.
    """
    gt = {name: value.double().cpu().numpy() for name, value in name_outputs(expected).items()}
    image, slot = np.nonzero(gt["scores"] > 0)
    same = np.abs(gt["scores"][image, slot, None] - predictions["scores"][image]) <= _SAME_SCORE
    same &= gt["classes"][image, slot, None] == predictions["classes"][image]
    if not same.any(axis=1).all():
        return dict.fromkeys(gt, np.inf)
    away = np.abs(gt["boxes"][image, slot, None] - predictions["boxes"][image]).max(axis=-1)
    partner = np.where(same, away, np.inf).argmin(axis=1)
    result = {}
    for name, values in gt.items():
        value, other = values[image, slot], predictions[name][image, partner]
        if name in expected.points:
            counts = value[..., 2] > 0
            value, other = value[counts], other[counts]
        result[name] = float(np.abs(value - other).max(initial=0) / max(1.0, np.abs(value).max(initial=0)))
    return result
