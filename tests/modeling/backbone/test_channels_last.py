"""Another order in memory changes nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

import centernet_d2
from centernet_d2.modeling.meta_arch.centernet import CenterNet
from tests.helpers.tiny import tiny_model, training_input

CONFIGS = Path(__file__).resolve().parents[3] / "configs"


def build_network(name: str, channels_last: bool):
    cfg = centernet_d2.get_cfg()
    cfg.merge_from_file(str(CONFIGS / f"{name}.yaml"))
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.CHANNELS_LAST", channels_last])
    torch.manual_seed(0)
    # In float32 the order in which a convolution adds up is seen through tens of batch normalizations.
    return build_model(cfg).double()


@pytest.mark.parametrize(
    "name",
    [
        "COCO-Detection/centernet_R_18_DCN_3pt",
        "COCO-Detection-Light/centernet_shufflenet_v2_x1_0_SEB_1pt",
        "COCO-Detection-Light/centernet_mobilenet_v3_large_BiFPN_1pt",
    ],
)
def test_maps_losses_and_gradients_are_the_same(name):
    """Deformable convolutions, shuffled channels, learned weights of maps."""
    plain, other = (build_network(name, channels_last) for channels_last in (False, True))
    batch = [training_input([[10, 20, 70, 90], [64, 8, 120, 40]], [0, 5], (128, 128), seed) for seed in (0, 1)]
    images = torch.randn(2, 3, 128, 128, dtype=torch.float64)
    for ours, theirs in zip(other.extract_features(images), plain.extract_features(images), strict=True):
        # (Deformable convolutions of a CPU give this order anyway.)
        assert ours.is_contiguous(memory_format=torch.channels_last)
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-9 * float(theirs.detach().abs().max()))
    losses = [model(batch) for model in (plain, other)]
    assert {k: float(v) for k, v in losses[1].items()} == pytest.approx({k: float(v) for k, v in losses[0].items()})
    for predictions in losses:
        sum(predictions.values()).backward()
    for (key, ours), theirs in zip(other.named_parameters(), plain.parameters(), strict=True):
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-5, atol=1e-5 * float(theirs.grad.abs().max()) + 1e-9), key
    assert other.state_dict().keys() == plain.state_dict().keys()


STEPS = """
import torch
from tests.helpers.tiny import tiny_model, training_input

torch.set_num_threads(1)
model = tiny_model(
    "MODEL.BACKBONE.NAME", "build_hourglass_backbone", "MODEL.HOURGLASS.CHANNELS", [8, 8], "MODEL.HOURGLASS.BLOCKS", [1,
    1]
)
batch = [training_input([[10, 20, 70, 90]], [0], (256, 256), seed) for seed in range(4)]
for _ in range(6):
    sum(model(batch).values()).backward()
print("done")
"""


def test_narrow_networks_train_without_corrupting_memory():
    """In a process of its own, which a crash of oneDNN would end (``layers.memory_format``)."""
    root = Path(__file__).resolve().parents[3]
    run = subprocess.run([sys.executable, "-c", STEPS], cwd=root, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-1000:]
    assert run.stdout.endswith("done\n")


@pytest.mark.parametrize(
    ("layer", "corrupt"),
    [
        (nn.Conv2d(15, 8, 1, stride=2), True),
        (nn.Conv2d(1, 64, 1, stride=2, bias=False), True),
        (nn.Conv2d(16, 8, 1, stride=2), False),
        (nn.Conv2d(4, 8, 1), False),
        (nn.Conv2d(4, 8, 3, stride=2), False),
    ],
)
def test_the_order_is_left_out_where_it_is_not_safe(layer, corrupt, caplog):
    model = tiny_model()
    model.backbone.shortcut = layer
    with caplog.at_level("INFO"):
        other = CenterNet(
            backbone=model.backbone,
            neck=None,
            task=model.task,
            test_time_augmentation=model.test_time_augmentation,
            pixel_mean=[0.0] * 3,
            pixel_std=[1.0] * 3,
        )
    assert (other.memory_format == torch.preserve_format) == corrupt
    assert ("backbone.shortcut" in caplog.text) == corrupt
