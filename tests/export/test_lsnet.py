"""LSNet as a file: the same candidates and, through ONNX Runtime and NumPy, the same objects."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model

from centernet_d2.data.synthetic.shapes import ShapesConfig, draw
from centernet_d2.export import check_file, compute_differences, export_onnx
from centernet_d2.structures import Candidates
from tests.helpers.marking import mark_slow
from tests.helpers.pyramid import disturb, pyramid_cfg

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
from centernet_d2.runtime.onnx_model import OnnxPredictor

CONFIGS = {
    "lsnet_box": ("MODEL.LSNET.MERGE", "linear_soft_nms"),
    "lsnet_contour": ("MODEL.LSNET.CONTOUR_POINTS", 12),
    "lsnet_pose": ("MODEL.LSNET.MIN_BOX_AREA", 100.0),
}
POINTS = {"lsnet_box": "extreme_points", "lsnet_contour": "contour", "lsnet_pose": "keypoints"}


@pytest.mark.parametrize("name", mark_slow(CONFIGS, lambda name: name != "lsnet_box"))
def test_the_predictor_finds_the_models_objects(name, tmp_path):
    cfg = pyramid_cfg(name, "MODEL.LSNET.TOPK_CANDIDATES", 50, *CONFIGS[name])
    torch.manual_seed(0)
    model, path = disturb(build_model(cfg)).eval(), tmp_path / "model.onnx"
    graph = export_onnx(cfg, model, path)
    found = check_file(graph, path)
    assert found.keys() == {"boxes", "scores", "classes", POINTS[name]} and max(found.values()) < 1e-4
    image = draw(ShapesConfig(80, 80, min_size=10, max_size=50), 0, 1)
    predictions = OnnxPredictor(path)(image)
    expected = model([{"image": torch.from_numpy(image.transpose(2, 0, 1).copy())}])[0]["instances"]
    assert len(predictions["scores"]) == len(expected) > 3
    points = expected.get(f"pred_{POINTS[name]}")
    assert ((points[..., :2] == 0) | (points[..., :2] == 80)).any(), "some are moved to the border"
    if name == "lsnet_pose":
        assert expected.pred_boxes.area().min() > 100
    fields = expected.pred_boxes.tensor[None], expected.scores[None], expected.pred_classes[None]
    gt = Candidates(*fields, torch.zeros(1), {POINTS[name]: points[None]})
    assert max(compute_differences(gt, {key: value[None] for key, value in predictions.items()}).values()) < 1e-3


@pytest.mark.parametrize("name", ["centernet_plus_plus", "centernet_rt"])
def test_centernet_plus_plus_is_refused(name, tmp_path):
    cfg = pyramid_cfg(name)
    with pytest.raises(ValueError, match="CenterNetPlusPlusTask cannot be exported: boxes of each side suppress"):
        export_onnx(cfg, build_model(cfg).eval(), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
