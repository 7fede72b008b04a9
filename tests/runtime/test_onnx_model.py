"""The predictor's NumPy against the model's own: letterboxes, warps, soft-NMS, votes, places in space."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from centernet_d2.data.synthetic.shapes import ShapesConfig, draw
from centernet_d2.modeling.test_time_augmentation import TestTimeAugmentation
from centernet_d2.ops.box3d_geometry import convert_alpha_to_rotation_y, unproject
from centernet_d2.ops.extreme_points import suppress_ghost_boxes
from centernet_d2.ops.rotated_boxes import enclose
from centernet_d2.ops.soft_nms import cluster_vote, soft_nms
from tests.helpers.boxes3d import P2

pytest.importorskip("onnxruntime")
from centernet_d2.runtime import letterbox, merging, onnx_model


@pytest.mark.parametrize("pixel_center", [0.5, 0.0])
@pytest.mark.parametrize(
    "settings",
    [{}, {"resize": "keep"}, {"resize": "keep", "pad_always": True}, {"fit_width": True}, {"resize": "stretch"}],
)
@pytest.mark.parametrize("size", [(96, 128), (48, 64), (75, 110), (31, 200), (300, 7), (1, 1)])
def test_the_input_is_the_models(size, settings, pixel_center):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    metadata = {
        "divisibility": 32,
        "size": [96, 128],
        "resize": "fixed",
        "pad_always": False,
        "fit_width": False,
    } | settings
    times = TestTimeAugmentation(size=(96, 128), pixel_center=pixel_center, **settings)
    (expected,), back, start = times.letterbox([torch.from_numpy(image.transpose(2, 0, 1).copy())], 1.0, 32)
    scale, shift, input_size = letterbox.letterbox(size, metadata)
    predictions = letterbox.warp_image(image, scale, shift, input_size, pixel_center, metadata["resize"] == "stretch")
    assert predictions.shape == (*expected.shape[1:], 3)
    # OpenCV's versions round differently.
    assert np.abs(predictions.astype(int) - expected.numpy().transpose(1, 2, 0)).max() <= 1
    np.testing.assert_allclose(1 / scale, back[0], rtol=1e-6)
    np.testing.assert_allclose(-shift / scale, start[0], rtol=1e-5, atol=1e-4)


def test_a_synthetic_image_is_warped_alike():
    """Few pixels are rounded otherwise, if any."""
    image = draw(ShapesConfig(120, 200, min_size=10, max_size=60), 0, 0)
    (expected,), *_ = TestTimeAugmentation(size=(96, 128)).letterbox(
        [torch.from_numpy(image.transpose(2, 0, 1).copy())], 1.0, 32
    )
    metadata = {"divisibility": 32, "size": [96, 128], "resize": "fixed", "pad_always": False, "fit_width": False}
    predictions = letterbox.warp_image(image, *letterbox.letterbox((120, 200), metadata), 0.5)
    assert (predictions != expected.numpy().transpose(1, 2, 0)).mean() < 0.05


def crowd(count=120, seed=0):
    """Candidates that overlap a lot, as arrays; some slots are empty."""
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 40, (count, 2)), rng.uniform(0, 30, (count, 2))
    scores = rng.random(count) * (rng.random(count) > 0.2)
    return {
        "boxes": np.concatenate([corner, corner + size], axis=1).astype(np.float32),
        "scores": scores.astype(np.float32),
        "classes": rng.integers(0, 2, count),
        "depth": np.arange(count, dtype=np.float32),
    }


def tensors(candidates):
    return [torch.from_numpy(candidates[name])[None] for name in ("boxes", "scores", "classes")]


@pytest.mark.parametrize("limit", [5, 100, 500])
def test_soft_nms(limit):
    candidates = crowd()
    index, scores = (x[0].numpy() for x in soft_nms(*tensors(candidates), limit))
    predictions = merging.soft_nms(candidates, limit)
    kept = scores > 0
    assert predictions["depth"].tolist() == index[kept].tolist()
    np.testing.assert_allclose(predictions["scores"], scores[kept], atol=1e-6)
    np.testing.assert_array_equal(predictions["boxes"], candidates["boxes"][index[kept]])


@pytest.mark.parametrize("sources", [3, 8])
def test_votes(sources):
    candidates = crowd()
    index, boxes, scores = (x[0].numpy() for x in cluster_vote(*tensors(candidates), sources, 200))
    predictions = merging.vote(candidates, sources, 200)
    kept = scores > 0
    assert predictions["depth"].tolist() == index[kept].tolist()
    np.testing.assert_allclose(predictions["scores"], scores[kept], atol=1e-6)
    np.testing.assert_allclose(predictions["boxes"], boxes[kept], atol=1e-4)


def test_ghost_boxes():
    candidates = crowd()
    candidates["boxes"][:8] = [0, 0, 90, 90]
    scores = suppress_ghost_boxes(*tensors(candidates))[0].numpy()
    order = np.argsort(-scores, kind="stable")
    predictions = merging.suppress_ghost_boxes(candidates)
    assert (scores < candidates["scores"]).sum() > 3
    assert predictions["depth"].tolist() == order.tolist()
    np.testing.assert_allclose(predictions["scores"], scores[order])


@pytest.mark.parametrize("method", ["top", "soft_nms", "vote", "extreme_points"])
def test_nothing_stays_nothing(method):
    candidates = {name: values * 0 for name, values in crowd(6).items()}
    predictions = merging.merge(candidates, method, 3, 10)
    assert not (predictions["scores"] > 0).any()
    assert predictions["boxes"].shape == (len(predictions["scores"]), 4)


def test_positions_in_space():
    """With a calibration of one's own."""
    predictions = crowd(20) | {"orientation": np.linspace(-3, 3, 20), "dimensions": np.full((20, 3), 1.5)}
    predictions["depth"] = np.linspace(3, 60, 20)
    positioned = onnx_model.place_boxes3d(predictions, P2.numpy())
    center = (predictions["boxes"][:, :2] + predictions["boxes"][:, 2:]) / 2
    seen = torch.from_numpy(np.concatenate([center, predictions["depth"][:, None]], axis=1))
    expected = unproject(seen, P2) + torch.tensor([0, 0.75, 0])
    np.testing.assert_allclose(positioned["locations"], expected, atol=1e-4)
    turn = convert_alpha_to_rotation_y(torch.from_numpy(predictions["orientation"]), seen[:, 0], P2)
    np.testing.assert_allclose(positioned["rotation_y"], turn, atol=1e-6)
    assert "orientation" not in positioned


def test_a_image_of_another_kind_is_refused():
    """The rules are tested in tests/runtime/test_images.py."""
    predictor = object.__new__(onnx_model.OnnxPredictor)
    with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8"):
        predictor(np.full((10, 10, 3), 0.5, dtype=np.float32))


@pytest.mark.parametrize("place", ["../weights.bin", "{folder}/weights.bin"])
def test_a_file_reads_no_others(place, tmp_path):
    """ONNX files may name files with their weights; those outside of their folder are refused."""
    onnx = pytest.importorskip("onnx")
    np.zeros(4, np.float32).tofile(tmp_path / "weights.bin")
    weights = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    entry = weights.external_data.add()
    entry.key, entry.value = "location", place.format(folder=tmp_path)
    values = [onnx.helper.make_tensor_value_info(name, 1, [4]) for name in "xy"]
    nodes = [onnx.helper.make_node("Add", ["x", "w"], ["y"])]
    graph = onnx.helper.make_graph(nodes, "graph", values[:1], values[1:], [weights])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    (tmp_path / "models").mkdir()
    (tmp_path / "models/model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(Exception, match=r"(?i)external data path"):
        onnx_model.OnnxPredictor(tmp_path / "models/model.onnx")


def test_rotated_boxes_are_the_models():
    rng = np.random.default_rng(0)
    low, sizes, angle = rng.uniform(0, 90, (50, 2)), rng.uniform(0, 40, (50, 2)), rng.uniform(-180, 180, 50)
    predictions = onnx_model.rotate_boxes({"boxes": np.hstack([low, low + sizes]), "angle": angle})
    rotated = np.hstack([low + sizes / 2, sizes, angle[:, None]])
    np.testing.assert_allclose(predictions["rotated_boxes"], rotated)
    np.testing.assert_allclose(predictions["boxes"], enclose(torch.from_numpy(rotated)), atol=1e-9)
    assert set(predictions) == {"boxes", "rotated_boxes"}
