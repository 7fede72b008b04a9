"""Edge aggregation, grouping and octagons against loops, the brute force over all groups, and other rasterizers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from detectron2.layers.mask_ops import paste_masks_in_image
from pycocotools import mask as mask_util

from centernet_d2.ops.extreme_points import (
    aggregate_edges,
    build_octagons,
    compute_extreme_boxes,
    exchange_left_right,
    find_center_cells,
    group_extreme_points,
    make_octagon_masks,
    order_left_right,
    suppress_ghost_boxes,
)


@pytest.mark.parametrize("dim", [-1, -2])
def test_aggregation_is_that_of_a_loop(dim):
    maps = torch.rand(2, 3, 9, 13, generator=torch.Generator().manual_seed(0)).mul(4).round() / 4  # with ties
    lines = maps.movedim(dim, -1)
    expected = lines.clone()
    for index in np.ndindex(*lines.shape[:-1]):
        line = lines[index].tolist()
        for i in range(len(line)):
            for step in (-1, 1):
                j = i
                while 0 <= j + step < len(line) and line[j + step] <= line[j]:
                    j += step
                    expected[(*index, i)] += 0.1 * line[j]
    assert (aggregate_edges(maps, dim, 0.1) - expected.movedim(-1, dim)).abs().max() < 1e-6


def test_a_level_edge_gathers_in_its_center():
    """Nine cells of 0.3 in a row, none above another: all get the whole row, as much as a sharp peak of 0.54."""
    maps = torch.zeros(5, 15)
    maps[2, 3:12] = 0.3
    gathered = aggregate_edges(maps, -1, 0.1)
    assert gathered[2, 3:12].tolist() == pytest.approx([0.3 + 0.1 * 8 * 0.3] * 9)
    assert gathered.sum() == pytest.approx(9 * 0.54)


def peaks(seed, k, num_classes, size=12):
    generator = torch.Generator().manual_seed(seed)
    probability = torch.rand(2, 4, k, generator=generator).sort(dim=-1, descending=True).values
    classes = (torch.rand(2, 4, k, generator=generator) < 0.2 * (num_classes - 1)).long()
    cells = torch.randint(0, size, (2, 4, k, 2), generator=generator)
    for side, axis in enumerate((1, 0, 1, 0)):  # mostly on their own side
        cells[:, side, 1:, axis] = cells[:, side, 1:, axis] // 2 + (side > 1) * size // 2
    center = torch.rand(2, num_classes, size, size + 3, generator=generator)
    return probability, classes, cells, cells + torch.rand(cells.shape, generator=generator), center


def brute_force(probability, classes, cells, positions, center, thresholds):
    """Scores and members of all groups of one image, from the paper's algorithm 1 with CenterNet's conditions."""
    found = {}
    for t, l, b, r in itertools.product(range(probability.shape[1]), repeat=4):  # noqa: E741
        own = list(enumerate((t, l, b, r)))
        (tx, ty), (lx, ly), (bx, by), (rx, ry) = (cells[s, i].tolist() for s, i in own)
        if ty > min(ly, by, ry) or lx > min(tx, bx, rx) or by < max(ty, ly, ry) or rx < max(tx, lx, bx):
            continue
        if len({int(classes[s, i]) for s, i in own}) > 1:
            continue
        x = int((positions[1, l, 0] + positions[3, r, 0]) / 2)
        y = int((positions[0, t, 1] + positions[2, b, 1]) / 2)
        middle = float(center[classes[0, t], y, x])
        scores = [float(probability[s, i]) for s, i in own]
        if min(scores) < thresholds[0] or middle < thresholds[1]:
            continue
        found[t, l, b, r] = (sum(scores) + 2 * middle) / 6
    return found


@pytest.mark.parametrize("num_classes", [1, 2])
@pytest.mark.parametrize("limit", [5, 1000])
@pytest.mark.parametrize("seed", range(4))
def test_groups_are_the_best_of_all(seed, limit, num_classes):
    parts = peaks(seed, 7, num_classes)
    scores, members = group_extreme_points(*parts, limit, 0.2, 0.3)
    assert scores.shape == (2, limit) and (scores.diff() <= 0).all()
    counts = []
    for image in range(2):
        expected = brute_force(*(part[image] for part in parts), (0.2, 0.3))
        kept = scores[image] > 0
        groups = list(map(tuple, members[image][kept].tolist()))
        assert len(set(groups)) == len(groups) == min(limit, len(expected))
        assert scores[image][kept].tolist() == pytest.approx([expected[group] for group in groups], abs=1e-6)
        best = sorted(expected.values(), reverse=True)[: len(groups)]
        assert scores[image][kept].tolist() == pytest.approx(best, abs=1e-6)
        counts.append(len(expected))
    assert sum(counts) > 5  # there was something to find, and to leave out


def test_fewer_groups_than_requested_for():
    scores, members = group_extreme_points(*peaks(0, 2, 1), 1000, 0.1, 0.1)
    assert scores.shape == (2, 16) and members.shape == (2, 16, 4)


def test_memory_is_that_of_three_sides():
    """The largest tensor of 40 peaks a side has 40^3 elements (and the center map its own)."""
    largest = 0

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.numel())
            return result

    parts = peaks(0, 40, 1)
    with Watch():
        group_extreme_points(*parts, 1000, 0.1, 0.1)
    assert largest <= 2 * (40**3 + 1000)


def test_octagon_by_hand():
    points = torch.tensor([[[40.0, 10.0], [10.0, 18.0], [20.0, 50.0], [90.0, 30.0]]])
    assert compute_extreme_boxes(points).tolist() == [[10, 10, 90, 50]]
    # Segments of 20 and 10: the left one is cut at nothing, the lower one at the corner (10, 50).
    expected = [[50, 10], [30, 10], [10, 13], [10, 23], [10, 50], [30, 50], [90, 35], [90, 25]]
    assert build_octagons(points).tolist() == [expected]


@pytest.mark.parametrize("seed", range(5))
def test_masks_are_the_octagons(seed):
    """Pasted as Detectron2 does, against pycocotools' rasterizer; boxes may be cut by the image."""
    generator = np.random.default_rng(seed)
    height, width = 240, 320
    low = generator.uniform(-20, 120, 2)
    high = low + generator.uniform(60, 200, 2)
    (x1, y1), (x2, y2) = low, high
    fraction = generator.uniform(0, 1, 4)
    x, y = x1 + fraction * (x2 - x1), y1 + fraction * (y2 - y1)
    points = torch.tensor([[[x[0], y1], [x1, y[1]], [x[2], y2], [x2, y[3]]]]).float()
    boxes = compute_extreme_boxes(points).clamp(min=0)
    boxes = torch.minimum(boxes, torch.tensor([width, height, width, height]))
    pasted = paste_masks_in_image(make_octagon_masks(points, boxes)[:, 0], boxes, (height, width))[0].numpy()
    polygon = build_octagons(points)[0].double().numpy().clip([-1000, -1000], [1000, 1000]).ravel().tolist()
    gt = mask_util.decode(mask_util.frPyObjects([polygon], height, width))[..., 0].astype(bool)
    assert (pasted & gt).sum() / (pasted | gt).sum() > 0.98


def test_ghost_boxes_are_those_that_hold_more_than_three_times_their_own_score():
    """Against a loop over all pairs, on boxes of few positions, so that many are inside others or the same."""
    generator = torch.Generator().manual_seed(3)
    corners = torch.randint(0, 6, (4, 30, 2, 2), generator=generator).float().sort(dim=2).values
    boxes, scores = corners.flatten(2), torch.rand(4, 30, generator=generator)
    classes = torch.randint(0, 2, (4, 30), generator=generator)
    found = suppress_ghost_boxes(boxes, scores, classes)
    halved = 0
    for n, i in itertools.product(range(4), range(30)):
        held = 0.0
        for j in set(range(30)) - {i}:
            (x1, y1, x2, y2), (u1, v1, u2, v2) = boxes[n, i].tolist(), boxes[n, j].tolist()
            if classes[n, i] == classes[n, j] and u1 >= x1 and v1 >= y1 and u2 <= x2 and v2 <= y2:
                held += float(scores[n, j])
        expected = scores[n, i] / 2 if held > 3 * float(scores[n, i]) else scores[n, i]
        assert found[n, i] == expected
        halved += bool(found[n, i] < scores[n, i])
    assert 10 < halved < 110


def test_three_objects_in_a_row_frame_no_fourth():
    boxes = torch.tensor([[[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [0, 0, 50, 10]]])
    scores = torch.tensor([[0.8, 0.8, 0.8, 0.7]])
    same = torch.zeros(1, 4, dtype=torch.int64)
    assert torch.allclose(suppress_ghost_boxes(boxes, scores, same), torch.tensor([[0.8, 0.8, 0.8, 0.35]]))
    assert torch.equal(suppress_ghost_boxes(boxes, scores, torch.tensor([[0, 0, 1, 0]])), scores)


def test_exactly_three_times_the_score_is_no_ghost():
    boxes = torch.tensor([[[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [0, 0, 50, 10]]])
    scores, classes = torch.full((1, 4), 0.25), torch.zeros(1, 4, dtype=torch.int64)
    assert torch.equal(suppress_ghost_boxes(boxes, scores, classes), scores)


def test_left_and_right_are_exchanged_and_centers_found():
    """Of two objects of x, y and score: the first one's left point lies to the right."""
    points = torch.tensor(
        [[[5.0, 1, 9], [8, 4, 8], [6, 9, 7], [2, 5, 6]], [[5, 1, 5], [2, 4, 4], [6, 9, 3], [8, 5, 2]]]
    )
    assert exchange_left_right(points).tolist() == points[:, [0, 3, 2, 1]].tolist()
    assert order_left_right(points).tolist() == [points[0, [0, 3, 2, 1]].tolist(), points[1].tolist()]
    level = points.clone()
    level[:, 1, 0] = level[:, 3, 0]
    assert torch.equal(order_left_right(level), level)
    # Half way between left and right, and between top and bottom; inside the grid of 4 rows and 5 columns.
    assert find_center_cells(points[..., :2], (4, 5)).tolist() == [[4, 3]] * 2
    assert find_center_cells(points[..., :2], (9, 9)).tolist() == [[5, 5]] * 2


def test_masks_of_56_cells_and_octagons_of_several_images():
    points = torch.rand(2, 3, 4, 2, generator=torch.Generator().manual_seed(0)) * 40
    boxes = compute_extreme_boxes(points.flatten(0, 1).sort(dim=1).values)
    assert make_octagon_masks(points.flatten(0, 1), boxes).shape == (6, 1, 56, 56)
    octagons = build_octagons(points)
    for i, j in itertools.product(range(2), range(3)):
        assert torch.equal(octagons[i, j], build_octagons(points[i, j]))


def test_masks_fall_from_1_to_0_within_two_cells_of_an_edge():
    """Half of the distance to the nearest of the edges that cut the corners, which are straight lines."""
    points = torch.tensor([[[24.0, 0], [0, 20], [28, 40], [40, 16]]])  # top, left, bottom, right
    mask = make_octagon_masks(points, torch.tensor([[0.0, 0, 40, 40]]), size=40)[0, 0]
    ends = build_octagons(points)[0].tolist()
    seen = 0
    for row, column in itertools.product(range(40), range(40)):
        distances = []
        for (ax, ay), (bx, by) in zip(ends, [*ends[1:], ends[0]], strict=True):
            if ax != bx and ay != by:
                area = (by - ay) * (column + 0.5 - ax) - (bx - ax) * (row + 0.5 - ay)
                distances.append(area / math.hypot(bx - ax, by - ay))
        expected = min(max(0.5 + min(distances) / 2, 0), 1)
        seen += 0 < expected < 1
        assert mask[row, column] == pytest.approx(expected, abs=1e-4)
    assert seen > 20
