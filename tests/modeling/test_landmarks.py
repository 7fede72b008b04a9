"""Landmark tasks: what is rendered comes back, and each part against a plain version of itself."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model

from centernet_d2.data.schemas import SCHEMES
from centernet_d2.structures import Targets
from tests.helpers.keypoints import landmark_cfg, objects, sample

REGRESSION, HEATMAP, CLOTHES = "LandmarkRegressionTask", "LandmarkHeatmapTask", "ClothesLandmarkTask"
CENTERS = ("MODEL.LANDMARK.BOX_SIZE", False, "MODEL.LANDMARK.CENTER")
ONE = ("MODEL.LANDMARK.ONE_OBJECT", True)
SETTINGS = [
    ("face68", REGRESSION, ()),
    ("face68", REGRESSION, ("MODEL.LANDMARK.REFINE", False)),
    ("face68", REGRESSION, (*CENTERS, "nose")),
    ("face68", REGRESSION, (*CENTERS, "mean")),
    ("face68", HEATMAP, ()),
    ("face19", REGRESSION, ()),
    ("face19", REGRESSION, (*CENTERS, "nose")),
    ("face19", HEATMAP, ()),
    ("clothes294", CLOTHES, ()),
    ("clothes294", CLOTHES, ("MODEL.LANDMARK.HEATMAP_RADIUS", -1)),
]
LAYOUTS = {
    "apart": [[10, 10, 60, 70], [70, 30, 120, 120]],
    "overlapping": [[10, 10, 90, 100], [40, 20, 120, 110]],
    "at the border": [[0, 0, 50, 60], [80, 70, 128, 128]],
    "small": [[10, 10, 22, 22], [60, 60, 70, 72]],
}


def task_of(scheme, task, opts):
    torch.manual_seed(0)
    return build_model(landmark_cfg(scheme, task, *opts)).task.eval()


def decoded(task, targets, limit):
    candidates = task.candidates(task.target_maps(targets))
    moved = candidates.transformed(torch.full((targets.num_images, 2), 4.0), torch.zeros(targets.num_images, 2))
    return task.merge(moved, limit)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("scheme", "task", "opts"), SETTINGS)
def test_what_is_rendered_comes_back(scheme, task, opts, layout):
    classes = [0, len(SCHEMES[scheme].class_names) - 1]
    instances = objects(SCHEMES[scheme], LAYOUTS[layout], classes)
    result = decoded(task_of(scheme, task, opts), Targets.from_instances([instances], 4, (32, 32)), 2)
    found = result.points["keypoints"][0]
    truth = instances.gt_keypoints.tensor
    distance = (found[:, None, :, :2] - truth[None, :, :, :2]).abs().amax(dim=(2, 3))
    nearest = distance.argmin(dim=0)
    assert sorted(nearest.tolist()) == [0, 1]
    assert distance.min(dim=0).values.max() < 0.01
    assert (result.boxes[0][nearest] - instances.gt_boxes.tensor).abs().max() < 0.01
    assert torch.equal(result.classes[0][nearest], instances.gt_classes)
    outside = truth[nearest.argsort(), :, 2] == 0
    assert (found[outside] == 0).all()


@pytest.mark.parametrize("scheme", ["face68", "face19"])
def test_one_object_comes_back(scheme):
    instances = objects(SCHEMES[scheme], [[20, 10, 110, 120]], [0])
    result = decoded(task_of(scheme, HEATMAP, ONE), Targets.from_instances([instances], 4, (32, 32)), 5)
    assert result.scores.shape == (1, 1) and result.scores.item() > 0.99
    assert (result.points["keypoints"][0, 0, :, :2] - instances.gt_keypoints.tensor[0, :, :2]).abs().max() < 0.01
    assert (result.boxes[0, 0] - instances.gt_boxes.tensor[0]).abs().max() < 0.01


def test_unlabelled_landmarks_are_not_learnt():
    instances = objects(SCHEMES["face19"], [[20, 10, 110, 120]], [0])
    instances.gt_keypoints.tensor[0, 3:] = torch.tensor([1e6, -1e6, 0.0])
    model = build_model(landmark_cfg("face19", REGRESSION))
    losses = model.train()([sample(instances)])
    assert all(torch.isfinite(loss) and loss < 100 for loss in losses.values())
    without = objects(SCHEMES["face19"], [[20, 10, 110, 120]], [0])
    without.gt_keypoints.tensor[0, 3:] = 0
    assert {k: v.item() for k, v in model([sample(without)]).items()} == {k: v.item() for k, v in losses.items()}


@pytest.mark.parametrize(("scheme", "task", "opts"), [*SETTINGS, ("face68", HEATMAP, ONE)])
def test_without_objects_every_parameter_gets_a_gradient(scheme, task, opts):
    model = build_model(landmark_cfg(scheme, task, *opts)).train()
    losses = model([sample(objects(SCHEMES[scheme], [], []))])
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(
    ("scheme", "task", "name"),
    [
        ("face68", REGRESSION, "landmark_offsets"),
        ("face68", HEATMAP, "landmark_grouping"),
        ("face68", REGRESSION, "landmark_subcell"),
        ("clothes294", CLOTHES, "landmark_offsets"),
        ("clothes294", CLOTHES, "landmark_subcell"),
    ],
)
def test_sparse_reading_equals_dense_maps(scheme, task, name):
    """The loss from deferred maps is that of a loop over the dense ones."""
    branch = task_of(scheme, task, ()).branches[name]
    last = len(SCHEMES[scheme].class_names) - 1
    instances = objects(SCHEMES[scheme], [[10, 10, 60, 70], [70, 30, 127, 120], [0, 60, 50, 128]], [0, last, last])
    targets = Targets.from_instances([instances, instances[:1]], 4, (32, 32))
    feature = torch.randn(2, 32, 32, 32)
    torch.nn.init.normal_(branch.heads[0][-1].weight)
    (dense,) = branch.eval()([feature])
    (deferred,) = branch.train()([feature])
    loss = branch.loss(deferred, branch.target(targets), torch.tensor(4.0))
    assert loss.item() == pytest.approx(loss_by_loop(branch, dense, targets) / 4, rel=1e-4)


def loss_by_loop(branch, dense, targets):
    total = 0.0
    for box, keypoints, image in zip(targets.boxes, targets.fields["keypoints"], targets.image_index, strict=True):
        center = (box[:2] + box[2:]) / 2
        errors = []
        for k in (keypoints[:, 2] > 0).nonzero()[:, 0].tolist():
            point = keypoints[k, :2]
            if type(branch).__name__ == "LandmarkOffsets":
                x, y = center.floor().long().tolist()
                errors.append((dense[image, 2 * k : 2 * k + 2, y, x] - (point - center.floor())).abs().mean())
                continue
            near = []
            for dx in (-1, 0, 1):
                for dy in (-1, 0, 1):
                    x, y = (point.clamp(max=31.9).floor().long() + torch.tensor([dx, dy])).tolist()
                    if 0 <= x < 32 and 0 <= y < 32:
                        aim = center if type(branch).__name__ == "LandmarkGrouping" else point
                        aimed = dense[image, 2 * k : 2 * k + 2, y, x] - (aim - torch.tensor([x, y]))
                        near.append(aimed.abs().mean())
            errors.append(torch.stack(near).mean())
        total += torch.stack(errors).mean().item()
    return total


def test_only_the_maps_of_present_classes_are_learnt():
    """Focal loss over a garment's own maps alone, and no gradient for the landmarks of absent classes."""
    scheme = SCHEMES["clothes294"]
    branch = task_of("clothes294", CLOTHES, ()).branches["landmark_heatmap"]
    torch.nn.init.normal_(branch.heads[0][-1].weight, std=0.1)
    instances = objects(scheme, [[10, 10, 60, 70], [70, 30, 127, 120]], [8, 3])
    targets = Targets.from_instances([instances, instances[:1]], 4, (32, 32))
    feature = torch.randn(2, 32, 32, 32)
    (dense,) = branch.eval()([feature])
    (deferred,) = branch.train()([feature])
    loss = branch.loss(deferred, branch.target(targets), torch.tensor(3.0))
    truth = branch.target_map(targets).sigmoid()
    truth = torch.where(truth > 1 - 1e-6, torch.ones(()), torch.where(truth < 2e-7, torch.zeros(()), truth))
    total = 0.0
    for image, present in ((0, (8, 3)), (1, (8,))):
        for category in present:
            first, end = scheme.ranges[category]
            p, y = dense[image, first:end].sigmoid().double(), truth[image, first:end].double()
            positive = (y == 1) * (1 - p) ** 2 * -p.log()
            total += (positive + (y < 1) * (1 - y) ** 4 * p**2 * -(1 - p).log()).sum().item()
    assert loss.item() == pytest.approx(total / 3 / (294 / 13), rel=1e-4)
    loss.backward()
    present = torch.zeros(294, dtype=torch.bool)
    for category in (8, 3):
        present[slice(*scheme.ranges[category])] = True
    touched = branch.heads[0][-1].weight.grad.flatten(1).abs().sum(dim=1) > 0
    assert torch.equal(touched, present)


@pytest.mark.parametrize(
    ("scheme", "task", "opts"), [("face68", REGRESSION, ()), ("face68", HEATMAP, ()), ("clothes294", CLOTHES, ())]
)
def test_maps_of_a_mirrored_picture_are_turned_back(scheme, task, opts):
    """The perfect maps of mirrored objects, turned back, are decoded to the objects; so is the mean of both."""
    table = SCHEMES[scheme]
    instances = objects(table, [[10, 12, 62, 70], [70, 30, 126, 118]], [0, len(table.class_names) - 1])
    mirrored = instances[:]
    boxes = instances.gt_boxes.tensor.clone()
    boxes[:, [0, 2]] = 128 - boxes[:, [2, 0]]
    mirrored.gt_boxes = type(instances.gt_boxes)(boxes)
    keypoints = instances.gt_keypoints.tensor[:, table.flip_indices()].clone()
    keypoints[..., 0] = torch.where(keypoints[..., 2] > 0, 128 - keypoints[..., 0], keypoints[..., 0])
    mirrored.gt_keypoints = type(instances.gt_keypoints)(keypoints)
    model_task = task_of(scheme, task, opts)
    maps = model_task.target_maps(Targets.from_instances([instances], 4, (32, 32)))
    twin = model_task.target_maps(Targets.from_instances([mirrored], 4, (32, 32)))
    for turned in (
        {name: branch.unflip(twin[name]) for name, branch in model_task.named()},
        model_task.merge_flipped(maps, twin),
    ):
        turned["offset"] = maps["offset"]  # always the picture's own
        result = model_task.merge(model_task.candidates(turned), 2)
        found = result.points["keypoints"][0][..., :2] * 4
        truth = instances.gt_keypoints.tensor[..., :2]
        distance = (found[:, None] - truth[None]).abs().amax(dim=(2, 3)).min(dim=0).values
        assert distance.max() < 0.01


@pytest.mark.parametrize(("task", "opts"), [(REGRESSION, ()), (HEATMAP, ()), (HEATMAP, ONE)])
def test_batch_equals_singles(task, opts):
    model = build_model(landmark_cfg("face68", task, *opts)).eval()
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
        (("MODEL.LANDMARK.CENTER", "nose"), "BOX_SIZE"),
        (("MODEL.LANDMARK.CENTER", "ear"), "CENTER must be one of"),
        (("MODEL.LANDMARK.SUBCELL", "best"), "SUBCELL must be one of"),
        (("MODEL.LANDMARK.SNAP", "best"), "SNAP must be"),
        (("MODEL.LANDMARK.SCHEME", "face5"), "not one of face68"),
        (("MODEL.KEYPOINT_ON", False), "KEYPOINT_ON"),
        (("MODEL.CENTERNET.NUM_CLASSES", 2), "NUM_CLASSES is 2"),
        (("MODEL.CENTERNET.POINT_FLAGS", [0, 4]), "POINT_FLAGS"),
        (("DATASETS.TRAIN", ("synthetic_shapes_train",), "MODEL.CENTERNET.NUM_CLASSES", 6), "no landmark scheme"),
        (("DATASETS.TRAIN", ("aflw_train",)), "face19"),
    ],
)
def test_a_wrong_configuration_gets_a_sentence(opts, message):
    with pytest.raises(ValueError, match=message):
        build_model(landmark_cfg("face68", REGRESSION, *opts))


def test_clothes_need_boxes_and_one_object_a_single_class():
    with pytest.raises(ValueError, match="BOX_SIZE"):
        build_model(landmark_cfg("clothes294", CLOTHES, "MODEL.LANDMARK.BOX_SIZE", False))
    with pytest.raises(ValueError, match="ONE_OBJECT"):
        build_model(landmark_cfg("clothes294", HEATMAP, *ONE))
    with pytest.raises(ValueError, match="BOX_SIZE"):
        build_model(landmark_cfg("face68", HEATMAP, "MODEL.LANDMARK.BOX_SIZE", False))
