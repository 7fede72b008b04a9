"""Targets that are padded to a few sizes: same losses and gradients, and compiled few times."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from torch._dynamo.utils import counters

from centernet_d2.data.build import build_train_loader
from centernet_d2.engine.setup import setup_cfg
from centernet_d2.structures.transfer import list_tensors
from tests.helpers.marking import mark_slow
from tests.helpers.tiny import tiny_model, training_input

CONFIGS = Path(__file__).parents[3] / "configs" / "Synthetic"
# The drawing of some images takes long; other losses are in the rest, too, or in their base classes.
SLOW = (
    *("faces_regression", "occluded_1pt", "occluded_9pt", "persons", "pose_videos"),
    *("rotated", "shapes_1pt", "shapes_9pt", "extreme_points", "tracks", "boxes3d"),
)
SMALL = (
    *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", 2),
    *("INPUT.SIZE_TRAIN", "(128, 128)", "MODEL.CENTERNET.HEAD_CHANNELS", 16),
)
TINY = ("MODEL.BACKBONE.NAME", "TinyBackbone", "MODEL.NECK.NAME", "")


def compute_losses(model, batch):
    losses = model(batch)
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad(sum(losses.values()), parameters)
    return {name: float(x.detach()) for name, x in losses.items()}, dict(zip(names, gradients, strict=True))


def assert_close(ours, expected, rel):
    assert ours[0] == pytest.approx(expected[0], rel=rel)
    for name, gradient in expected[1].items():
        largest = gradient.abs().max().clamp(min=1e-6)
        assert (ours[1][name] - gradient).abs().max() <= rel * largest, name


@pytest.mark.parametrize(
    "config", mark_slow(sorted(CONFIGS.glob("[a-z]*.yaml")), lambda x: x.stem in SLOW, lambda x: x.stem)
)
def test_losses_and_gradients_are_the_same(config):
    own_network = config.stem in ("tracks", "pose_videos")  # previous frames need a stem
    cfg = setup_cfg(str(config), list(SMALL if own_network else SMALL + TINY))
    torch.manual_seed(0)
    model = build_model(cfg).train()
    for head in model.task.heads.values():
        torch.nn.init.normal_(head.layers[0][-1].weight, std=0.3)
    batch = next(iter(build_train_loader(cfg)))
    expected = compute_losses(model, batch)
    model.task.pads_targets = True
    # float32 adds in another order; normalizations of a deep network enlarge that.
    assert_close(compute_losses(model, batch), expected, 5e-6 if own_network else 1e-6)
    targets, _ = model.encode_targets(batch)
    assert all(len(x) & (len(x) - 1) == 0 for x in list_tensors(targets) if x.dim()), "powers of two"


def make_batch(counts: list[int], seed: int):
    """Images with so many boxes in them."""
    generator = torch.Generator().manual_seed(seed)
    batch = []
    for number, count in enumerate(counts):
        corners = torch.rand(count, 2, generator=generator) * 44
        boxes = torch.cat([corners, corners + 4 + 16 * torch.rand(count, 2, generator=generator)], dim=1)
        batch.append(training_input(boxes, torch.randint(0, 3, (count,), generator=generator), seed=number))
    return batch


def test_padding_is_without_loss():
    """Of images without objects, of a grid full of them, and of logits that are sure and wrong."""
    model = tiny_model().train()
    model.task.heads["heatmap"].layers[0][-1].bias.data.fill_(30.0)
    for counts in ([0, 0], [0, 300], [3, 5]):
        model.task.pads_targets = False
        expected = compute_losses(model, make_batch(counts, 0))
        model.task.pads_targets = True
        assert_close(compute_losses(model, make_batch(counts, 0)), expected, 1e-6)


@pytest.mark.slow
def test_compiled_losses_are_the_same_and_compiled_few_times():
    batches = [make_batch([(7 * k) % 60, (11 * k) % 45], k) for k in range(20)]
    model = tiny_model().train()
    expected = [compute_losses(model, batch) for batch in batches]
    torch._dynamo.reset()
    counters.clear()
    model.compile(mode="reduce-overhead", with_losses=True)
    sizes = set()
    for batch, one in zip(batches, expected, strict=True):
        assert_close(compute_losses(model, batch), one, 1e-5)
        sizes.add(tuple(x.shape for x in list_tensors(model.encode_targets(batch))))
    assert 1 < len(sizes) <= 3, "which is how many CUDA graphs are recorded"
    assert len({len(batch[0]["instances"]) + len(batch[1]["instances"]) for batch in batches}) > 15
    assert counters["stats"]["unique_graphs"] <= 1 + len(sizes), "backbone; heads with losses"
    assert not counters["graph_break"]
