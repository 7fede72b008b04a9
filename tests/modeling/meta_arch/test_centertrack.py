"""The tracker's network and its way through a video: stems, heatmaps, states, and what a perfect network gives."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, Keypoints

from centernet_d2.geometry import build_letterbox_matrix, flip_matrix, transform_points
from centernet_d2.structures import Targets
from tests.helpers.tiny import base_cfg, training_input


def tracking_cfg(*opts):
    cfg = base_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "CenterTrack"
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.NECK.NAME = "build_hourglass_backbone", ""
    cfg.MODEL.HOURGLASS.NUM_STACKS = 1
    cfg.MODEL.HOURGLASS.CHANNELS, cfg.MODEL.HOURGLASS.BLOCKS = [8, 8], [1, 1]
    cfg.MODEL.CENTERNET.NUM_CLASSES, cfg.MODEL.CENTERNET.HEAD_CHANNELS = 2, 8
    cfg.MODEL.WEIGHTS, cfg.MODEL.ALLOW_INCOMPLETE_WEIGHTS = "", True
    cfg.INPUT.SIZE_TRAIN, cfg.INPUT.SIZE_TEST = [64, 64], [96, 128]
    cfg.merge_from_list(list(opts))
    return cfg


def tracking_model(*opts):
    torch.manual_seed(0)
    return build_model(tracking_cfg(*opts))


def tracking_input(boxes, classes, seed=0):
    sample = training_input(boxes, classes, seed=seed)
    instances = sample["instances"]
    centers = instances.gt_boxes.get_centers() + 3.0
    instances.gt_previous_center = Keypoints(torch.cat([centers, torch.ones(len(instances), 1)], dim=1)[:, None])
    previous = training_input([], [], seed=seed + 100)["image"]
    return {**sample, "previous_image": previous, "previous_boxes": instances.gt_boxes.tensor + 3.0}


def test_the_stems_of_frame_previous_frame_and_heatmap_are_added():
    model = tracking_model().eval()
    images = torch.randn(2, 7, 64, 64)
    seen = {}
    model.backbone.hourglasses[0].register_forward_pre_hook(lambda _, inputs: seen.update(x=inputs[0]))
    model.backbone(images)
    stem, extra = copy.deepcopy(model.backbone.stem), model.previous_frame
    stem._forward_hooks.clear()
    stem._forward_pre_hooks.clear()
    expected = stem(images[:, :3]) + extra.image_stem(images[:, 3:6]) + extra.heatmap_stem(images[:, 6:])
    assert torch.allclose(seen["x"], expected, atol=1e-6)


@pytest.mark.parametrize("name", ["build_dla_backbone", "build_resnet_backbone", "build_hourglass_backbone"])
def test_every_backbone_with_a_stem_sees_the_previous_frame(name):
    """DLA's 7x7 convolution, ResNet's with its pooling, the hourglass's with its residual block."""
    necks = {"build_dla_backbone": "DLAUpNeck", "build_resnet_backbone": "DeconvNeck", "build_hourglass_backbone": ""}
    opts = ["MODEL.BACKBONE.NAME", name, "MODEL.NECK.NAME", necks[name]]
    opts += ["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.RESNETS.NORM", "BN"]
    opts += ["MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4", "res5"]]
    model = tracking_model(*opts).eval()
    images = torch.randn(1, 7, 64, 64)
    with torch.no_grad():
        base = model.predict_maps(images)["heatmap"]
        for channel in (0, 3, 6):
            other = images.clone()
            other[:, channel] += 1
            assert (model.predict_maps(other)["heatmap"] - base).abs().max() > 1e-6


def test_a_detectors_parameters_keep_their_names():
    """So its weights can be a tracker's start; what is new are the stems and the head."""
    tracker = tracking_model()
    detector = tracking_model("MODEL.META_ARCHITECTURE", "CenterNet")
    result = tracker.load_state_dict(detector.state_dict(), strict=False)
    assert result.unexpected_keys == []
    assert {key.split(".")[0] for key in result.missing_keys} == {"previous_frame", "task"}
    assert all("displacement" in key for key in result.missing_keys if key.startswith("task"))


def test_a_copy_of_the_model_uses_its_own_stems():
    """As an average of the weights does."""
    model = tracking_model().eval()
    other = copy.deepcopy(model)
    images = torch.randn(1, 7, 64, 64)
    with torch.no_grad():
        before = model.predict_maps(images)["heatmap"]
        for parameter in other.previous_frame.parameters():
            parameter.add_(1.0)
        assert torch.equal(model.predict_maps(images)["heatmap"], before)
        assert not torch.equal(other.predict_maps(images)["heatmap"], before)
        assert torch.equal(other.run_network(images)["heatmap"], other.predict_maps(images)["heatmap"])


def test_the_heatmap_has_a_peak_for_every_box_inside():
    model = tracking_model()
    boxes = [torch.tensor([[10.0, 20, 30, 40], [-50, -50, -1, -1], [60, 60, 90, 90]]), torch.zeros(0, 4)]
    heatmap = model.render_heatmap(boxes, (64, 64))
    assert heatmap.shape == (2, 1, 64, 64)
    peaks = (heatmap[0, 0] == 1).nonzero().tolist()
    assert peaks == [[30, 20], [62, 62]]
    y, x = np.mgrid[:64, :64]
    # Boxes of 20 and, cut, of 4 pixels: radii 7 and 1 by the reference formula.
    expected = np.zeros((64, 64))
    for cx, cy, radius in [(20, 30, _cornernet_radius(20.0)), (62, 62, _cornernet_radius(4.0))]:
        sigma = (2 * radius + 1) / 6
        gaussian = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma**2))
        gaussian[(abs(x - cx) > radius) | (abs(y - cy) > radius)] = 0
        expected = np.maximum(expected, gaussian)
    assert np.abs(heatmap[0, 0].numpy() - expected).max() < 1e-6
    assert not heatmap[1].any()


def _cornernet_radius(side):
    """The third of CornerNet's cases as its code has it, of a square."""
    b, c = -2 * 0.7 * 2 * side, (0.7 - 1) * side * side
    return int((b + np.sqrt(b * b - 4 * 4 * 0.7 * c)) / 2)


@pytest.mark.parametrize("task", ["DetectionTask", "KeypointRegressionTask"])
def test_a_step_reaches_every_parameter(task):
    """Boxes and poses; without objects in the batch, too (no gradient is missing, which processes would wait for)."""
    opts = ["MODEL.CENTERNET.TASK", task]
    if task == "KeypointRegressionTask":
        opts += ["MODEL.KEYPOINT.SCHEMA", "pose17", "MODEL.CENTERNET.NUM_CLASSES", 1]
    model = tracking_model(*opts).train()
    boxes = [[8.0, 8, 40, 40], [30, 20, 60, 60]]
    batch = [tracking_input(boxes, [0, 0]), tracking_input([], [], seed=1)]
    for sample in batch:
        keypoints = torch.rand(len(sample["instances"]), 17, 3) * 40 + 5
        sample["instances"].gt_keypoints = Keypoints(keypoints)
    losses = model(batch)
    assert losses["loss_displacement"] > 0
    sum(losses.values()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    model.zero_grad()
    sum(model(batch[1:]).values()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_only_objects_that_were_there_teach_the_displacement():
    model = tracking_model().train()
    sample = tracking_input([[8.0, 8, 40, 40], [30, 20, 60, 60]], [0, 1])
    instances = sample["instances"]
    targets = Targets.from_instances([instances], 4, (16, 16))
    head = model.task.heads["displacement"]
    _, cells, values = head.encode(targets)
    centers = instances.gt_boxes.get_centers() / 4
    assert torch.allclose(values[:, 0], centers + 0.75 - cells[:, 0])
    instances.gt_previous_center.tensor[0, 0, 2] = 0
    _, cells, _ = head.encode(Targets.from_instances([instances], 4, (16, 16)))
    assert len(cells) == 1


class PerfectVideo:
    """Stands in for ``model.run_network``: the maps of the frame that is requested; flipped passes come second."""

    def __init__(self, model, size, frames):
        self.model, self.size, self.frames, self.calls = model, size, frames, 0
        self.inputs = []

    def __call__(self, batch):
        self.inputs.append(batch)
        size, flip = tuple(batch.shape[-2:]), self.model.test_time_augmentation.flip
        frame, is_flipped = divmod(self.calls, 2) if flip else (self.calls, 0)
        self.calls += 1
        keep = self.model.test_time_augmentation.resize == "keep"
        matrix = build_letterbox_matrix(self.size, size, 1.0 if keep else None)
        matrix = flip_matrix(matrix, size[1]) if is_flipped else matrix
        now, before = self.frames[frame], self.frames[max(frame - 1, 0)]
        instances = Instances(size)
        corners = transform_points(now.reshape(-1, 2), matrix).reshape(-1, 2, 2)
        instances.gt_boxes = Boxes(torch.tensor(np.concatenate([corners.min(1), corners.max(1)], axis=1)))
        instances.gt_classes = torch.arange(len(now)) % 2
        centers = transform_points((before[:, :2] + before[:, 2:]) / 2, matrix)
        known = torch.ones(len(now), 1)
        instances.gt_previous_center = Keypoints(torch.cat([torch.tensor(centers).float(), known], dim=1)[:, None])
        return self.model.task.encode_dense(Targets.from_instances([instances], 4, (size[0] // 4, size[1] // 4)))


@pytest.mark.parametrize("resize", ["fixed", "keep"])
@pytest.mark.parametrize("flip", [False, True])
def test_a_perfect_network_gives_tracks_and_displacements_back(resize, flip):
    """Four objects that move and cross, in pixels of images of an odd size."""
    cfg = tracking_cfg("INPUT.RESIZE_TEST", resize, "TEST.AUG.ENABLED", flip, "TEST.DETECTIONS_PER_IMAGE", 4)
    predictor = DefaultPredictor(cfg)
    size, speed = (97, 203), np.array([[9.0, 0], [-9, 0.5], [4, 3], [0, -6]])
    start = np.array([[20.3, 30, 60.3, 60], [110.3, 46, 150.3, 76], [100.7, 10, 130.7, 40], [160.1, 60, 190.1, 90]])
    frames = [start + np.tile(speed, 2) * number for number in range(7)]
    network = predictor.model.run_network = PerfectVideo(predictor.model, size, frames)
    for number, boxes in enumerate(frames):
        predictions = predictor(np.full((*size, 3), number, np.uint8))["instances"]
        predictions = predictions[predictions.pred_track_ids.argsort()]
        if number == 0:
            order = [int(np.abs(boxes - box).max(axis=1).argmin()) for box in predictions.pred_boxes.tensor.numpy()]
        assert predictions.pred_track_ids.tolist() == [1, 2, 3, 4]
        assert np.abs(predictions.pred_boxes.tensor.numpy() - boxes[order]).max() < 2e-3
        expected = -speed[order] * (number > 0)
        assert np.abs(predictions.pred_displacement.numpy() - expected).max() < 2e-3
    assert network.calls == 7 * (1 + flip)


def test_the_network_is_shown_the_previous_frame_and_its_tracks():
    """First itself and nothing; then the last image and a peak where each track was."""
    cfg = tracking_cfg("TEST.DETECTIONS_PER_IMAGE", 2, "INPUT.RESIZE_TEST", "keep")
    predictor = DefaultPredictor(cfg)
    model = predictor.model
    boxes = np.array([[10.0, 10, 42, 42], [60, 30, 100, 80]])
    network = model.run_network = PerfectVideo(model, (96, 128), [boxes, boxes + 2, boxes + 4, boxes, boxes, boxes])
    for value in (10, 20, 30):
        predictor(np.full((96, 128, 3), value, np.uint8))
    first, second, third = network.inputs
    assert torch.equal(first[:, :3], first[:, 3:6]) and not first[:, 6].any()
    assert torch.equal(second[:, 3:6], first[:, :3])
    assert (second[0, 6] == 1).nonzero().tolist() == [[26, 26], [55, 80]]
    assert (third[0, 6] == 1).nonzero().tolist() == [[28, 28], [57, 82]]
    model.reset()
    predictions = predictor(np.full((96, 128, 3), 40, np.uint8))["instances"]
    assert predictions.pred_track_ids.tolist() == [1, 2]
    assert not network.inputs[-1][:, 6].any()


def test_videos_begin_anew():
    """Where "video_id" or the size changes, and after training."""
    model = tracking_model("TEST.DETECTIONS_PER_IMAGE", 1, "INPUT.RESIZE_TEST", "keep").eval()
    box = np.array([[10.0, 10, 42, 42]])
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)

    def shown(*samples):
        network = model.run_network = PerfectVideo(model, (64, 64), [box] * len(samples))
        results = model(list(samples))
        assert [x["instances"].pred_track_ids.tolist() for x in results] == [[1]] * len(samples)
        return [bool(batch[:, 6].any()) for batch in network.inputs]

    assert shown({"image": image, "video_id": 1}, {"image": image, "video_id": 1}) == [False, True]
    assert shown({"image": image, "video_id": 1}, {"image": image, "video_id": 2}) == [True, False]
    assert shown({"image": image[:, :32], "video_id": 2}, {"image": image, "video_id": 2}) == [False, False]
    model.train()
    model.eval()
    assert shown({"image": image, "video_id": 2}) == [False]
    model.reset()
    assert shown({"image": image}, {"image": image}) == [False, True]


def test_wrong_configs_get_a_sentence():
    with pytest.raises(ValueError, match="TinyBackbone has no module 'stem'"):
        tracking_model("MODEL.BACKBONE.NAME", "TinyBackbone")
