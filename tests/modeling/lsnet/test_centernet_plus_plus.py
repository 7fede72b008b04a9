"""Quarter boxes written as the maps of a perfect network decode to the boxes they came from, and corner heatmaps
correct boxes that are wrong."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, Keypoints

from centernet_d2.config import get_cfg
from centernet_d2.modeling.tasks.lsnet_box import compute_middle_points
from centernet_d2.structures import Targets

SIZE = (512, 640)
#: From 30 to 620 pixels, so that quarters are on every level.
BOXES = [
    torch.tensor([[500.0, 20, 534, 50], [30.25, 40, 230, 241], [9.0, 6, 631, 508.5], [30, 100, 400, 440]]),
    torch.tensor([[200.5, 100.25, 260, 180], [3.0, 2, 300, 254]]),
]


def build(config, *options):
    cfg = get_cfg()
    cfg.merge_from_file(f"configs/Synthetic-LSNet/{config}.yaml")
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ()
    cfg.MODEL.DEVICE, cfg.MODEL.CENTERNET.NUM_CLASSES = "cpu", 2
    cfg.MODEL.NECK.NUM_LEVELS = 3 if config == "centernet_rt" else 4
    cfg.merge_from_list(list(options))
    torch.manual_seed(0)
    return build_model(cfg).eval()


def draw_targets(flipped=False):
    result = []
    for boxes in BOXES:
        if flipped:
            x1, y1, x2, y2 = boxes.unbind(1)
            boxes = torch.stack([SIZE[1] - x2, y1, SIZE[1] - x1, y2], dim=1)
        instances = Instances(SIZE, gt_boxes=Boxes(boxes), gt_classes=torch.arange(len(boxes)) % 2)
        points = compute_middle_points(boxes)
        instances.gt_extreme_points = Keypoints(torch.cat([points, torch.full_like(points[..., :1], 2)], dim=2))
        result.append(instances)
    return Targets.from_instances(result, 1, SIZE)


def decode(model, maps, flipped=False):
    """Boxes and classes of each image, in the order of BOXES."""
    candidates = model.task.decode(maps)
    if flipped:
        scale, shift = torch.tensor([[-1.0, 1.0]]).repeat(2, 1), torch.tensor([[float(SIZE[1]), 0.0]]).repeat(2, 1)
        candidates = model.task.unflip_candidates(candidates.transform(scale, shift))
    results = model.task.merge(candidates, 20).to_instances([SIZE, SIZE], 0.5)
    found = []
    for result, boxes in zip(results, BOXES, strict=True):
        assert len(result) == len(boxes)
        order = [int((result.pred_boxes.tensor - box).abs().sum(dim=1).argmin()) for box in boxes]
        assert sorted(order) == list(range(len(boxes)))
        assert result.pred_classes[order].tolist() == [i % 2 for i in range(len(boxes))]
        found.append(result.pred_boxes.tensor[order])
    return found


def measure_error(found):
    """The largest distance of a side, pixels."""
    return max(float((a - b).abs().max()) for a, b in zip(found, BOXES, strict=True))


@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("config", ["centernet_plus_plus", "centernet_rt", "lsnet_box_cpv"])
def test_boxes_come_back(config, flipped, offset):
    model = build(config, "MODEL.LSNET.POINT_OFFSET", offset)
    maps = model.task.encode_dense(draw_targets(flipped))
    if config != "lsnet_box_cpv":
        for side in ("top_left", "bottom_right"):
            levels = range(len(model.task.strides))
            assert all(maps[f"{side}_class_{level}"].max() > 0 for level in levels), "an object of every level"
    assert measure_error(decode(model, maps, flipped)) < 1e-3


def move_quarters(model, maps, pixels):
    """Quarter boxes of the levels that heatmaps correct, moved right and down by ``pixels``."""
    return {
        name: x + pixels / model.task.strides[int(name[-1])]
        if name.rpartition("_")[0] in ("top_left", "bottom_right") and not name.endswith("_0")
        else x
        for name, x in maps.items()
    }


@pytest.mark.parametrize("threshold", [0.0, 0.3])
def test_corner_heatmaps_move_quarter_boxes_to_the_corners(threshold):
    """Of levels 1 and 2 to the peaks of level 0, by less than its cell; boxes of level 0 stay."""
    model = build("centernet_plus_plus", "MODEL.LSNET.CORNER_THRESH", threshold)
    maps = model.task.encode_dense(draw_targets())
    assert measure_error(decode(model, move_quarters(model, maps, 1.5))) < 1e-3
    without = {name: torch.full_like(x, -12.0) if "corner_scores" in name else x for name, x in maps.items()}
    error = measure_error(decode(model, move_quarters(model, without, 1.5)))
    if threshold:
        assert error == pytest.approx(1.5, abs=1e-3)  # the gate keeps the predicted corners
    else:
        assert error > 2  # without a gate corners go to cells without a peak


@pytest.mark.parametrize("threshold", [0.0, 0.3])
def test_corner_verification_of_lsnet(threshold):
    """The same for landmarks: every number of the vectors of levels 1 to 3 is 1 % larger."""
    model = build("lsnet_box_cpv", "MODEL.LSNET.CORNER_THRESH", threshold)
    maps = model.task.encode_dense(draw_targets())
    vectors = {name: x * 1.01 for name, x in maps.items() if name.rpartition("_")[0] == "box" and name != "box_0"}
    assert len(vectors) == 3
    wrong = maps | vectors
    assert measure_error(decode(model, wrong)) < 1e-3
    without = {name: torch.full_like(x, -12.0) if "corner_scores" in name else x for name, x in wrong.items()}
    plain = build("lsnet_box")
    expected = measure_error(decode(plain, wrong))
    assert 1 < expected < 5
    error = measure_error(decode(model, without))
    assert error == pytest.approx(expected, abs=1e-3) if threshold else error > expected
