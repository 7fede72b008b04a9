"""Masks, tracks and 3D boxes in images and in JSON; boxes and landmarks are in test_visualization."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from detectron2.modeling import detector_postprocess
from detectron2.structures import Boxes, Instances
from pycocotools import mask as coco_masks

from centernet_d2.data.schemas import EXTREME4, FACE68
from centernet_d2.ops.box3d_geometry import project
from centernet_d2.ops.extreme_points import make_octagon_masks
from centernet_d2.visualization.canvas import VisMetadata, get_opencv_color
from centernet_d2.visualization.visualizer import Visualizer
from tests.helpers.boxes3d import P2, SIZE, STREET, boxes_of

GRAY = 100


def gray(height: int = 400, width: int = 600) -> np.ndarray:
    return np.full((height, width, 3), GRAY, np.uint8)


def has_color(image: np.ndarray, color) -> np.ndarray:
    return np.abs(image.astype(int) - color).max(axis=-1) <= 1


def octagons() -> Instances:
    """As ExtremePointTask gives them: a diamond-like object and, cut by it, a worse one of another class."""
    points = torch.tensor(
        [[[200, 100, 0.9], [100, 200, 0.9], [200, 300, 0.9], [300, 200, 0.9]],
         [[300, 150, 0.9], [220, 200, 0.9], [300, 250, 0.9], [380, 200, 0.9]]]
    )  # fmt: skip
    predictions = Instances((400, 600), pred_boxes=Boxes(torch.tensor([[100.0, 100, 300, 300], [220, 150, 380, 250]])))
    predictions.scores, predictions.pred_classes, predictions.pred_keypoints = (
        torch.tensor([0.9, 0.8]),
        torch.tensor([0, 1]),
        points,
    )
    predictions.pred_masks = make_octagon_masks(points[..., :2], predictions.pred_boxes.tensor)
    return detector_postprocess(predictions, 400, 600)


def test_masks_are_translucent_and_the_better_one_is_on_top():
    image = Visualizer(VisMetadata(["a", "b"], EXTREME4)).draw(gray(), octagons())
    first, second = (np.rint(0.6 * GRAY + 0.4 * np.array(get_opencv_color(k))) for k in (0, 1))
    assert has_color(image[180:220, 170:210], first).all()
    assert has_color(image[190:195, 240:280], first).all(), "both are there"
    assert has_color(image[190:195, 320:360], second).all()
    # The corner of the box is outside of the octagon: its edge goes from (100, 175) to (175, 100).
    assert (image[285, 285] == GRAY).all() and has_color(image[259:261, 259:261], first).all()


def test_extreme_points_are_dots_without_lines():
    image = Visualizer(VisMetadata(["a", "b"], EXTREME4)).draw(gray(), octagons())
    for x, y, k in ((200, 300, 0), (100, 200, 0), (300, 150, 1), (380, 200, 1)):
        assert (image[y, x] == get_opencv_color(k)).all()
        assert image[y - 6 : y + 7, x - 6 : x + 7].max(axis=2).min() < 60, "a dark ring"
    middle_of_a_diamonds_side = image[245:256, 145:156].reshape(-1, 3)
    assert len(np.unique(middle_of_a_diamonds_side, axis=0)) == 1


def test_masks_in_json_are_cocos_run_lengths():
    predictions = octagons()
    entries = json.loads(json.dumps(Visualizer(VisMetadata(["a", "b"], EXTREME4)).describe(predictions)))
    for entry, mask in zip(entries, predictions.pred_masks.numpy(), strict=True):
        assert entry["segmentation"]["size"] == [400, 600]
        assert np.array_equal(coco_masks.decode(entry["segmentation"]), mask)
    # The box without four triangles at its corners, 3/8 of its sides long.
    assert coco_masks.area(entries[0]["segmentation"]) == pytest.approx(200**2 - 4 * 75**2 / 2, rel=0.02)
    assert entries[0]["keypoints"][0] == pytest.approx([200, 100, 0.9]) and entries[0]["first_keypoint"] == 0


def tracked(positions: dict[int, tuple[float, float]]) -> Instances:
    """Boxes of 40 x 40 around the centers of track ids."""
    centers = torch.tensor(list(positions.values()), dtype=torch.float32).reshape(-1, 2)
    predictions = Instances((400, 600), pred_boxes=Boxes(torch.cat([centers - 20, centers + 20], dim=1)))
    predictions.scores, predictions.pred_classes = (
        torch.full((len(positions),), 0.9),
        torch.zeros(len(positions), dtype=torch.int64),
    )
    predictions.pred_track_ids = torch.tensor(list(positions), dtype=torch.int64)
    return predictions


def process_video(frames, visualizer: Visualizer | None = None) -> list[np.ndarray]:
    visualizer = visualizer or Visualizer()
    return [visualizer.draw(gray(), tracked(positions), starts=k == 0) for k, positions in enumerate(frames)]


def test_the_track_id_gives_the_color_whatever_the_class():
    image = process_video([{7: (100, 300), 8: (300, 300)}])[0]
    assert (image[300, 80] == get_opencv_color(7)).all() and (image[300, 280] == get_opencv_color(8)).all()
    assert get_opencv_color(7) != get_opencv_color(8)


def test_a_trail_goes_through_the_last_centers():
    """From the left to the right, 12 pixels a frame; 20 frames are seen, the present one included."""
    for number, image in enumerate(process_video([{3: (60.5 + 12 * k, 200.5)} for k in range(30)])):
        now, start = 60 + 12 * number, 60 + 12 * max(number - 19, 0)
        trail = has_color(image[200], get_opencv_color(3))
        assert trail[start : now + 1].all()
        assert not trail[: min(start, now - 20) - 3].any() and not trail[now + 24 :].any()


def test_a_trail_has_corners_where_the_object_changes_direction():
    image = process_video([{1: (100, 300)}, {1: (100, 100)}, {1: (400, 100)}])[-1]
    color = get_opencv_color(1)
    assert has_color(image[110:290, 99:102], color).any(axis=1).all()
    assert has_color(image[99:102, 110:370], color).any(axis=0).all()
    assert not has_color(image[150:250, 200:300], color).any(), "and no line to where it began"


def test_an_object_out_of_sight_keeps_its_trail_for_a_while():
    def behind(gap: int) -> np.ndarray:
        return has_color(
            process_video([{1: (100, 200)}, *[{2: (300, 50)}] * gap, {1: (500, 200)}])[-1], get_opencv_color(1)
        )[199:202]

    assert behind(18)[:, 150:450].any(axis=0).all()
    assert not behind(19)[:, 150:450].any()


def test_each_video_begins_without_trails():
    visualizer = Visualizer()
    process_video([{1: (100, 200)}, {1: (300, 200)}], visualizer)
    again = process_video([{1: (500, 200)}], visualizer)[0]
    assert not has_color(again[:, 110:470], get_opencv_color(1)).any()
    assert np.array_equal(again, process_video([{1: (500, 200)}])[0])


def test_track_ids_are_given():
    entries = Visualizer().describe(tracked({12: (100, 100), 5: (200, 200)}))
    assert [entry["track_id"] for entry in entries] == [12, 5] and json.dumps(entries)


def street(rows=slice(None), scores=0.9) -> Instances:
    """As Detection3DTask gives it."""
    table = STREET[rows].float()
    boxes, corners = boxes_of(table), project(boxes_of(table.double()).compute_corners(), P2)[..., :2].float()
    predictions = Instances(SIZE, pred_boxes=Boxes(torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)))
    predictions.scores, predictions.pred_classes = torch.full((len(table),), scores), torch.arange(len(table))
    predictions.pred_dimensions, predictions.pred_locations, predictions.pred_rotation_y = boxes
    predictions.pred_alpha, predictions.pred_depth = boxes.rotation_y - 0.1, boxes.locations[:, 2] + 0.0027
    return predictions


def test_3d_boxes_are_synthetic_by_the_dataset_dicts_calibration_or_the_default():
    predictions, image = street([0]), gray(*SIZE)
    row, column = map(int, project(boxes_of(STREET).compute_corners()[0, 0], P2)[[1, 0]])
    moved = P2.clone()
    moved[0, 2] += 200
    by_image = Visualizer().draw(image, predictions, {"calib": P2.numpy()})
    by_default = Visualizer(VisMetadata(calibration=moved)).draw(image, predictions)
    both = Visualizer(VisMetadata(calibration=moved)).draw(image, predictions, {"calib": P2.numpy()})
    scale = 400 / SIZE[0]
    for drawn, shift in ((by_image, 0), (by_default, 200), (both, 0)):
        y, x = round(row * scale), round((column + shift) * scale)
        assert has_color(drawn[y - 3 : y + 4, x - 3 : x + 4], get_opencv_color(0)).any()
        assert np.ptp(np.nonzero(has_color(drawn[:, : round(SIZE[1] * scale)], get_opencv_color(0)))[1]) < 250
    with pytest.raises(ValueError, match="calibration"):
        Visualizer().draw(image, predictions)
    with pytest.raises(ValueError, match=r"a\.png: calib is \[1, 2\]"):
        Visualizer().draw(image, predictions, {"file_name": "a.png", "calib": [1, 2]})


def test_the_ground_is_beside_the_image_also_without_objects():
    visualizer, image = Visualizer(VisMetadata(calibration=P2)), gray(*SIZE)
    drawn = visualizer.draw(image, street())
    wide = round(SIZE[1] * 400 / SIZE[0])
    assert drawn.shape == (400, wide + 400, 3)
    # The first object is 15 m ahead and 7 m to the left; all are within 64 m.
    x, y = wide + 200 - 7 * 400 / 64, 400 - 15 * 400 / 64
    rows, columns = np.nonzero(has_color(drawn[:, wide:], get_opencv_color(0)))
    assert rows.mean() == pytest.approx(y, abs=4) and columns.mean() + wide == pytest.approx(x, abs=4)
    assert visualizer.draw(image, street(slice(0, 0)), starts=False).shape == drawn.shape
    # No rectangle of the image's plane: the left upper corner of the box that is around it is empty.
    x1, y1 = (street([0]).pred_boxes.tensor[0, :2] * 400 / SIZE[0]).round().int().tolist()
    alone = Visualizer(VisMetadata(calibration=P2)).draw(image, street([4]))
    assert (alone[y1 - 2 : y1 + 3, x1 - 2 : x1 + 3] == GRAY).all()


def test_what_is_seen_of_the_ground_only_grows_in_a_video():
    """Within 16 m, 64 m, 16 m, then another video: where the arc of 5 m or 10 m is."""
    visualizer, near, far = Visualizer(VisMetadata(calibration=P2)), street([1]), street([3])

    def place(predictions: Instances, starts: bool = False) -> float:
        ground = visualizer.draw(gray(*SIZE), predictions, starts=starts)[:, -400:]
        return 400 - np.nonzero(has_color(ground, get_opencv_color(0)))[0].mean()

    positions = [place(near, True), place(far), place(near), place(near, True)]
    assert positions == pytest.approx([9 * 400 / 16, 45 * 400 / 64, 9 * 400 / 64, 9 * 400 / 16], abs=5)


def test_3d_boxes_are_given():
    entries = json.loads(json.dumps(Visualizer(VisMetadata(calibration=P2)).describe(street())))
    for entry, row in zip(entries, STREET.tolist(), strict=True):
        assert entry["dimensions"] == pytest.approx(row[:3], abs=1e-4)
        assert entry["location"] == pytest.approx(row[3:6], abs=1e-4)
        assert entry["rotation_y"] == pytest.approx(row[6], abs=1e-4)
        assert entry["alpha"] == pytest.approx(row[6] - 0.1, abs=1e-4)
        assert entry["depth"] == pytest.approx(row[5] + 0.0027, abs=1e-4)


def test_kinds_go_together():
    """A followed face in space with a mask: what each kind adds is there."""
    predictions = street([0])
    predictions.pred_track_ids, predictions.pred_classes = torch.tensor([4]), torch.tensor([0])
    predictions.pred_keypoints = torch.full((1, 68, 3), 50.0)
    predictions.pred_masks = torch.zeros(1, *SIZE, dtype=torch.bool)
    (entry,) = Visualizer(VisMetadata(["face"], FACE68, P2)).describe(predictions)
    assert {"track_id", "segmentation", "box", "location", "keypoints", "category"} <= entry.keys()
    assert Visualizer(VisMetadata(["face"], FACE68, P2)).draw(gray(*SIZE), predictions).shape[0] == 400


def test_the_ground_shows_what_the_camera_sees():
    """A camera whose principal point is at the left side of the image, which is as wide as half its focal length."""
    calibration = torch.tensor([[1200.0, 0, 0, 0], [0, 1200, 200, 0], [0, 0, 1, 0]], dtype=torch.float64)
    drawn = Visualizer(VisMetadata(calibration=calibration)).draw(gray(), street(slice(0, 0)))
    lit = drawn[:, 600:].max(axis=2) > 50
    for row in (37, 163, 337):
        assert lit[row, 199:202].any() and lit[row, 200 + (400 - row) // 2 - 1 : 200 + (400 - row) // 2 + 2].any()
        flipped = 200 - (400 - row) // 2
        assert not lit[row, flipped - 1 : flipped + 2].any()


def outlined(**points: torch.Tensor) -> Instances:
    """One object without a label, whose box is from (100, 100) to (300, 300)."""
    predictions = Instances((400, 600), pred_boxes=Boxes(torch.tensor([[100.0, 100, 300, 300]])))
    predictions.pred_classes = torch.tensor([0])
    for name, value in points.items():
        predictions.set(name, value)
    return predictions


def test_extreme_points_have_an_octagon():
    points = torch.tensor([[[200, 100, 0.9], [100, 240, 0.9], [180, 300, 0.9], [300, 200, 0.9]]])
    image = Visualizer(VisMetadata(["a"])).draw(gray(), outlined(pred_extreme_points=points))
    color = get_opencv_color(0)
    for x, y, _ in points[0].tolist():
        assert has_color(image[int(y) - 1 : int(y) + 1, int(x) - 1 : int(x) + 1], color).all()
    # Segments of 25 pixels each way; the edge from (175, 100) to (100, 215), whose middle is (137.5, 157.5).
    assert has_color(image[155:161, 135:141], color).any()
    assert (image[140:150, 110:120] == GRAY).all(), "outside the octagon"


def test_contours_are_closed_and_say_where_they_start():
    points = torch.tensor([[[150, 120, 0.9], [120, 250, 0.8], [260, 280, 0.7]]])
    predictions = outlined(pred_contour=points)
    image = Visualizer(VisMetadata(["a"])).draw(gray(), predictions)
    assert (image[119:121, 149:151] == 255).all()
    for x, y in ((135, 185), (190, 265), (205, 200)):  # middles of the three edges
        assert has_color(image[y - 2 : y + 3, x - 2 : x + 3], get_opencv_color(0)).any()
    predictions.scores = torch.tensor([0.5])
    (entry,) = Visualizer(VisMetadata(["a"])).describe(predictions)
    assert np.allclose(entry["contour"], points[0])
