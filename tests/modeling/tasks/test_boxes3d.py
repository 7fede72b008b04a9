"""3D boxes: what is rendered comes back, and each part against a plain version of itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import BoxMode

from centernet_d2.modeling.heads.box3d_orientation import decode_angle, encode_angle
from centernet_d2.structures import Targets
from tests.helpers.boxes3d import (
    CLASSES,
    P2,
    SIZE,
    STREET,
    assert_predictions,
    box3d_cfg,
    dataset_dict_of,
    map_training_sample,
)

GRID = (32, 104)
# How the image (1242 x 375) lies in the network's input (416 x 128).
SCALE, SHIFT = 416 / 1242, (128 - 375 * 416 / 1242) / 2


def task_of(*opts):
    torch.manual_seed(0)
    return build_model(box3d_cfg(*opts)).task.eval()


def targets_of(*dataset_dicts, cfg=None) -> Targets:
    return Targets.from_instances([map_training_sample(dataset_dict, cfg) for dataset_dict in dataset_dicts], 4, GRID)


def positioned(task, maps, sample=None):
    """Instances of one image out of maps of the network's input."""
    candidates = task.decode(maps).transform(torch.full((1, 2), 4 / SCALE), torch.tensor([[0.0, -SHIFT / SCALE]]))
    (instances,) = task.merge(candidates, len(STREET)).to_instances([SIZE], 0.0)
    return task.finish(
        instances, {"calib": P2.numpy(), "height": SIZE[0], "width": SIZE[1]} if sample is None else sample
    )


def rotated(angles) -> torch.Tensor:
    """The street with other rotations."""
    table = STREET.clone()
    table[:, 6] = torch.as_tensor(angles, dtype=torch.float64)
    return table


@pytest.mark.parametrize("first", range(0, 360, 30))
def test_3d_boxes_come_back(first):
    table = rotated([math.radians(first + step) - math.pi for step in (0, 7, 13, 19, 26)])
    task = task_of()
    assert_predictions(positioned(task, task.encode_dense(targets_of(dataset_dict_of(table)))), table)


def test_all_angles_come_back_from_both_bins():
    alpha = torch.linspace(-math.pi, math.pi, 721, dtype=torch.float64)[:-1]
    channels = encode_angle(alpha)
    assert (decode_angle(channels) - alpha).abs().max() < 1e-9
    belongs = torch.stack([(alpha < math.pi / 6) | (alpha > 5 * math.pi / 6),
                           (alpha > -math.pi / 6) | (alpha < -5 * math.pi / 6)], dim=1)  # fmt: skip
    logits = channels.unflatten(-1, (2, 4))[..., :2]
    edge = ((alpha.abs() - math.pi / 6).abs() < 1e-6) | ((alpha.abs() - 5 * math.pi / 6).abs() < 1e-6)
    assert torch.equal(logits.argmax(dim=-1).bool()[~edge], belongs[~edge])
    for chosen in (0, 1):
        sure = channels.clone()
        sure[:, 4 * chosen + 1] += 1
        only = belongs[:, chosen]
        assert (decode_angle(sure[only]) - alpha[only]).abs().max() < 1e-9
    assert belongs.all(dim=1).sum() > 200, "some belong to both"


def test_depths_come_back():
    task = task_of()
    for z in (1.0, 3.0, 10.0, 60.0, 90.0, 150.0):
        targets = targets_of(dataset_dict_of(torch.tensor([[1.5, 1.6, 4.0, 0.2, 1.6, z, 0.0]]).double(), [0]))
        maps = task.encode_dense(targets)["depth"]
        head = task.heads["depth"]
        cells = ((targets.boxes[:, :2] + targets.boxes[:, 2:]) / 2).long()[None]
        predictions = head.decode(maps, torch.zeros(1, 1, dtype=torch.long), cells)
        assert predictions.item() == pytest.approx(z + P2[2, 3].item(), abs=1e-3)


def test_without_a_center_offset_the_box_says_where_it_is():
    """As published: exact only where both centers are the same."""
    task = task_of("MODEL.BOX3D.CENTER_OFFSET", False)
    assert "center_offset" not in task.heads
    predictions = positioned(task, task.encode_dense(targets_of(dataset_dict_of())))
    boxes = predictions.pred_boxes.tensor
    u, v = ((boxes[:, :2] + boxes[:, 2:]) / 2).double().unbind(-1)
    depth = predictions.pred_depth.double()
    z = depth - P2[2, 3]
    x = (u * depth - P2[0, 3] - P2[0, 2] * z) / P2[0, 0]
    y = (v * depth - P2[1, 3] - P2[1, 2] * z) / P2[1, 1] + predictions.pred_dimensions[:, 0] / 2
    assert torch.allclose(predictions.pred_locations.double(), torch.stack([x, y, z], dim=1), atol=1e-4)
    ray = torch.atan2(u - P2[0, 2], P2[0, 0])
    turn = predictions.pred_rotation_y - predictions.pred_alpha - ray
    assert torch.atan2(turn.sin(), turn.cos()).abs().max() < 1e-5


def test_maps_of_a_flipped_image_are_flipped_back():
    task = task_of()
    maps = task.encode_dense(targets_of(dataset_dict_of()))
    flip_pair = task.encode_dense(targets_of(dataset_dict_of(), cfg=box3d_cfg("INPUT.AFFINE.FLIP_PROB", 1.0)))
    for together in (
        {name: head.unflip(flip_pair[name]) for name, head in task.items()},
        task.merge_flipped(maps, flip_pair),
    ):
        together["offset"] = maps["offset"]  # always the image's own
        assert_predictions(positioned(task, together))


def test_what_was_scaled_says_nothing_of_meters():
    """Its depth and dimensions are not learned; its orientation is."""
    cfg = box3d_cfg("INPUT.AFFINE.MODE", "crop", "INPUT.AFFINE.SCALES", [0.9])
    np.random.seed(0)  # noqa: NPY002
    sample = {
        "image": torch.zeros(3, 128, 416, dtype=torch.uint8),
        "instances": map_training_sample(dataset_dict_of(), cfg),
    }
    assert len(sample["instances"]) > 2
    losses = build_model(cfg).train()([sample])
    assert losses["loss_depth"] == losses["loss_dimensions"] == 0
    assert losses["loss_orientation"] > 0 and losses["loss_center_offset"] > 0


def test_losses_are_those_of_a_loop():
    task = task_of()
    torch.manual_seed(1)
    maps = {name: torch.randn(2, head.out_channels, *GRID) for name, head in task.items()}
    targets = targets_of(dataset_dict_of(), dataset_dict_of(STREET[:2], CLASSES[:2]))
    expected = {"depth": 0.0, "dimensions": 0.0, "orientation": 0.0, "center_offset": 0.0}
    for i in range(len(targets)):
        box, fields = targets.boxes[i].tolist(), {name: x[i] for name, x in targets.fields.items()}
        image, center = int(targets.image_index[i]), ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        at = {name: x[image, :, int(center[1]), int(center[0])].tolist() for name, x in maps.items()}
        expected["depth"] += abs(math.exp(-at["depth"][0]) - float(fields["depth"]))
        expected["dimensions"] += float((torch.tensor(at["dimensions"]) - fields["dimensions"]).abs().mean())
        for axis in (0, 1):
            fraction = (float(fields["center_3d"][0, axis]) - center[axis]) / (box[axis + 2] - box[axis])
            expected["center_offset"] += abs(at["center_offset"][axis] - fraction) / 2
        alpha = float(fields["alpha"])
        for k, (middle, inside) in enumerate(
            [(-math.pi / 2, alpha < math.pi / 6 or alpha > 5 * math.pi / 6),
             (math.pi / 2, alpha > -math.pi / 6 or alpha < -5 * math.pi / 6)]
        ):  # fmt: skip
            off, on, sine, cosine = at["orientation"][4 * k : 4 * k + 4]
            expected["orientation"] += math.log(1 + math.exp(off - on if inside else on - off))
            if inside:
                expected["orientation"] += smooth(sine - math.sin(alpha - middle))
                expected["orientation"] += smooth(cosine - math.cos(alpha - middle))
    for name, value in expected.items():
        head = task.heads[name]
        loss = head.loss(maps[name], head.encode(targets), torch.tensor(3.0))
        assert loss.item() == pytest.approx(value / 3, rel=1e-4), name


def smooth(x: float) -> float:
    return x * x / 2 if abs(x) < 1 else abs(x) - 0.5


def test_ignored_regions_are_neither_right_nor_wrong():
    van = {"type": "Van", "bbox": [100, 100, 200, 160], "bbox_mode": BoxMode.XYXY_ABS}
    region = {"type": "DontCare", "bbox": [900, 120, 960, 160], "bbox_mode": BoxMode.XYXY_ABS}
    tram = {"type": "Tram", "bbox": [300, 20, 500, 160], "bbox_mode": BoxMode.XYXY_ABS}
    plain, targets = targets_of(dataset_dict_of()), targets_of(dataset_dict_of(ignored=[van, region, tram]))
    assert len(targets) == len(plain) == targets.num_objects == len(STREET)
    head = task_of().heads["heatmap"]
    before, after = (head.encode(x).to_dense()[0] for x in (plain, targets))
    assert (after >= before).all() and torch.equal(after == 1, before == 1)
    added = [(int(c), int(x), int(y)) for c, y, x in (after == 0.9999).nonzero()]
    van_cell, region_cell = (
        (int((a + b) / 2 * SCALE / 4), int(((c + d) / 2 * SCALE + SHIFT) / 4))
        for a, c, b, d in (van["bbox"], region["bbox"])
    )
    assert sorted(added) == sorted([(1, *van_cell), *((c, *region_cell) for c in range(3))])
    logits = torch.full((1, 3, *GRID), 3.0, requires_grad=True)
    head.loss(logits, head.encode(targets), torch.tensor(1.0)).backward()
    assert logits.grad[0, 1, van_cell[1], van_cell[0]].abs() < 1e-10 < logits.grad[0, 0, van_cell[1], van_cell[0]]


def test_an_object_in_an_ignored_region_is_an_object():
    box = dataset_dict_of()["annotations"][0]["bbox"]
    targets = targets_of(dataset_dict_of(ignored=[{"type": "DontCare", "bbox": box, "bbox_mode": BoxMode.XYXY_ABS}]))
    maps = task_of().heads["heatmap"].encode(targets).to_dense()[0]
    assert (maps == 1).sum() == len(STREET) and (maps == 0.9999).sum() == 2


@pytest.mark.parametrize("ignored", [[], [{"type": "Van", "bbox": [100, 100, 200, 160], "bbox_mode": 0}]])
def test_without_objects_every_parameter_gets_a_gradient(ignored):
    model = build_model(box3d_cfg()).train()
    instances = map_training_sample(dataset_dict_of(STREET[:0], [], ignored=ignored))
    losses = model([{"image": torch.zeros(3, 128, 416, dtype=torch.uint8), "instances": instances}])
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_batch_equals_singles():
    """Each with a calibration of its own."""
    model = build_model(box3d_cfg()).eval()
    generator = torch.Generator().manual_seed(1)
    images = [
        {"image": torch.randint(0, 256, (3, h, 180), generator=generator, dtype=torch.uint8), "calib": (P2 * f).numpy()}
        for h, f in ((64, 1.0), (90, 2.0))
    ]
    together = [x["instances"] for x in model(images)]
    for result, image in zip(together, images, strict=True):
        alone = model([image])[0]["instances"]
        for name in ("pred_locations", "pred_rotation_y", "pred_dimensions", "pred_depth", "pred_alpha", "scores"):
            assert torch.allclose(result.get(name), alone.get(name), atol=1e-4), name


def test_a_calibration_is_in_pixels_of_the_image_that_was_requested_for():
    """An image that came at a third of its size gives the same positions."""
    task = task_of()
    maps = task.encode_dense(targets_of(dataset_dict_of()))
    candidates = task.decode(maps).transform(
        torch.full((1, 2), 4 / SCALE / 3), torch.tensor([[0.0, -SHIFT / SCALE / 3]])
    )
    (instances,) = task.merge(candidates, len(STREET)).to_instances([(125, 414)], 0.0)
    assert_predictions(task.finish(instances, {"calib": P2.numpy(), "height": 375, "width": 1242}))


def test_without_a_calibration_it_is_that_of_the_configuration():
    task = task_of("MODEL.BOX3D.CALIBRATION", P2.flatten().tolist())
    assert_predictions(positioned(task, task.encode_dense(targets_of(dataset_dict_of())), sample={}))
    default = task_of().calibration
    assert default[0].tolist() == pytest.approx([707.0493, 0, 604.0814, 45.75831])
    assert default[1:].flatten().tolist() == pytest.approx([0, 707.0493, 180.5066, -0.3454157, 0, 0, 1, 0.004981016])


@pytest.mark.parametrize("calib", [np.eye(3), np.full((3, 4), np.nan), [[1, 2], [3]], "P2"])
def test_a_wrong_calibration_gets_a_sentence(calib):
    model = build_model(box3d_cfg()).eval()
    with pytest.raises(ValueError, match=r"street\.png: calib is .* not 3x4 finite numbers"):
        model([{"image": torch.zeros(3, 64, 128, dtype=torch.uint8), "calib": calib, "file_name": "street.png"}])


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (("MODEL.CENTERNET.HEATMAP_LOSS", "quality"), "HEATMAP_LOSS"),
        (("MODEL.CENTERNET.GRID_POINTS", [0, 4]), "GRID_POINTS"),
        (("TEST.AUG.ENABLED", True, "TEST.AUG.SCALES", [0.5, 1.0]), "SCALES"),
        (("MODEL.BOX3D.CALIBRATION", [1.0] * 9), "12 numbers"),
    ],
)
def test_a_wrong_configuration_gets_a_sentence(opts, message):
    with pytest.raises(ValueError, match=message):
        build_model(box3d_cfg(*opts))
