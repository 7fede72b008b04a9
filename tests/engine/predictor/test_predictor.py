"""The predictor for scripts: what DefaultPredictor finds, many images at once, with every switch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.engine import DefaultPredictor
from detectron2.layers import Conv2d
from detectron2.modeling import build_model
from torch import nn

from centernet_d2.checkpoint.checkpointer import SafeCheckpointer
from centernet_d2.checkpoint.reading import UnsafeCheckpointError
from centernet_d2.engine.predictor import Predictor
from tests.helpers.tiny import tiny_cfg
from tests.modeling.meta_arch.test_centertrack import tracking_cfg

ROOT = Path(__file__).resolve().parents[3]
SIZES = [(120, 170), (64, 64), (170, 120), (33, 200), (120, 170)]
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def images(sizes=SIZES) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [cv2.resize(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), size[::-1]) for size in sizes]


@pytest.fixture
def trained(tmp_path):
    """The config of a small hourglass whose checkpoint is not what a start is like; boxes have some size."""
    cfg = tiny_cfg("MODEL.BACKBONE.NAME", "build_hourglass_backbone", "INPUT.SIZE_TEST", [96, 128])
    cfg.MODEL.HOURGLASS.CHANNELS, cfg.MODEL.HOURGLASS.BLOCKS = [16, 16], [1, 1]
    cfg.MODEL.CENTERNET.GRID_POINTS, cfg.TEST.DETECTIONS_PER_IMAGE = [0, 4, 8], 20
    torch.manual_seed(0)
    model = build_model(cfg)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.7, 1.3)
        for parameter in model.task.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
        model.task.heads["box_size"].layers[-1][2].bias.fill_(6)
    SafeCheckpointer(model, str(tmp_path)).save("model_final")
    cfg.MODEL.WEIGHTS = str(tmp_path / "model_final.pth")
    return cfg


def assert_same(predictions, expected, tolerance=1e-4):
    """The same objects; those of equal scores may change places."""
    assert predictions.image_size == expected.image_size and len(predictions) == len(expected) > 0
    torch.testing.assert_close(predictions.scores, expected.scores, atol=tolerance, rtol=0)
    near = (predictions.scores[:, None] - expected.scores).abs() <= tolerance
    near &= predictions.pred_classes[:, None] == expected.pred_classes
    near &= (predictions.pred_boxes.tensor[:, None] - expected.pred_boxes.tensor).abs().amax(dim=-1) < 100 * tolerance
    assert near.any(dim=0).all() and near.any(dim=1).all()


@pytest.mark.parametrize("order", ["BGR", "RGB"])
@pytest.mark.parametrize("resize", ["fixed", "keep"])
@pytest.mark.parametrize("augmented", [False, True])
def test_it_finds_what_detectron2s_finds(trained, order, resize, augmented):
    trained.INPUT.FORMAT, trained.INPUT.RESIZE_TEST, trained.TEST.AUG.ENABLED = order, resize, augmented
    ours, theirs = Predictor(trained), DefaultPredictor(trained)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in ours.model.modules())
    together = ours.predict_batch(images())
    assert len(together) == len(SIZES)
    for image, one in zip(images(), together, strict=True):
        expected = theirs(image)["instances"]
        assert_same(ours(image)["instances"], expected)
        assert_same(one["instances"], expected)


def test_images_of_one_network_size_go_through_together(trained):
    trained.INPUT.RESIZE_TEST = "keep"
    predictor, batches = Predictor(trained), []
    outputs = predictor.model.run_network
    predictor.model.run_network = lambda images: batches.append(tuple(images.shape)) or outputs(images)
    predictions = predictor.predict_batch(images())
    assert [x["instances"].image_size for x in predictions] == SIZES
    # (120, 170) twice; 33 becomes 40, 170 becomes 176.
    assert sorted(batches) == [(1, 3, 40, 200), (1, 3, 64, 64), (1, 3, 176, 120), (2, 3, 120, 176)]
    assert predictor.predict_batch([]) == []


def test_a_image_that_cannot_be_written_to(trained):
    image = images()[0]
    image.flags.writeable = False
    assert len(Predictor(trained)(image)["instances"]) > 0


def test_frames_of_a_tracker_come_in_order():
    """Untrained, it follows whatever it finds."""
    cfg = tracking_cfg("MODEL.TRACKING.SCORE_THRESH", 0.05, "MODEL.TRACKING.NEW_THRESH", 0.05)
    torch.manual_seed(0)
    ours = Predictor(cfg)
    torch.manual_seed(0)
    theirs = DefaultPredictor(cfg)
    frames = images([(96, 128)] * 3)
    for predictions, frame in zip(ours.predict_batch(frames), frames, strict=True):
        expected = theirs(frame)["instances"]
        assert_same(predictions["instances"], expected)
        assert predictions["instances"].pred_track_ids.tolist() == expected.pred_track_ids.tolist()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_eight_threads_get_what_one_gets(trained, precision):
    trained.INPUT.RESIZE_TEST, trained.MODEL.INFERENCE.PRECISION = "keep", precision
    predictor = Predictor(trained)
    expected = [predictor(image)["instances"] for image in images()]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda k: predictor(images()[k % len(SIZES)])["instances"], range(40)))
    for k, one in enumerate(found):
        assert torch.equal(one.scores, expected[k % len(SIZES)].scores)
        assert torch.equal(one.pred_boxes.tensor, expected[k % len(SIZES)].pred_boxes.tensor)


def test_without_folding_the_model_is_what_it_was(trained):
    trained.MODEL.INFERENCE.FUSE_BATCH_NORM = False
    ours, theirs = Predictor(trained).model.state_dict(), DefaultPredictor(trained).model.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(("name", "dtype"), [("bfloat16", torch.bfloat16), ("float16", torch.float16)])
def test_precision_of_the_network_and_of_its_heads(trained, name, dtype):
    """Convolutions of the network get what was requested, those of the heads float32; the maps are near, not equal."""
    trained.MODEL.INFERENCE.PRECISION = name
    predictor, seen = Predictor(trained), {}

    def note(module, inputs, output):
        seen.setdefault(module in heads, set()).add(output.dtype)

    heads = {module for module in predictor.model.task.modules() if isinstance(module, nn.Conv2d)}
    for module in predictor.model.modules():
        if isinstance(module, (nn.Conv2d, Conv2d)):
            module.register_forward_hook(note)
    inputs = torch.randn(1, 3, 96, 128)
    with torch.no_grad():
        maps, expected = predictor.model.run_network(inputs), DefaultPredictor(trained).model.predict_maps(inputs)
    assert seen == {False: {dtype}, True: {torch.float32}}
    for key, value in expected.items():
        away = (maps[key] - value).abs().max() / value.abs().max()
        assert maps[key].dtype == torch.float32 and 0 < away < 0.05, key
    assert len(predictor(images()[0])["instances"]) == 20


def test_switches_that_are_not_there_get_a_sentence(trained):
    trained.MODEL.INFERENCE.PRECISION = "int8"
    with pytest.raises(ValueError, match=r"PRECISION must be one of .*'bfloat16'.* not 'int8'"):
        Predictor(trained)
    trained.MODEL.INFERENCE.PRECISION, trained.MODEL.INFERENCE.CUDA_GRAPHS = "float32", True
    with pytest.raises(ValueError, match=r"CUDA_GRAPHS needs a GPU, but MODEL\.DEVICE is 'cpu'"):
        Predictor(trained)


def test_weights_that_run_code_are_refused(trained, tmp_path):
    torch.save({"model": {}, "code": np.vectorize(abs)}, tmp_path / "bad.pth")
    trained.MODEL.WEIGHTS = str(tmp_path / "bad.pth")
    with pytest.raises(UnsafeCheckpointError):
        Predictor(trained)


@pytest.mark.slow
def test_a_compiled_network(trained):
    trained.MODEL.INFERENCE.COMPILE = True
    ours, theirs = Predictor(trained), DefaultPredictor(trained)
    for predictions, image in zip(ours.predict_batch(images()), images(), strict=True):
        assert_same(predictions["instances"], theirs(image)["instances"])


@on_a_gpu
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_cuda_graphs(trained, precision, compiled):
    """Several sizes in turn, each recorded once, and none in the way of another."""
    trained.MODEL.DEVICE, trained.INPUT.RESIZE_TEST, trained.TEST.AUG.ENABLED = "cuda", "keep", True
    trained.MODEL.INFERENCE.PRECISION, trained.MODEL.INFERENCE.COMPILE = precision, compiled
    plain = Predictor(trained).predict_batch(images())
    trained.MODEL.INFERENCE.CUDA_GRAPHS = True
    predictor = Predictor(trained)
    for _ in range(2):
        for predictions, expected in zip(predictor.predict_batch(images()), plain, strict=True):
            assert_same(predictions["instances"].to("cpu"), expected["instances"].to("cpu"))
    assert len(predictor.model.run_network._recorded) == 4
