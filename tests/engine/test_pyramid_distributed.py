"""Tasks over a feature pyramid: two processes with one image each have the gradients of one with both (CPU, gloo)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, Keypoints
from detectron2.utils import comm
from torch.nn.parallel import DistributedDataParallel

from centernet_d2.engine import launch
from centernet_d2.modeling.tasks.lsnet_box import compute_middle_points
from tests.helpers.pyramid import disturb, pyramid_cfg

CONFIGS = ("lsnet_box", "centernet_plus_plus")
# Of both images: as different in number as possible, so that each process's own count would show.
BOXES = [[[8.0, 6, 40, 44], [30, 30, 60, 58], [2, 2, 60, 60], [40, 4, 62, 20]], [[10.0, 20, 50, 50]]]


def training_inputs() -> list[dict[str, Any]]:
    generator, inputs = torch.Generator().manual_seed(0), []
    for rows in BOXES:
        boxes = torch.tensor(rows)
        instances = Instances((64, 64), gt_boxes=Boxes(boxes), gt_classes=torch.arange(len(boxes)) % 2)
        points = compute_middle_points(boxes)
        instances.gt_extreme_points = Keypoints(torch.cat([points, torch.full_like(points[..., :1], 2)], dim=2))
        inputs.append({"image": torch.rand(3, 64, 64, generator=generator) * 255, "instances": instances})
    return inputs


def build(name: str, *opts: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    model = disturb(build_model(pyramid_cfg(name, *opts)))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()  # its statistics are of each process
    return model


def gradients(model: torch.nn.Module, inputs: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    sum(model(inputs).values()).backward()
    return {name.removeprefix("module."): p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def in_each_process(folder: Path) -> None:
    rank = comm.get_rank()
    result = {}
    for name in CONFIGS:
        model = build(name)
        wrapped = DistributedDataParallel(model, broadcast_buffers=False)
        result[name] = gradients(wrapped, training_inputs()[rank : rank + 1])
    opts = ("MODEL.LSNET.REFERENCE_DEFECTS", ["local_normalizers"])
    local = DistributedDataParallel(build("lsnet_box", *opts), broadcast_buffers=False)
    result["local_normalizers"] = gradients(local, training_inputs()[rank : rank + 1])
    torch.save(result, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> list[dict[str, dict[str, torch.Tensor]]]:
    folder = tmp_path_factory.mktemp("two")
    launch(in_each_process, (folder,), device="cpu", processes=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def compare(ours: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """The largest difference of a parameter's gradients, relative to the largest gradient of all."""
    assert ours.keys() == expected.keys()
    largest = max(float(x.abs().max()) for x in expected.values())
    return max(float((ours[name] - x).abs().max()) for name, x in expected.items()) / largest


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_are_those_of_one_process(name, two):
    model = build(name)
    expected = gradients(model, training_inputs())
    assert expected.keys() == {n for n, p in model.named_parameters() if p.requires_grad}, "all have a gradient"
    for one in two:
        assert compare(one[name], expected) < 1e-4


def test_local_normalizers_give_others(two):
    """The defect of the reference: each process divides by its own count."""
    assert compare(two[0]["local_normalizers"], gradients(build("lsnet_box"), training_inputs())) > 1e-3
