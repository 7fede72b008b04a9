"""Keypoint tasks: what is rendered comes back, and each part against a plain version of itself."""

from __future__ import annotations

import math

import pytest
import torch
from detectron2.modeling import build_model

from centernet_d2.data.schemas import SCHEMAS
from centernet_d2.structures import Candidates, Targets
from tests.helpers.keypoints import keypoint_cfg, objects, sample

REGRESSION, HEATMAP = "KeypointRegressionTask", "KeypointHeatmapTask"
CENTERS = ("MODEL.KEYPOINT.BOX_SIZE", False, "MODEL.KEYPOINT.CENTER")
CENTERFACE = ("MODEL.KEYPOINT.REFINE", False, "MODEL.KEYPOINT.REGRESSION_ENCODING", "box")
CENTERFACE += ("MODEL.CENTERNET.BOX_ENCODING", "log_wh", "MODEL.CENTERNET.HEAD_CHANNELS", 0)
ONE = ("MODEL.KEYPOINT.SINGLE_INSTANCE", True)
SETTINGS = [
    ("face68", REGRESSION, ()),
    ("face68", REGRESSION, ("MODEL.KEYPOINT.REFINE", False)),
    ("face68", REGRESSION, (*CENTERS, "nose")),
    ("face68", REGRESSION, (*CENTERS, "mean")),
    ("face68", HEATMAP, ()),
    ("face5", REGRESSION, CENTERFACE),
    ("face19", REGRESSION, ()),
    ("face19", REGRESSION, (*CENTERS, "nose")),
    ("face19", HEATMAP, ()),
    ("clothes294", REGRESSION, ()),
    ("clothes294", REGRESSION, ("MODEL.KEYPOINT.HEATMAP_RADIUS", -1)),
]
LAYOUTS = {
    "apart": [[10, 10, 60, 70], [70, 30, 120, 120]],
    "overlapping": [[10, 10, 90, 100], [40, 20, 120, 110]],
    "at the border": [[0, 0, 50, 60], [80, 70, 128, 128]],
    "small": [[10, 10, 22, 22], [60, 60, 70, 72]],
}


def task_of(schema, task, opts):
    torch.manual_seed(0)
    return build_model(keypoint_cfg(schema, task, *opts)).task.eval()


def decoded(task, targets, limit):
    candidates = task.decode(task.encode_dense(targets))
    moved = candidates.transform(torch.full((targets.num_images, 2), 4.0), torch.zeros(targets.num_images, 2))
    return task.merge(moved, limit)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("schema", "task", "opts"), SETTINGS)
def test_what_is_rendered_comes_back(schema, task, opts, layout):
    classes = [0, len(SCHEMAS[schema].class_names) - 1]
    instances = objects(SCHEMAS[schema], LAYOUTS[layout], classes)
    result = decoded(task_of(schema, task, opts), Targets.from_instances([instances], 4, (32, 32)), 2)
    predictions = result.points["keypoints"][0]
    gt = instances.gt_keypoints.tensor
    distance = (predictions[:, None, :, :2] - gt[None, :, :, :2]).abs().amax(dim=(2, 3))
    nearest = distance.argmin(dim=0)
    assert sorted(nearest.tolist()) == [0, 1]
    assert distance.min(dim=0).values.max() < 0.01
    assert (result.boxes[0][nearest] - instances.gt_boxes.tensor).abs().max() < 0.01
    assert torch.equal(result.classes[0][nearest], instances.gt_classes)
    outside = gt[nearest.argsort(), :, 2] == 0
    assert (predictions[outside] == 0).all()


@pytest.mark.parametrize("schema", ["face68", "face19"])
def test_one_object_comes_back(schema):
    instances = objects(SCHEMAS[schema], [[20, 10, 110, 120]], [0])
    result = decoded(task_of(schema, HEATMAP, ONE), Targets.from_instances([instances], 4, (32, 32)), 5)
    assert result.scores.shape == (1, 1) and result.scores.item() > 0.99
    assert (result.points["keypoints"][0, 0, :, :2] - instances.gt_keypoints.tensor[0, :, :2]).abs().max() < 0.01
    assert (result.boxes[0, 0] - instances.gt_boxes.tensor[0]).abs().max() < 0.01


def test_a_box_and_its_keypoints_as_centerface_regresses_them():
    """One object by hand: logarithms of its sides in cells, positions of its points as fractions of the box."""
    instances = objects(SCHEMAS["face5"], [[20, 10, 100, 120]], [0])
    instances.gt_boxes.tensor[0] = torch.tensor([20.0, 8.0, 100.0, 120.0])
    instances.gt_keypoints.tensor[0, :, :2] = torch.tensor([[40, 36], [80, 36], [60, 64], [44, 92], [76, 100.0]])
    maps = task_of("face5", REGRESSION, CENTERFACE).encode_dense(Targets.from_instances([instances], 4, (32, 32)))
    # The center (60, 64) lies at the corner of cell (15, 16).
    width, height = maps["box_size"][0, :, 16, 15].tolist()
    assert (width, height) == pytest.approx((math.log(20), math.log(28)), abs=1e-6)
    fractions = [0.25, 0.25, 0.75, 0.25, 0.5, 0.5, 0.3, 0.75, 0.7, 92 / 112]
    assert maps["keypoint_regression"][0, :, 16, 15].tolist() == pytest.approx(fractions, abs=1e-6)


@pytest.mark.parametrize("soft_nms", [True, False])
def test_a_single_instance_is_that_of_the_best_pass(soft_nms):
    """Passes that see the object in different places are no several objects."""
    task = task_of("face68", HEATMAP, (*ONE, "MODEL.KEYPOINT.SOFT_NMS", soft_nms))
    passes = []
    for x, factor in ((0, 0.5), (60, 1.0), (30, 0.7)):
        instances = objects(SCHEMAS["face68"], [[x, 10, x + 60, 120]], [0])
        maps = task.encode_dense(Targets.from_instances([instances], 4, (32, 32)))
        maps["keypoint_heatmap"] = maps["keypoint_heatmap"] * factor
        passes.append(task.decode(maps))
    scores = [x.scores.item() for x in passes]
    assert scores[1] > scores[2] > scores[0] > 0.01
    merged = task.merge(Candidates.cat(passes), 5)
    assert merged.scores.tolist() == [[scores[1]]]
    torch.testing.assert_close(merged.points["keypoints"], passes[1].points["keypoints"])
    assert task.merge(Candidates.cat(passes), 0).scores.shape == (1, 0)


@pytest.mark.parametrize(("num_passes", "expected"), [(1, [0.9, 0.8]), (2, [0.9, 0.8 * math.exp(-2)])])
def test_passes_are_merged_by_soft_nms_even_without_it(num_passes, expected):
    """Two equal boxes (IoU 1): two objects of one pass, one object of two, by Bodla et al. 2017, equation 3, with a
    sigma of 0.5."""
    task = task_of("face68", REGRESSION, ("MODEL.KEYPOINT.SOFT_NMS", False))
    boxes, scores = torch.tensor([[[10.0, 10, 60, 70]] * 2]), torch.tensor([[0.9, 0.8]])
    classes, points = torch.zeros(1, 2, dtype=torch.long), {"keypoints": torch.zeros(1, 2, 68, 3)}
    source = torch.zeros(2, dtype=torch.long)
    given = Candidates(boxes, scores, classes, source, points, num_passes=num_passes)
    torch.testing.assert_close(task.merge(given, 2).scores, torch.tensor([expected]))


def test_unlabeled_keypoints_are_not_learned():
    instances = objects(SCHEMAS["face19"], [[20, 10, 110, 120]], [0])
    instances.gt_keypoints.tensor[0, 3:] = torch.tensor([1e6, -1e6, 0.0])
    model = build_model(keypoint_cfg("face19", REGRESSION))
    losses = model.train()([sample(instances)])
    assert all(torch.isfinite(loss) and loss < 100 for loss in losses.values())
    without = objects(SCHEMAS["face19"], [[20, 10, 110, 120]], [0])
    without.gt_keypoints.tensor[0, 3:] = 0
    assert {k: v.item() for k, v in model([sample(without)]).items()} == {k: v.item() for k, v in losses.items()}


@pytest.mark.parametrize(("schema", "task", "opts"), [*SETTINGS, ("face68", HEATMAP, ONE)])
def test_without_objects_every_parameter_gets_a_gradient(schema, task, opts):
    model = build_model(keypoint_cfg(schema, task, *opts)).train()
    losses = model([sample(objects(SCHEMAS[schema], [], []))])
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(
    ("schema", "task", "name"),
    [
        ("face68", REGRESSION, "keypoint_regression"),
        ("face68", HEATMAP, "keypoint_grouping"),
        ("face68", REGRESSION, "keypoint_offset"),
        ("clothes294", REGRESSION, "keypoint_regression"),
        ("clothes294", REGRESSION, "keypoint_offset"),
    ],
)
def test_sparse_reading_equals_dense_maps(schema, task, name):
    """The loss from deferred maps is that of a loop over the dense ones."""
    head = task_of(schema, task, ()).heads[name]
    last = len(SCHEMAS[schema].class_names) - 1
    instances = objects(SCHEMAS[schema], [[10, 10, 60, 70], [70, 30, 127, 120], [0, 60, 50, 128]], [0, last, last])
    targets = Targets.from_instances([instances, instances[:1]], 4, (32, 32))
    feature = torch.randn(2, 32, 32, 32)
    torch.nn.init.normal_(head.layers[0][-1].weight)
    (dense,) = head.eval()([feature])
    (deferred,) = head.train()([feature])
    loss = head.loss(deferred, head.encode(targets), torch.tensor(4.0))
    assert loss.item() == pytest.approx(loss_by_loop(head, dense, targets) / 4, rel=1e-4)


def loss_by_loop(head, dense, targets):
    total = 0.0
    for box, keypoints, image in zip(targets.boxes, targets.fields["keypoints"], targets.image_index, strict=True):
        center = (box[:2] + box[2:]) / 2
        errors = []
        for k in (keypoints[:, 2] > 0).nonzero()[:, 0].tolist():
            point = keypoints[k, :2]
            if type(head).__name__ == "KeypointRegressionHead":
                x, y = center.floor().long().tolist()
                errors.append((dense[image, 2 * k : 2 * k + 2, y, x] - (point - center.floor())).abs().mean())
                continue
            near = []
            for dx in (-1, 0, 1):
                for dy in (-1, 0, 1):
                    x, y = (point.clamp(max=31.9).floor().long() + torch.tensor([dx, dy])).tolist()
                    if 0 <= x < 32 and 0 <= y < 32:
                        aim = center if type(head).__name__ == "KeypointGroupingHead" else point
                        aimed = dense[image, 2 * k : 2 * k + 2, y, x] - (aim - torch.tensor([x, y]))
                        near.append(aimed.abs().mean())
            errors.append(torch.stack(near).mean())
        total += torch.stack(errors).mean().item()
    return total


def test_only_the_maps_of_present_classes_are_learned():
    """Focal loss over a clothing item's own maps alone, and no gradient for the keypoints of absent classes."""
    schema = SCHEMAS["clothes294"]
    head = task_of("clothes294", REGRESSION, ()).heads["keypoint_heatmap"]
    torch.nn.init.normal_(head.layers[0][-1].weight, std=0.1)
    instances = objects(schema, [[10, 10, 60, 70], [70, 30, 127, 120]], [8, 3])
    targets = Targets.from_instances([instances, instances[:1]], 4, (32, 32))
    feature = torch.randn(2, 32, 32, 32)
    (dense,) = head.eval()([feature])
    (deferred,) = head.train()([feature])
    loss = head.loss(deferred, head.encode(targets), torch.tensor(3.0))
    gt = head.encode_dense(targets).sigmoid()
    gt = torch.where(gt > 1 - 1e-6, torch.ones(()), torch.where(gt < 2e-7, torch.zeros(()), gt))
    total = 0.0
    for image, present in ((0, (8, 3)), (1, (8,))):
        for category in present:
            first, end = schema.ranges[category]
            p, y = dense[image, first:end].sigmoid().double(), gt[image, first:end].double()
            positive = (y == 1) * (1 - p) ** 2 * -p.log()
            total += (positive + (y < 1) * (1 - y) ** 4 * p**2 * -(1 - p).log()).sum().item()
    assert loss.item() == pytest.approx(total / 3 / (294 / 13), rel=1e-4)
    loss.backward()
    present = torch.zeros(294, dtype=torch.bool)
    for category in (8, 3):
        present[slice(*schema.ranges[category])] = True
    touched = head.layers[0][-1].weight.grad.flatten(1).abs().sum(dim=1) > 0
    assert torch.equal(touched, present)


@pytest.mark.parametrize(
    ("schema", "task", "opts"),
    [
        ("face5", REGRESSION, CENTERFACE),
        ("face68", REGRESSION, ()),
        ("face68", HEATMAP, ()),
        ("clothes294", REGRESSION, ()),
    ],
)
def test_maps_of_a_flipped_image_are_flipped_back(schema, task, opts):
    """The perfect maps of flipped objects, rotated back, are decoded to the objects; so is the mean of both."""
    table = SCHEMAS[schema]
    instances = objects(table, [[10, 12, 62, 70], [70, 30, 126, 118]], [0, len(table.class_names) - 1])
    flipped = instances[:]
    boxes = instances.gt_boxes.tensor.clone()
    boxes[:, [0, 2]] = 128 - boxes[:, [2, 0]]
    flipped.gt_boxes = type(instances.gt_boxes)(boxes)
    keypoints = instances.gt_keypoints.tensor[:, table.flip_indices()].clone()
    keypoints[..., 0] = torch.where(keypoints[..., 2] > 0, 128 - keypoints[..., 0], keypoints[..., 0])
    flipped.gt_keypoints = type(instances.gt_keypoints)(keypoints)
    model_task = task_of(schema, task, opts)
    maps = model_task.encode_dense(Targets.from_instances([instances], 4, (32, 32)))
    flip_pair = model_task.encode_dense(Targets.from_instances([flipped], 4, (32, 32)))
    for rotated in (
        {name: head.unflip(flip_pair[name]) for name, head in model_task.items()},
        model_task.merge_flipped(maps, flip_pair),
    ):
        rotated["offset"] = maps["offset"]  # always the image's own
        result = model_task.merge(model_task.decode(rotated), 2)
        predictions = result.points["keypoints"][0][..., :2] * 4
        gt = instances.gt_keypoints.tensor[..., :2]
        distance = (predictions[:, None] - gt[None]).abs().amax(dim=(2, 3)).min(dim=0).values
        assert distance.max() < 0.01


@pytest.mark.parametrize(("task", "opts"), [(REGRESSION, ()), (HEATMAP, ()), (HEATMAP, ONE)])
def test_batch_equals_singles(task, opts):
    model = build_model(keypoint_cfg("face68", task, *opts)).eval()
    generator = torch.Generator().manual_seed(1)
    images = [{"image": torch.randint(0, 256, (3, h, 80), generator=generator, dtype=torch.uint8)} for h in (64, 90)]
    together = [x["instances"] for x in model(images)]
    for result, image in zip(together, images, strict=True):
        alone = model([image])[0]["instances"]
        assert torch.allclose(result.pred_keypoints, alone.pred_keypoints, atol=1e-3)
        assert torch.allclose(result.scores, alone.scores, atol=1e-6)


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (("MODEL.KEYPOINT.CENTER", "nose"), "BOX_SIZE"),
        (("MODEL.KEYPOINT.CENTER", "ear"), "CENTER must be one of"),
        (("MODEL.KEYPOINT.OFFSET", "best"), "OFFSET must be one of"),
        (("MODEL.KEYPOINT.PEAK_MATCHING", "best"), "PEAK_MATCHING must be"),
        (("MODEL.KEYPOINT.REGRESSION_ENCODING", "unit"), "REGRESSION_ENCODING must be one of"),
        (("MODEL.KEYPOINT.REGRESSION_ENCODING", "box", "MODEL.KEYPOINT.BOX_SIZE", False), "needs .*BOX_SIZE"),
        (("MODEL.KEYPOINT.SCHEMA", "face6"), "not one of clothes294"),
        (("MODEL.CENTERNET.NUM_CLASSES", 2), "NUM_CLASSES is 2"),
        (("MODEL.CENTERNET.GRID_POINTS", [0, 4]), "GRID_POINTS"),
        (("DATASETS.TRAIN", ("synthetic_shapes_train",), "MODEL.CENTERNET.NUM_CLASSES", 6), "no keypoint schema"),
        (("DATASETS.TRAIN", ("aflw_train",)), "face19"),
    ],
)
def test_a_wrong_configuration_gets_a_sentence(opts, message):
    with pytest.raises(ValueError, match=message):
        build_model(keypoint_cfg("face68", REGRESSION, *opts))


def test_clothes_need_boxes_and_one_object_a_single_class():
    with pytest.raises(ValueError, match="BOX_SIZE"):
        build_model(keypoint_cfg("clothes294", REGRESSION, "MODEL.KEYPOINT.BOX_SIZE", False))
    with pytest.raises(ValueError, match="SINGLE_INSTANCE"):
        build_model(keypoint_cfg("clothes294", HEATMAP, *ONE))
    with pytest.raises(ValueError, match="BOX_SIZE"):
        build_model(keypoint_cfg("face68", HEATMAP, "MODEL.KEYPOINT.BOX_SIZE", False))
