"""Rotated boxes: from annotations through the warp, targets, perfect maps and back, the evaluator and the drawing."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.transforms import TransformList
from detectron2.modeling import build_model
from detectron2.structures import Boxes, BoxMode, Instances, RotatedBoxes

from centernet_d2.data.annotations import convert_to_corner_boxes
from centernet_d2.data.fields_masks import CornerField, fit_rectangle
from centernet_d2.data.synthetic import rotated
from centernet_d2.data.transforms.affine import AffineTransform
from centernet_d2.data.validation.issues import AnnotationError
from centernet_d2.data.validation.usable import check_pairing
from centernet_d2.evaluation.rotated_boxes import (
    RotatedBoxEvaluator,
    evaluate_rotated,
    list_angle_errors,
    read_rotated_boxes,
)
from centernet_d2.geometry import build_affine_matrix, flip_matrix
from centernet_d2.modeling.heads.angle import decode_angle, encode_angle
from centernet_d2.ops.rotated_boxes import compute_corners, compute_rotated_iou, wrap_half_turn
from centernet_d2.structures import Targets
from centernet_d2.visualization.visualizer import Visualizer
from tests.helpers.tiny import tiny_cfg

CONFIG = rotated.RotatedConfig()
SIZE = (256, 256)
# x, y, width, height, angle; upright ones, one at the period, and one that reaches out of the image.
BOXES = torch.tensor(
    [
        [50.0, 60, 60, 20, 0],
        [150, 60, 50, 30, 89.9],
        [60, 180, 70, 15, -90],
        [170, 170, 60, 40, -33],
        [238, 120, 60, 12, 5],
    ]
)


def build_task(*opts):
    torch.manual_seed(0)
    return build_model(tiny_cfg("MODEL.CENTERNET.TASK", "RotatedBoxTask", *opts)).task.eval()


def annotate(boxes: torch.Tensor) -> list[dict]:
    corners = compute_corners(boxes.double())
    outer = torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1).tolist()
    return [
        {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": k % 3, "segmentation": [own.ravel().tolist()]}
        for k, (box, own) in enumerate(zip(outer, corners.numpy(), strict=True))
    ]


def read_targets(boxes: torch.Tensor, matrix: np.ndarray | None = None) -> Targets:
    matrix = np.eye(3)[:2] if matrix is None else matrix
    transforms, annotations = TransformList([AffineTransform(matrix, SIZE)]), annotate(boxes)
    fields = CornerField(tiny_cfg()).read({"height": 256, "width": 256}, annotations, transforms, SIZE)
    instances = Instances(SIZE, **fields)
    upright = transforms.apply_box(convert_to_corner_boxes(annotations)).clip(0, 256)
    instances.gt_boxes = Boxes(torch.from_numpy(upright).float())
    instances.gt_classes = torch.tensor([a["category_id"] for a in annotations])
    return Targets.from_instances([instances], 4, (64, 64))


def predict(task, maps) -> Instances:
    """The objects of perfect maps, in input pixels."""
    candidates = task.decode(maps).transform(torch.full((1, 2), 4.0), torch.zeros(1, 2))
    (instances,) = task.merge(candidates, 20).to_instances([SIZE], 0.5)
    return task.finish(instances, {})


def assert_same_boxes(found: torch.Tensor, expected: torch.Tensor) -> None:
    overlap = compute_rotated_iou(found[:, None].double(), expected[None].double())
    assert len(found) == len(expected)
    np.testing.assert_allclose(overlap.amax(dim=0), 1, atol=2e-3)


@pytest.mark.parametrize("turn", [0.0, 0.05, 44.9, 45.1, 90.0, 179.9])
def test_what_is_encoded_comes_back(turn):
    boxes = BOXES.clone()
    boxes[:, 4] += turn
    boxes = boxes[:4] if turn > 10 else boxes  # the last one would leave the image with its center's neighbors
    task = build_task()
    instances = predict(task, task.encode_dense(read_targets(boxes)))
    assert_same_boxes(instances.pred_rotated_boxes.tensor, boxes)
    corners = compute_corners(instances.pred_rotated_boxes.tensor)
    torch.testing.assert_close(instances.pred_boxes.tensor[:, :2], corners.amin(dim=1))
    angle = instances.pred_rotated_boxes.tensor[:, 4]
    assert (angle >= -90).all() and (angle < 90).all()


def test_flip_turns_the_angles_the_other_way():
    flipped = BOXES * torch.tensor([-1, 1, 1, 1, -1]) + torch.tensor([256.0, 0, 0, 0, 0])
    task = build_task()
    instances = predict(task, task.encode_dense(read_targets(BOXES, flip_matrix(np.eye(3)[:2], 256))))
    assert_same_boxes(instances.pred_rotated_boxes.tensor, flipped)


def test_warp_turns_and_scales():
    boxes = torch.tensor([[128.0, 128, 100, 30, 20], [100, 140, 60, 20, -85]])
    instances = predict(build_task(), build_task().encode_dense(
        read_targets(boxes, build_affine_matrix((128, 128), 0.5, 30.0, SIZE))
    ))  # fmt: skip
    # Counterclockwise by 30 degrees about the center, at half the size.
    cosine, sine = np.cos(np.pi / 6), np.sin(np.pi / 6)
    x, y = (boxes[:, :2] - 128).T * 0.5
    center = torch.stack([x * cosine + y * sine, y * cosine - x * sine], dim=1) + 128
    expected = torch.cat([center, boxes[:, 2:4] / 2, boxes[:, 4:] + 30], dim=1)
    assert_same_boxes(instances.pred_rotated_boxes.tensor, expected)


def test_flipped_maps_are_those_of_the_image():
    task = build_task()
    maps = task.encode_dense(read_targets(BOXES))["angle"]
    there = task.encode_dense(read_targets(BOXES, flip_matrix(np.eye(3)[:2], 256)))["angle"]
    back = task.heads["angle"].unflip(there)
    both = (maps.abs().sum(dim=1) > 0) & (back.abs().sum(dim=1) > 0)
    assert both.sum() >= 2  # centers on the border of two cells change theirs
    torch.testing.assert_close(back.movedim(1, -1)[both], maps.movedim(1, -1)[both], atol=1e-4, rtol=0)


def test_angle_code_has_no_jump():
    """Neighbors have neighboring codes, also across the period, and of squares across a quarter turn in the part
    that says the direction."""
    angles = torch.arange(-270, 270, 0.5, dtype=torch.float64)
    codes = encode_angle(angles)
    assert (codes.diff(dim=0).norm(dim=1) < 0.04).all()
    torch.testing.assert_close(codes[angles == -90], codes[angles == 90])
    torch.testing.assert_close(codes[angles == -30, 2:], codes[angles == 60, 2:])
    torch.testing.assert_close(decode_angle(codes), wrap_half_turn(angles), atol=1e-6, rtol=0)
    # Where a network cannot know which side of a square is the longer one, the direction stays.
    unsure = codes * torch.tensor([0.1, 0.1, 1, 1])
    torch.testing.assert_close(decode_angle(unsure), wrap_half_turn(angles), atol=1e-6, rtol=0)


def test_objects_with_their_center_outside_are_not_trained():
    task = build_task()
    outside = torch.tensor([[260.0, 100, 60, 20, 30]])
    objects = task.prepare(read_targets(torch.cat([BOXES, outside])))
    assert len(objects) == len(BOXES)


def test_smallest_rectangle_is_found_around_any_outline():
    corners = compute_corners(torch.tensor([1e4, 2e4, 80, 30, 25], dtype=torch.float64)).numpy()
    points = np.concatenate([corners, (corners + np.roll(corners, 1, axis=0)) / 2, corners.mean(axis=0, keepdims=True)])
    found = fit_rectangle(points)
    distance = np.linalg.norm(found[:, None] - corners[None], axis=-1)
    assert distance.min(axis=1).max() < 1e-3 and set(distance.argmin(axis=1)) == {0, 1, 2, 3}


def test_passes_are_merged_and_nms_uses_the_rotated_boxes():
    task = build_task()
    crossing = torch.tensor([[128.0, 128, 100, 10, 0], [128, 140, 100, 10, 60]])
    candidates = task.decode(task.encode_dense(read_targets(crossing))).transform(
        torch.full((1, 2), 4.0), torch.zeros(1, 2)
    )
    twice = type(candidates).cat([candidates, candidates])
    merged = task.merge(twice, 20).to_instances([SIZE], 0.5)[0]
    assert len(merged) == 2
    (single,) = task.merge(candidates, 20).to_instances([SIZE], 0.5)
    # Before the turn both would be the same box but for twelve pixels; they share a tenth of their area.
    assert len(task.suppress(single, 0.2)) == 2


@pytest.mark.parametrize(
    ("opts", "problem"),
    [(("MODEL.CENTERNET.GRID_POINTS", [0, 4]), "one center"), (("INPUT.RESIZE_TEST", "stretch"), "angles that stay")],
)
def test_settings_that_do_not_go_with_it_are_refused(opts, problem):
    with pytest.raises(ValueError, match=problem):
        build_task(*opts)


def test_sets_without_outlines_are_refused():
    objects = [{"bbox": [0, 0, 5, 5], "category_id": 0}]
    with pytest.raises(AnnotationError, match="RotatedBoxTask learns from outlines"):
        check_pairing("mine", [{"annotations": objects}], "RotatedBoxTask", ("corners",))


def test_instances_are_scaled_to_the_image():
    model = build_model(tiny_cfg("MODEL.CENTERNET.TASK", "RotatedBoxTask"))
    instances = Instances(SIZE, pred_boxes=Boxes(torch.tensor([[10.0, 10, 40, 40]])), scores=torch.ones(1))
    instances.pred_rotated_boxes = RotatedBoxes(torch.tensor([[25.0, 25, 20, 10, 30]]))
    result = model.rescale_to_original(instances, {"height": 512, "width": 512})
    assert result.pred_rotated_boxes.tensor[0].tolist() == pytest.approx([50, 50, 40, 20, 30], abs=1e-4)


def make_entries(boxes: torch.Tensor, scores: list[float] | None = None) -> list[dict]:
    rows = [{"bbox": x, "category_id": 0, "area": x[2] * x[3], "iscrowd": 0} for x in boxes.tolist()]
    return rows if scores is None else [{**row, "score": s} for row, s in zip(rows, scores, strict=True)]


def test_average_precision_by_hand():
    """Of two objects one is found exactly, then comes a false one, then the other at an IoU of 0.6."""
    truth = torch.tensor([[50.0, 50, 40, 20, 30], [150, 150, 40, 20, 120]])
    far = torch.tensor([[50.0, 150, 40, 20, 0]])
    shifted = truth[1:] + torch.tensor([10 * np.cos(np.pi * 2 / 3), -10 * np.sin(np.pi * 2 / 3), 0, 0, 178.0])
    shifted[0, 4] = 120  # along its length by a quarter of it: IoU 30 / 50
    found = torch.cat([truth[:1], far, shifted]).float()
    evaluation = evaluate_rotated({7: make_entries(truth)}, {7: make_entries(found, [0.9, 0.8, 0.7])}, 100, 1)
    precision = evaluation.eval["precision"][:, :, 0, 0, 0].mean(axis=1)
    half = (51 + 50 * 2 / 3) / 101  # recall 0 to 0.5 with precision 1, then 2 / 3
    np.testing.assert_allclose(precision[:2], half)
    np.testing.assert_allclose(precision[3:], 51 / 101)


def test_an_object_smaller_than_a_pixel_counts():
    truth = torch.tensor([[50.0, 50, 0.9, 0.5, 30]])
    evaluation = evaluate_rotated({1: make_entries(truth)}, {1: make_entries(truth, [0.9])}, 100, 1)
    np.testing.assert_allclose(evaluation.eval["precision"], 1)


def test_angle_errors_are_modulo_half_a_turn():
    truth = torch.tensor([[50.0, 50, 40, 20, 89.0], [150, 50, 40, 20, -10], [100, 150, 30, 29, 0]])
    found = truth + torch.tensor([0, 0, 0, 0, 3.0])
    found[0, 4] = -88
    evaluation = evaluate_rotated({1: make_entries(truth)}, {1: make_entries(found, [0.9, 0.8, 0.7])}, 100, 1)
    # The nearly square one has no direction.
    np.testing.assert_allclose(list_angle_errors(evaluation), [[89, 3], [-10, 3]], atol=1e-4)


def test_boxes_with_a_ratio_of_five_quarters_have_a_direction():
    truth = torch.tensor([[50.0, 50, 40, 32, 10], [150, 150, 39, 32, 20]])
    evaluation = evaluate_rotated({1: make_entries(truth)}, {1: make_entries(truth, [0.9, 0.8])}, 100, 1)
    np.testing.assert_allclose(list_angle_errors(evaluation), [[10, 0]], atol=1e-4)


@pytest.mark.parametrize(("shift", "count"), [(12.9, 1), (13.7, 0)])
def test_angles_are_those_of_what_overlaps_by_a_half(shift, count):
    """(40 - s) / (40 + s) is 0.512 and 0.490."""
    truth, away = torch.tensor([[50.0, 50, 40, 20, 0]]), torch.tensor([[50 + shift, 50, 40, 20, 0]])
    evaluation = evaluate_rotated({1: make_entries(truth)}, {1: make_entries(away, [0.9])}, 100, 1)
    assert len(list_angle_errors(evaluation)) == count


def test_the_evaluator_by_hand(caplog):
    """Of class 0 two objects in two images are found, one rotated by 5 degrees; of class 1 the one is missed. A
    prediction that is no number, the worse of two beyond the limit, and an image that was not processed."""
    name = "rotated_by_hand"
    objects = [annotate(BOXES[:1]), annotate(BOXES[3:4]), [dict(annotate(BOXES[2:3])[0], category_id=1)], []]
    dicts = [{"image_id": k, "height": 256, "width": 256, "annotations": x} for k, x in enumerate(objects)]
    DatasetCatalog.register(name, lambda: dicts)
    MetadataCatalog.get(name).set(thing_classes=["a", "b", "none"])
    assert RotatedBoxEvaluator(name)._limit == tiny_cfg().TEST.DETECTIONS_PER_IMAGE == 100
    evaluator = RotatedBoxEvaluator(name, limit=1)
    rows = [[50.0, 60, 60, 20, 0], [170, 170, 60, 40, -28], [np.nan, 1, 2, 3, 4]]
    for k, (box, far) in enumerate(((rows[0], rows[1]), (rows[1], rows[0]), (rows[2], rows[0]))):
        found = Instances(SIZE, scores=torch.tensor([0.5, 0.9]), pred_classes=torch.tensor([0, 0]))
        found.pred_rotated_boxes = RotatedBoxes(torch.tensor([far, box]))
        evaluator.process([{"image_id": k}], [{"instances": found}])
    results = evaluator.evaluate()["rotated"]
    # The third image's prediction is a false one of score 0.5, after both hits.
    assert results["AP50"] == pytest.approx(50) and results["AP-b"] == 0
    assert results["angle_error"] == pytest.approx(2.5, abs=1e-3)
    # The IoU of the rotated one is 0.9 to 0.95: of ten thresholds it reaches nine.
    overlap = float(compute_rotated_iou(torch.tensor(rows[1]).double(), BOXES[3].double()))
    reached = sum(overlap >= 0.5 + 0.05 * k for k in range(10))
    assert reached == 9 and results["AP75"] == pytest.approx(50)
    assert results["AP-a"] == pytest.approx(100 * (reached + (10 - reached) * 51 / 101) / 10)
    # A class without objects is left out.
    assert np.isnan(results["AP-none"])
    assert results["AP"] == pytest.approx(results["AP-a"] / 2) and "Only 3 of the 4 images" in caplog.text


def test_crowds_are_neither_missed_nor_matched():
    box = {"bbox": [10, 10, 90, 90], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, "iscrowd": 1}
    truth = read_rotated_boxes({"height": 256, "width": 256, "annotations": [box, *annotate(BOXES[1:2])]})
    assert truth[0]["bbox"][:4] == [50, 50, 80, 80]
    assert truth[1]["bbox"] == pytest.approx([150, 60, 50, 30, 89.9], abs=1e-3)
    inside, own = torch.tensor([[40.0, 40, 20, 10, 45]]), BOXES[1:2]
    evaluation = evaluate_rotated({1: truth}, {1: make_entries(torch.cat([inside, own]), [0.9, 0.5])}, 100, 1)
    assert evaluation.eval["precision"][:, :, 0, 0, 0].min() == pytest.approx(1)


def test_drawn_objects_fill_their_boxes():
    for index in range(20):
        for one, shape in zip(rotated.annotate(CONFIG, 5, index), rotated.sample_layout(CONFIG, 5, index), strict=True):
            corners = np.array(one["segmentation"]).reshape(4, 2)
            expected = compute_corners(torch.tensor(shape.box, dtype=torch.float64)).numpy()
            assert np.linalg.norm(corners[:, None] - expected, axis=-1).min(axis=1).max() < 1e-9
            assert corners.min() >= 0 and corners.max() <= 256
            outline = shape.place(list(rotated.ROTATED_OUTLINES.values())[shape.category])
            x, y, width, height, angle = shape.box
            rotation = np.array([[np.cos(np.radians(angle)), -np.sin(np.radians(angle))],
                               [np.sin(np.radians(angle)), np.cos(np.radians(angle))]])  # fmt: skip
            local = (outline - (x, y)) @ rotation.T
            np.testing.assert_allclose(np.abs(local).max(axis=0), [width / 2, height / 2], rtol=1e-3)


def test_it_is_drawn_and_described():
    instances = Instances(SIZE, pred_boxes=Boxes(torch.tensor([[10.0, 10, 90, 90]])), scores=torch.tensor([0.9]))
    instances.pred_classes = torch.tensor([0])
    image = np.full((*SIZE, 3), 90, np.uint8)
    instances.pred_rotated_boxes = RotatedBoxes(torch.tensor([[50.0, 50, 60, 10, 0]]))
    first = Visualizer().draw(image, instances)
    instances.pred_rotated_boxes = RotatedBoxes(torch.tensor([[50.0, 50, 60, 10, 45]]))
    second = Visualizer().draw(image, instances)
    assert (first != second).any()
    (entry,) = Visualizer().describe(instances)
    assert entry["rotated_box"] == [50, 50, 60, 10, 45]
    json.dumps(entry)
