"""Suppression across classes, for every task and merge, and in the exported predictor's own text."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from torchvision.ops import box_iou

from centernet_d2.config import get_cfg, warn_of_unused_keys
from centernet_d2.runtime import merging
from tests.helpers.keypoints import keypoint_cfg
from tests.helpers.tiny import tiny_cfg, tiny_model
from tests.modeling.tasks.test_boxes3d import box3d_cfg

NINE = ("MODEL.CENTERNET.GRID_POINTS", list(range(9)))


def boxes_of_one_object(*opts) -> tuple[list[int], list[float]]:
    """Classes and scores above 0.3 of one object that has two peaks of class 0, and one of class 1."""
    model = tiny_model(*opts).eval()
    maps = model.predict_maps(torch.zeros(1, 3, 64, 64))
    maps["heatmap"].fill_(-9)
    maps["heatmap"][0, 0, 8, 7], maps["heatmap"][0, 0, 8, 9], maps["heatmap"][0, 1, 8, 7] = 2.0, 1.0, 1.5
    maps["box_size"].fill_(10.0), maps["offset"].fill_(0.5)
    model.run_network = lambda images: maps
    predictions = model([{"image": torch.zeros(3, 64, 64, dtype=torch.uint8)}])[0]["instances"]
    predictions = predictions[predictions.scores > 0.3]
    return predictions.pred_classes.tolist(), predictions.scores.tolist()


def test_one_object_has_one_label_on_demand():
    plain = torch.tensor([2.0, 1.5, 1.0]).sigmoid().tolist()
    assert boxes_of_one_object() == ([0, 1, 0], pytest.approx(plain))
    assert boxes_of_one_object("TEST.NMS", 0.5) == ([0], pytest.approx(plain[:1]))
    # Two peaks two cells apart of boxes ten cells wide: an IoU of 8 / 12, less than this.
    assert boxes_of_one_object("TEST.NMS", 0.7) == ([0, 0], pytest.approx([plain[0], plain[2]]))
    # Within a class, and softly: exp(-IoU^2 / 0.5) of the second peak's score.
    classes, scores = boxes_of_one_object("MODEL.CENTERNET.MERGE", "soft_nms")
    lowered = plain[2] * np.exp(-((8 / 12) ** 2) / 0.5)
    assert classes == [0, 1] + [0] * int(lowered > 0.3) and scores[:2] == pytest.approx(plain[:2])


CONFIGS = {
    "one point": lambda: tiny_cfg(),
    "vote": lambda: tiny_cfg(*NINE, "MODEL.CENTERNET.MERGE", "vote"),
    "soft_nms": lambda: tiny_cfg(*NINE, "MODEL.CENTERNET.MERGE", "soft_nms"),
    "resample": lambda: tiny_cfg(*NINE, "MODEL.CENTERNET.MERGE", "resample"),
    "landmarks": lambda: keypoint_cfg("face68", "KeypointRegressionTask"),
    "3D boxes": lambda: box3d_cfg(),
    "test-time passes": lambda: tiny_cfg("TEST.AUG.ENABLED", True, "TEST.AUG.FLIP", True, "TEST.AUG.SCALES", [1, 1.5]),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_no_two_boxes_overlap_more(name):
    """What is left is what the exported predictor's text leaves of what was there."""
    cfg = CONFIGS[name]()
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8))
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    with torch.no_grad():
        if "box_size" in model.task.heads:
            for parameter in model.task.heads["box_size"].parameters():
                parameter.fill_(0)
            model.task.heads["box_size"].layers[-1][2].bias.fill_(4)
    with torch.no_grad():
        (plain,) = model.detect([{"image": image}])
    model.nms_threshold = 0.3
    with torch.no_grad():
        (predictions,) = model.detect([{"image": image}])
    boxes = predictions.pred_boxes.tensor
    assert 1 < len(predictions) < len(plain)
    assert (box_iou(boxes, boxes) - torch.eye(len(boxes))).max() <= 0.3
    arrays = {"boxes": plain.pred_boxes.tensor.numpy(), "scores": plain.scores.numpy()}
    expected = merging.suppress(arrays, 0.3)
    np.testing.assert_array_equal(boxes.numpy(), expected["boxes"])
    np.testing.assert_array_equal(predictions.scores.numpy(), expected["scores"])


def test_other_values_are_refused():
    for value in (-0.1, 1.5):
        with pytest.raises(ValueError, match=r"TEST\.NMS"):
            tiny_model("TEST.NMS", value)


def said(caplog, *opts) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        tiny_model(*opts)
    return [r.getMessage() for r in caplog.records if "no effect" in r.getMessage()]


@pytest.mark.parametrize(
    ("key", "value", "ours"),
    [
        ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.5, "MODEL.CENTERNET.SCORE_THRESH_TEST"),
        ("MODEL.ROI_HEADS.NMS_THRESH_TEST", 0.3, "TEST.NMS"),
        ("MODEL.ROI_HEADS.NUM_CLASSES", 2, "MODEL.CENTERNET.NUM_CLASSES"),
        ("MODEL.RETINANET.SCORE_THRESH_TEST", 0.5, "MODEL.CENTERNET.SCORE_THRESH_TEST"),
        ("INPUT.MIN_SIZE_TRAIN", (640,), "INPUT.SIZE_TRAIN"),
        ("INPUT.MAX_SIZE_TRAIN", 999, "INPUT.SIZE_TRAIN"),
        ("INPUT.RANDOM_FLIP", "none", "INPUT.AFFINE.FLIP_PROB"),
        ("INPUT.CROP.ENABLED", True, "INPUT.AFFINE"),
        ("TEST.AUG.MIN_SIZES", (400,), "TEST.AUG.SCALES"),
    ],
)
def test_inherited_keys_without_effect_are_said(key, value, ours, caplog):
    assert said(caplog, key, value) == [f"{key} has no effect here: set {ours}"]


def test_others_are_not_said(caplog):
    assert said(caplog, "TEST.DETECTIONS_PER_IMAGE", 50, "INPUT.MIN_SIZE_TRAIN", [800]) == []
    assert said(caplog, "MODEL.RPN.NMS_THRESH", 0.5) == ["MODEL.RPN.NMS_THRESH has no effect here"]


def test_nothing_is_said_of_a_saved_config(caplog, tmp_path):
    (tmp_path / "config.yaml").write_text(get_cfg().dump())
    cfg = get_cfg()
    cfg.merge_from_file(str(tmp_path / "config.yaml"))
    warn_of_unused_keys(cfg)
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("limit", "candidates", "warns"),
    [(300, 100, True), (100, 50, True), (100, 100, False), (50, 100, False), (300, 300, False)],
)
def test_fewer_candidates_than_detections_are_a_warning(limit, candidates, warns, caplog):
    """And the limit is real: a map full of peaks gives no more objects than candidates."""
    opts = ("TEST.DETECTIONS_PER_IMAGE", limit, "MODEL.CENTERNET.TOPK_CANDIDATES", candidates)
    model = tiny_model(*opts, "INPUT.SIZE_TEST", [128, 128]).eval()
    texts = [record.getMessage() for record in caplog.records if "DETECTIONS_PER_IMAGE" in record.getMessage()]
    assert len(texts) == warns
    if warns:
        start = f"MODEL.CENTERNET.TOPK_CANDIDATES is {candidates}, less than TEST.DETECTIONS_PER_IMAGE, {limit}: "
        assert texts[0].startswith(start)
    plain = model.predict_maps

    def full(images):
        maps = plain(images)
        grid = torch.arange(32)
        maps["heatmap"][:] = -9.0 + 10 * ((grid[:, None] % 2 == 0) & (grid % 2 == 0))
        maps["box_size"][:] = 1.0
        return maps

    model.predict_maps = model.run_network = full
    with torch.no_grad():
        found = model([{"image": torch.zeros(3, 128, 128, dtype=torch.uint8), "height": 128, "width": 128}])
    assert len(found[0]["instances"]) == min(limit, candidates)


def test_other_limits_of_candidates_and_defaults(caplog):
    opts = ("MODEL.CENTERNET.TASK", "ExtremePointTask", "MODEL.KEYPOINT.SCHEMA", "extreme4")
    tiny_model(*opts)
    assert "DETECTIONS_PER_IMAGE" not in caplog.text, "the published 40 peaks a side for 100 objects"
    tiny_model(*opts, "TEST.DETECTIONS_PER_IMAGE", 300)
    assert "MODEL.EXTREME.TOPK is 40, less than TEST.DETECTIONS_PER_IMAGE, 300" in caplog.text
    opts = ("MODEL.CENTERNET.TASK", "KeypointHeatmapTask", "MODEL.KEYPOINT.SCHEMA", "face68")
    tiny_model(*opts, "MODEL.CENTERNET.NUM_CLASSES", 1, "TEST.DETECTIONS_PER_IMAGE", 90)
    assert "MODEL.KEYPOINT.TOPK_PEAKS is 32, less than TEST.DETECTIONS_PER_IMAGE, 90" in caplog.text
    caplog.clear()
    opts = ("MODEL.CENTERNET.TASK", "KeypointRegressionTask", "MODEL.KEYPOINT.SCHEMA", "face68")
    tiny_model(*opts, "MODEL.KEYPOINT.REFINE", False, "MODEL.CENTERNET.NUM_CLASSES", 1)
    tiny_model(*opts, "MODEL.KEYPOINT.REFINE", False, "MODEL.CENTERNET.NUM_CLASSES", 1, "TEST.DETECTIONS_PER_IMAGE", 90)
    assert "DETECTIONS_PER_IMAGE" not in caplog.text, "it reads no peaks of keypoints"
