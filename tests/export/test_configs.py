"""The model of every configuration, with random weights, as an ONNX file: its candidates are the model's, or one
sentence says why there is none."""

from __future__ import annotations

import gc
from functools import cache
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from torch import Tensor, nn

from centernet_d2.export import ExportedGraph, check_file, export_onnx, make_synthetic_inputs
from centernet_d2.model_zoo.configs import get_config, list_configs

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
SIZE = (128, 192)
REFUSED = {"CenterNetPlusPlusTask": "boxes of each side suppress"}


def load(name: str) -> CfgNode:
    """The config for small images that are looked at once."""
    cfg = get_config(name)
    if name.startswith("Custom/"):  # of data that only their users have
        cfg.merge_from_list(["MODEL.CENTERNET.NUM_CLASSES", 3, "DATASETS.TRAIN", (), "DATASETS.TEST", ()])
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS, cfg.MODEL.ALLOW_INCOMPLETE_WEIGHTS = "cpu", "", True
    cfg.INPUT.RESIZE_TEST, cfg.TEST.AUG.ENABLED, cfg.MODEL.TIMM.PRETRAINED = "fixed", False, False
    cfg.INPUT.SIZE_TEST = list(SIZE)
    return cfg


@cache
def list_models() -> dict[str, str]:
    """Of configs that differ in their schedule only, the first; by their settings."""
    models: dict[str, str] = {}
    for name in list_configs():
        models.setdefault(describe_model(load(name)), name)
    return models


def describe_model(cfg: CfgNode) -> str:
    return f"{cfg.MODEL.dump()}{cfg.TEST.NMS}{cfg.DATASETS.TRAIN}"


def build_random(cfg: CfgNode, seed: int) -> nn.Module:
    """Activations are of usual size: the statistics of normalization are those of synthetic images."""
    torch.manual_seed(seed)
    model = build_model(cfg).eval()
    damp_residuals(model)
    hooks = [
        layer.register_forward_pre_hook(set_statistics)
        for layer in model.modules()
        if isinstance(layer, nn.BatchNorm2d | FrozenBatchNorm2d)
    ]
    with torch.no_grad():
        graph = ExportedGraph(model)
        images, *others = make_synthetic_inputs(model, 2, graph.get_size())
        graph.get_candidates(images, *others)
        for parameter in model.task.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.02)
    for hook in hooks:
        hook.remove()
    return model


def damp_residuals(model: nn.Module) -> None:
    """Through a hundred random layers rounding grows a hundredfold; not where each adds little to its input."""
    for block in model.modules():
        last = getattr(block, "bn3", None) or getattr(getattr(block, "conv3", None), "norm", None)
        if last is not None:
            last.weight.data.fill_(0.2)


def set_statistics(layer: nn.Module, inputs: tuple[Tensor]) -> None:
    variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3), correction=0)
    layer.running_mean.copy_(mean)
    layer.running_var.copy_(variance)


def compare_with_file(cfg: CfgNode, path: Path, seed: int) -> dict[str, float]:
    """Return the largest differences of the model with random weights and its file."""
    graph = export_onnx(cfg, build_random(cfg, seed), path)
    differences = check_file(graph, path)
    path.unlink()
    print(cfg.MODEL.CENTERNET.TASK, differences)
    if cfg.MODEL.LSNET.CORNERS:
        differences.pop("extreme_points", None)  # they move to the highest peak nearby
    gc.collect()
    return differences


@pytest.mark.slow
@pytest.mark.parametrize("name", list_configs())
def test_the_file_finds_what_the_model_finds(name, tmp_path):
    cfg = load(name)
    if (first := list_models()[describe_model(cfg)]) != name:
        pytest.skip(f"the model of {first}")
    path = tmp_path / "model.onnx"
    if reason := REFUSED.get(cfg.MODEL.CENTERNET.TASK):
        with pytest.raises(ValueError, match=f"cannot be exported: {reason}"):
            export_onnx(cfg, build_model(cfg).eval(), path)
        return
    # Of nearly equal peaks of random heatmaps rounding decides: not with both seeds, unless something is wrong.
    differences = compare_with_file(cfg, path, 0)
    if max(differences.values()) >= 1e-3:
        differences = compare_with_file(cfg, path, 1)
    assert max(differences.values()) < 1e-3
