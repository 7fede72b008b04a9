"""The meta-architecture: frames, batches, test-time passes, extreme inputs, and parts added from outside."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from detectron2.config import configurable
from detectron2.structures import Boxes, Instances

from centernet_d2.geometry import build_letterbox_matrix, transform_points
from centernet_d2.modeling.heads import HEAD_REGISTRY, Head
from centernet_d2.modeling.test_time_augmentation import forward_with_flip
from centernet_d2.ops.indexing import gather_cells, read_at
from centernet_d2.structures import Targets
from tests.helpers.tiny import tiny_cfg, tiny_model, training_input


class PerfectNetwork:
    """Stands in for ``model.run_network``: knows the objects of the image and answers with perfect maps.

    Flipped passes come second, as the model makes them.
    """

    def __init__(self, model, boxes, classes, image_size):
        self.model, self.boxes, self.classes, self.image_size = model, boxes, classes, image_size
        self.calls = 0

    def __call__(self, batch):
        size = tuple(batch.shape[-2:])
        flip = self.model.test_time_augmentation.flip and self.calls % 2 == 1
        self.calls += 1
        keep = self.model.test_time_augmentation.resize == "keep"
        scale = (
            self.model.test_time_augmentation.scales[self.calls // 2 % len(self.model.test_time_augmentation.scales)]
            if keep
            else None
        )
        matrix = build_letterbox_matrix(self.image_size, size, scale)
        boxes = transform_points(self.boxes.reshape(-1, 2), matrix).reshape(-1, 4)
        if flip:
            boxes = np.stack([size[1] - boxes[:, 2], boxes[:, 1], size[1] - boxes[:, 0], boxes[:, 3]], axis=1)
        instances = Instances(size)
        instances.gt_boxes, instances.gt_classes = Boxes(torch.as_tensor(boxes)), self.classes
        grid = (size[0] // 4, size[1] // 4)
        return self.model.task.encode_dense(Targets.from_instances([instances], 4, grid))


@pytest.mark.parametrize("resize", ["fixed", "keep"])
@pytest.mark.parametrize("flags", [[4], [0, 4, 8], list(range(9))])
@pytest.mark.parametrize(
    ("scales", "flip"), [([1.0], False), ([1.0], True), ([0.75, 1.0, 1.5], False), ([0.5, 1.25], True)]
)
def test_boxes_come_back_in_image_pixels(resize, flags, scales, flip):
    """Image to input to grid and back, for every test-time pass: the boxes of the image, to a thousandth of a
    pixel."""
    model = tiny_model(
        "MODEL.CENTERNET.GRID_POINTS", flags, "INPUT.RESIZE_TEST", resize, "INPUT.SIZE_TEST", [256, 320],
        "TEST.AUG.ENABLED", True, "TEST.AUG.SCALES", scales, "TEST.AUG.FLIP", flip,
    ).eval()  # fmt: skip
    image_size = (203, 331)
    boxes = np.array([[10.0, 20, 110.5, 90], [150, 50, 331, 203], [0, 100.2, 40.6, 180.1], [200.3, 5, 230.7, 44]])
    classes = torch.tensor([0, 1, 2, 0])
    if resize == "keep" and flip and len(scales) > 1:
        pytest.skip("the stand-in tells scales apart by counting calls, which flipping doubles")
    model.run_network = PerfectNetwork(model, boxes, classes, image_size)
    if resize == "keep" and len(scales) > 1:
        calls = iter(scales)
        perfect = model.run_network
        model.run_network = lambda batch: perfect_at(perfect, batch, next(calls))
    predictions = model([{"image": torch.zeros(3, *image_size, dtype=torch.uint8)}])[0]["instances"]
    for box, category in zip(torch.tensor(boxes), classes, strict=True):
        same = predictions.pred_boxes.tensor[(predictions.pred_classes == category) & (predictions.scores > 0.1)]
        assert (same - box).abs().amax(dim=1).min() < 2e-3


def perfect_at(network, batch, scale):
    """The perfect answer at one scale of "keep"."""
    matrix = build_letterbox_matrix(network.image_size, tuple(batch.shape[-2:]), scale)
    boxes = torch.as_tensor(transform_points(network.boxes.reshape(-1, 2), matrix).reshape(-1, 4))
    instances = Instances(tuple(batch.shape[-2:]))
    instances.gt_boxes, instances.gt_classes = Boxes(boxes), network.classes
    grid = (batch.shape[-2] // 4, batch.shape[-1] // 4)
    return network.model.task.encode_dense(Targets.from_instances([instances], 4, grid))


@pytest.mark.parametrize("resize", ["fixed", "keep"])
@pytest.mark.parametrize("flags", [[4], [0, 4, 8]])
def test_a_batch_equals_its_images(resize, flags):
    """Mixed sizes, odd ones among them: same boxes, scores, classes and order as one by one."""
    model = tiny_model("INPUT.RESIZE_TEST", resize, "MODEL.CENTERNET.GRID_POINTS", flags).eval()
    with torch.no_grad():
        for parameter in model.task.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
        model.task.heads["box_size"].layers[0][2].bias.fill_(5)
    sizes = [(64, 64), (47, 91), (64, 64), (120, 33), (47, 91)]
    inputs = [{"image": torch.randint(0, 256, (3, *size), dtype=torch.uint8)} for size in sizes]
    together = [x["instances"] for x in model(inputs)]
    for one, batch in zip(inputs, together, strict=True):
        alone = model([one])[0]["instances"]
        assert batch.image_size == tuple(one["image"].shape[-2:])
        assert len(alone) > 0
        torch.testing.assert_close(batch.scores, alone.scores, atol=1e-5, rtol=0)
        # Scores that are equal but for rounding may change positions.
        near = (batch.scores[:, None] - alone.scores).abs() < 1e-5
        near &= batch.pred_classes[:, None] == alone.pred_classes
        near &= (batch.pred_boxes.tensor[:, None] - alone.pred_boxes.tensor).abs().amax(dim=-1) < 1e-3
        place = torch.arange(len(alone))
        near &= (place[:, None] - place).abs() <= 1
        assert near.any(dim=1).all()
        assert near.any(dim=0).all()


@pytest.mark.parametrize("at_once", [False, True])
def test_a_image_and_its_flipped_image_may_be_one_batch(at_once):
    """As on a GPU, where that is quicker."""
    model, batches = tiny_model().eval(), []
    images = torch.randn(3, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = [model.predict_maps(x[None]) for batch in (images, images.flip(-1)) for x in batch]
        outputs = model.run_network
        model.run_network = lambda batch: batches.append(len(batch)) or outputs(batch)
        both = forward_with_flip(model.run_network, images, at_once)
    assert batches == ([6] if at_once else [3, 3])
    for name in ("heatmap", "box_size", "offset"):
        torch.testing.assert_close(torch.cat([x[name] for x in both]), torch.cat([x[name] for x in expected]))


def test_bytes_and_floats_give_the_same_answer():
    """DefaultPredictor hands over floats, the loader bytes."""
    model = tiny_model().eval()
    image = torch.randint(0, 256, (3, 50, 70), dtype=torch.uint8)
    first, second = (model([{"image": x}])[0]["instances"] for x in (image, image.float()))
    assert torch.equal(first.pred_boxes.tensor, second.pred_boxes.tensor)


SCENES = {
    "no object": ([], []),
    "one pixel": ([[10, 10, 11, 11]], [0]),
    "no area": ([[10, 10, 10, 30]], [0]),
    "outside": ([[-30, -30, -10, -10], [70, 70, 90, 90]], [0, 1]),
    "partly outside": ([[-30, -30, 10, 10], [60, 60, 90, 90]], [0, 1]),
    "covers all": ([[0, 0, 64, 64]], [2]),
    "same center": ([[10, 10, 50, 50], [20, 20, 40, 40]], [1, 1]),
    "at the far edge": ([[63, 63, 64, 64]], [0]),
    "a thousand": (torch.rand(1000, 4).sort(dim=1).values * 60, torch.randint(0, 3, (1000,))),
}


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("flags", [[4], [0, 1, 2, 3, 4, 5, 6, 7, 8]])
def test_extreme_scenes_train(name, flags):
    model = tiny_model("MODEL.CENTERNET.GRID_POINTS", flags)
    losses = model([training_input(*SCENES[name]), training_input([], [])])
    sum(losses.values()).backward()
    assert set(losses) == {"loss_heatmap", "loss_box_size", "loss_offset"}
    assert all(torch.isfinite(x) for x in losses.values())
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (3, 3), (65, 129), (40, 3000)])
@pytest.mark.parametrize("resize", ["fixed", "keep"])
def test_extreme_sizes_predict(size, resize):
    model = tiny_model("INPUT.RESIZE_TEST", resize).eval()
    predictions = model([{"image": torch.full((3, *size), 128, dtype=torch.uint8)}])[0]["instances"]
    assert predictions.image_size == size
    assert torch.isfinite(predictions.pred_boxes.tensor).all()


def test_nan_in_a_image_is_refused():
    image = torch.full((3, 20, 20), 100.0)
    image[1, 3, 3] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        tiny_model().eval()([{"image": image}])


def test_several_strides_need_a_neck():
    with pytest.raises(ValueError, match=r"MODEL\.NECK\.NAME"):
        tiny_model("MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.RESNETS.OUT_FEATURES", ["res2", "res3"])


@HEAD_REGISTRY.register()
class AreaHead(Head):
    """A head of one's own: the logarithm of an object's area, read at its center."""

    @configurable
    def __init__(self, **kwargs):
        super().__init__(out_channels=1, loss_weight=0.5, **kwargs)

    @classmethod
    def from_config(cls, cfg, in_channels):
        return {"in_channels": in_channels, "head_channels": 8}

    def encode(self, targets):
        size = targets.boxes[:, 2:] - targets.boxes[:, :2]
        centers = targets.boxes[:, :2] + size / 2
        return targets.image_index, gather_cells(centers, targets.grid_size), size.prod(dim=1, keepdim=True).log()

    def loss(self, output, target, num_objects):
        return F.l1_loss(read_at(output, *target[:2]), target[2], reduction="sum") / num_objects

    def encode_dense(self, targets):
        raise NotImplementedError

    def decode(self, output, image_index, cells):
        return read_at(output, image_index, cells)


def test_a_head_of_ones_own_trains_and_predicts():
    model = tiny_model("MODEL.CENTERNET.EXTRA_HEADS", ["AreaHead"])
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    seen = []
    for _ in range(2):
        losses = model([training_input([[10, 10, 50, 40]], [1])])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        seen.append(losses["loss_area"].item())
    assert seen[1] < seen[0]
    predictions = model.eval()([training_input([], [])])[0]["instances"]
    assert predictions.pred_area.shape == (len(predictions), 1)


def test_a_few_objects_are_learned():
    """The whole chain has a gradient that leads somewhere: one image learned by overfitting."""
    model = tiny_model("MODEL.CENTERNET.GRID_POINTS", [0, 4, 8])
    sample = training_input([[8, 8, 40, 36], [36, 30, 60, 62]], [0, 2])
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(150):
        loss = sum(model([sample]).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    predictions = model.eval()([sample])[0]["instances"]
    best = predictions.scores.argsort(descending=True)[:2]
    gt = sample["instances"].gt_boxes.tensor[predictions.pred_classes[best].argsort().argsort()]
    assert sorted(predictions.pred_classes[best].tolist()) == [0, 2]
    assert (predictions.pred_boxes.tensor[best] - gt).abs().max() < 3


def test_settings_survive_a_dump(tmp_path):
    cfg = tiny_cfg("MODEL.CENTERNET.GRID_POINTS", [0, 4, 8])
    path = tmp_path / "config.yaml"
    path.write_text(cfg.dump())
    again = tiny_cfg()
    again.merge_from_file(str(path))
    assert yaml.safe_load(again.dump()) == yaml.safe_load(cfg.dump())
