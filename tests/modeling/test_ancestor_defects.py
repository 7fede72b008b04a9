"""The twelve silent defects of CenterNet-better-plus, the nearest ancestor on Detectron2, one test each.

Where its formula is short, the test runs it too and shows that it fails.
"""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model

import centernet_d2
from centernet_d2.engine.trainer import Trainer
from centernet_d2.geometry import build_letterbox_matrix, transform_points
from centernet_d2.ops.focal_loss import heatmap_focal_loss
from centernet_d2.ops.gaussian import SparseMaps, gaussian_radius
from centernet_d2.structures import Targets
from tests.helpers.tiny import tiny_cfg, tiny_model, training_input


def image(height=64, width=64):
    return {"image": torch.randint(0, 256, (3, height, width), dtype=torch.uint8)}


def test_01_a_batch_gives_a_result_for_every_image():
    assert len(tiny_model().eval()([image(), image(), image()])) == 3


def test_02_boxes_are_rescaled_to_the_requested_size():
    model = tiny_model().eval()
    model.task.heads["box_size"].layers[0][2].bias.data.fill_(3)
    half = image(32, 48)
    own, requested = (model([{**half, **size}])[0]["instances"] for size in ({}, {"height": 64, "width": 96}))
    assert requested.image_size == (64, 96)
    torch.testing.assert_close(requested.pred_boxes.tensor, own.pred_boxes.tensor * 2)


@pytest.mark.parametrize("size", [(101, 63), (64, 65), (33, 200)])
def test_03_odd_sizes_lose_no_pixel(size):
    height, width = size
    corners = transform_points(
        torch.tensor([[0.0, 0], [width, height]]).numpy(), build_letterbox_matrix(size, (64, 64))
    )
    assert corners.mean() == pytest.approx(32)  # centered
    assert (corners[1] - corners[0]).max() == pytest.approx(64)  # and as large as fits
    ancestor = (torch.tensor([width, height]) // 2) * 2
    assert not torch.equal(ancestor, torch.tensor([width, height]))


def test_04_the_row_stride_is_the_width():
    """A single peak on a grid that is not square is drawn, and read, where it is."""
    model = tiny_model()
    objects = Targets.from_instances([training_input([[100, 8, 112, 16]], [1], (32, 128))["instances"]], 4, (8, 32))
    heatmap = model.task.heads["heatmap"].encode(objects).to_dense()[0, 1]
    assert (heatmap == 1).nonzero().tolist() == [[3, 26]]
    ancestor = 3 * 8 + 26  # y * height + x
    assert divmod(ancestor, 32) != (3, 26)


def test_05_annotations_are_not_changed():
    sample = training_input([[10, 10, 50, 40]], [1])
    before = sample["instances"].gt_boxes.tensor.clone()
    tiny_model()([sample])
    assert torch.equal(sample["instances"].gt_boxes.tensor, before)


def test_06_more_than_128_objects():
    low = torch.rand(129, 2) * 50
    losses = tiny_model()([training_input(torch.cat([low, low + 8], dim=1), torch.zeros(129))])
    assert all(torch.isfinite(x) for x in losses.values())


def test_07_a_certain_mistake_costs_a_finite_loss():
    logits = torch.full((1, 1, 2, 2), 200.0, requires_grad=True)
    loss = heatmap_focal_loss(logits, SparseMaps(torch.zeros(0, dtype=torch.long), torch.zeros(0), (1, 1, 2, 2)))
    loss.backward()
    assert loss.item() == pytest.approx(4 * 200)
    assert torch.isfinite(logits.grad).all()
    ancestor = (1 - logits.detach().sigmoid()).log()
    assert torch.isinf(ancestor).all()


def test_08_building_needs_no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a model was built with the help of the network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    build_model(tiny_cfg("MODEL.WEIGHTS", "detectron2://ImageNetPretrained/torchvision/R-50.pkl"))


def test_09_the_device_is_where_the_parameters_are():
    model = tiny_model().to("meta")
    assert model.device.type == "meta"
    assert model.pixel_mean.device.type == model.pixel_std.device.type == "meta"


def test_10_trainer_and_predictor_build_the_same_model(tmp_path):
    cfg = tiny_cfg("OUTPUT_DIR", str(tmp_path), "MODEL.WEIGHTS", "")
    trained, predicting = Trainer.build_model(cfg), DefaultPredictor(cfg).model
    assert type(trained) is type(predicting)
    assert trained.state_dict().keys() == predicting.state_dict().keys()


def test_11_both_radius_formulas_are_there_and_named():
    size = torch.tensor([40.0, 40.0])
    cornernet, corrected = (gaussian_radius(size, 0.7, name).item() for name in ("cornernet", "corrected"))
    assert cornernet == pytest.approx(10.93, abs=0.01)
    assert corrected == pytest.approx(3.27, abs=0.01)
    assert centernet_d2.get_cfg().MODEL.CENTERNET.GAUSSIAN_RADIUS == "cornernet"


def test_12_every_key_is_read_somewhere():
    package = Path(centernet_d2.__file__).parent
    source = "\n".join(p.read_text() for p in package.rglob("*.py") if "config" not in p.parts)
    added = re.findall(
        r"cfg\.([A-Z_.]+)\.([A-Z_]+) = ", "\n".join(p.read_text() for p in (package / "config").rglob("*.py"))
    )
    unread = [".".join(key) for key in added if not re.search(rf"\.{key[1]}\b", source)]
    unread = [key for key in unread if not isinstance(_node(key), CfgNode) and not key.startswith("MODEL.PIXEL")]
    # Detectron2 itself reads these.
    assert set(unread) <= {"MODEL.META_ARCHITECTURE", "MODEL.BACKBONE.FREEZE_AT", "INPUT.MIN_SIZE_TEST"} | {
        f"SOLVER.{key}" for key in ("BASE_LR", "WEIGHT_DECAY", "WEIGHT_DECAY_NORM", "WARMUP_ITERS")
    }


def _node(key):
    node = centernet_d2.get_cfg()
    for part in key.split("."):
        node = node[part]
    return node
