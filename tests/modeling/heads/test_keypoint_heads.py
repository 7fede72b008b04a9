"""Keypoints and extreme points: targets and losses by loops, decoding by hand."""

from __future__ import annotations

import pytest
import torch

from centernet_d2.modeling.heads import (
    ExtremeHeatmapHead,
    ExtremeOffsetHead,
    KeypointGroupingHead,
    KeypointHeatmapHead,
    KeypointOffsetHead,
    KeypointRegressionHead,
)
from centernet_d2.structures import Targets
from tests.helpers.head_batch import (
    BOXES,
    CENTERS,
    COUNT,
    IMAGES,
    KEYPOINTS,
    SHARED,
    SIZE,
    check_loss,
    compute_focal,
    defer,
    draw_peaks,
    make_output,
    make_targets,
    read_cell,
)


@pytest.mark.parametrize("normalizer", ["objects", "keypoints"])
@pytest.mark.parametrize("encoding", ["cells", "box"])
def test_regressed_keypoints_by_a_loop(encoding, normalizer):
    head = KeypointRegressionHead(flip_indices=[1, 0, 2, 3], encoding=encoding, normalizer=normalizer, **SHARED)
    deferred, dense = defer(head)
    total = count = 0.0
    for i, (x1, y1, x2, y2) in enumerate(BOXES.tolist()):
        errors, values = [], read_cell(dense, i, CENTERS[i])
        for k, (x, y, seen) in enumerate(KEYPOINTS[i].tolist()):
            cells = x - int(CENTERS[i][0]), y - int(CENTERS[i][1])
            wanted = cells if encoding == "cells" else ((x - x1) / (x2 - x1), (y - y1) / (y2 - y1))
            if seen:
                errors.append((abs(values[2 * k] - wanted[0]) + abs(values[2 * k + 1] - wanted[1])) / 2)
        total += sum(errors) / (len(errors) if normalizer == "objects" else 1)
        count += len(errors)
    targets = make_targets(keypoints=KEYPOINTS)
    check_loss(head, deferred, targets, total / (3 if normalizer == "objects" else count))
    cells, image = torch.tensor([[6, 2]]), torch.tensor([1])
    found = head.read(head.encode_dense(targets), image, cells, BOXES[1:2])
    torch.testing.assert_close(found, KEYPOINTS[1:2, :, :2])


@pytest.mark.parametrize(("encoding", "center", "sum_of_x"), [("cells", 0.5, 1), ("cells", 0.0, 0), ("box", 0.0, 1)])
def test_regressed_keypoints_of_a_flipped_image(encoding, center, sum_of_x):
    head = KeypointRegressionHead(flip_indices=[1, 0, 2], encoding=encoding, pixel_center=center, **SHARED)
    maps = make_output(head)
    found = head.unflip(maps)
    for k, other in enumerate([1, 0, 2]):
        torch.testing.assert_close(found[:, 2 * k], sum_of_x - maps[:, 2 * other].flip(-1))
        torch.testing.assert_close(found[:, 2 * k + 1], maps[:, 2 * other + 1].flip(-1))


@pytest.mark.parametrize("normalizer", ["objects", "keypoints"])
@pytest.mark.parametrize("radius", [0, 1])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kind", [KeypointOffsetHead, KeypointGroupingHead])
def test_vectors_at_keypoints_by_a_loop(kind, shared, radius, normalizer):
    head = kind(flip_indices=[1, 0, 2, 3], shared=shared, radius=radius, normalizer=normalizer, **SHARED)
    deferred, dense = defer(head)
    total = count = 0.0
    for i, points in enumerate(KEYPOINTS.tolist()):
        errors = []
        for k, (x, y, seen) in enumerate(points):
            first, cell = 0 if shared else 2 * k, (min(max(int(x), 0), 11), min(max(int(y), 0), 7))
            wanted = (x, y) if kind is KeypointOffsetHead else CENTERS[i]
            near = range(-radius, radius + 1)
            around = [(cell[0] + a, cell[1] + b) for a in near for b in near]
            inside = [(a, b) for a, b in around if 0 <= a < 12 and 0 <= b < 8]
            if seen:
                found = [dense[IMAGES[i], first : first + 2, b, a].tolist() for a, b in inside]
                away = [
                    (abs(u - (wanted[0] - a)) + abs(v - (wanted[1] - b))) / 2
                    for (u, v), (a, b) in zip(found, inside, strict=True)
                ]
                errors.append(sum(away) / len(away))
        total += sum(errors) / (len(errors) if normalizer == "objects" else 1)
        count += len(errors)
    targets = make_targets(keypoints=KEYPOINTS)
    check_loss(head, deferred, targets, total / (3 if normalizer == "objects" else count))
    maps = head.encode_dense(targets)
    image, keypoint, cells = torch.tensor([1, 1]), torch.tensor([0, 2]), torch.tensor([[9, 1], [10, 4]])
    wanted = KEYPOINTS[1, [0, 2], :2] if kind is KeypointOffsetHead else torch.tensor([CENTERS[1]] * 2)
    torch.testing.assert_close(head.read(maps, image, keypoint, cells), wanted)
    if radius:
        torch.testing.assert_close(head.read(maps, image, keypoint, cells + torch.tensor([1, -1])), wanted)
    merged, flipped = head.merge_flipped(maps, head.unflip(maps)), head.unflip(maps)
    torch.testing.assert_close(merged, maps)
    other = 0 if shared else 2
    torch.testing.assert_close(flipped[:, 0], 1 - maps[:, other].flip(-1))
    torch.testing.assert_close(flipped[:, 1], maps[:, other + 1].flip(-1))
    assert kind(flip_indices=[0], shared=shared, **SHARED).radius == 0


def test_a_keypoints_own_cell_has_its_vector():
    """Two keypoints in neighboring cells, in both orders: each one's own cell is its own, with the shared maps too."""
    points = torch.tensor([[[4.25, 4.25, 2], [5.5, 4.75, 2]]])
    for order in ([0, 1], [1, 0]):
        targets = Targets(
            BOXES[:1], torch.zeros(1).long(), torch.zeros(1).long(), 1, SIZE, COUNT, {"keypoints": points[:, order]}
        )
        maps = KeypointOffsetHead(flip_indices=[0, 1], shared=True, radius=2, **SHARED).encode_dense(targets)
        assert maps[0, :, 4, 4].tolist() == [0.25, 0.25] and maps[0, :, 4, 5].tolist() == [0.5, 0.75]


@pytest.mark.parametrize("normalizer", ["objects", "keypoints"])
@pytest.mark.parametrize("ranges", [[(0, 4)], [(0, 1), (1, 4)]])
def test_keypoint_heatmaps_by_a_loop(ranges, normalizer):
    """Of one class with four keypoints, or of classes with one and three, whose own maps are learned alone."""
    head = KeypointHeatmapHead(ranges=ranges, flip_indices=[1, 0, 2, 3], radius=1, normalizer=normalizer, **SHARED)
    deferred, dense = defer(head)
    classes = [0, 1, 1] if len(ranges) > 1 else [0, 0, 0]
    channels = [
        [k if seen and ranges[c][0] <= k < ranges[c][1] else -1 for k, seen in enumerate(points[:, 2].tolist())]
        for points, c in zip(KEYPOINTS, classes, strict=True)
    ]
    heat = draw_peaks(channels, KEYPOINTS, 1, 4)
    total = peaks = 0.0
    for n, own in enumerate([{0}, {1}] if len(ranges) > 1 else [{0}, {0}]):
        used = [k for c in own for k in range(*ranges[c])]
        total += compute_focal(dense[n, used], heat[n, used])
        peaks += int((heat[n, used] == 1).sum())
    targets = make_targets(keypoints=KEYPOINTS)
    targets.classes = torch.tensor(classes)
    divisor = peaks if normalizer == "keypoints" else 3 * 4 / len(ranges)
    target = head.encode(targets)
    for one in (target, head.pad(target)):
        assert head.loss(deferred, one, COUNT).item() == pytest.approx(total / divisor, rel=1e-4)
    maps = head.encode_dense(targets).sigmoid() if len(ranges) == 1 else heat
    torch.testing.assert_close(maps, heat, atol=1e-5, rtol=0)


def test_the_radius_of_keypoints_of_the_size_of_their_object():
    """A negative radius: that of the whole box, the same to all sides; 9 by 3 cells give 1, and 30 by 30 give 8."""
    for box, radius in (([1.0, 1, 10, 4], 1), ([0.0, 0, 30, 30], 8)):
        targets = Targets(torch.tensor([box]), torch.zeros(1).long(), torch.zeros(1).long(), 1, (32, 32), COUNT)
        targets.fields["keypoints"] = torch.tensor([[[16.5, 16.5, 2]]])
        head = KeypointHeatmapHead(ranges=[(0, 1)], flip_indices=[0], radius=-1, **SHARED)
        maps = head.encode(targets).maps.to_dense()[0, 0]
        assert (maps > 0).nonzero().amin(dim=0).tolist() == [16 - radius] * 2
        assert (maps > 0).nonzero().amax(dim=0).tolist() == [16 + radius] * 2


def test_keypoint_heatmaps_without_an_object():
    """Only the maps of the classes that occur; none of an image without objects."""
    head = KeypointHeatmapHead(ranges=[(0, 1), (1, 4), (4, 6)], flip_indices=range(6), **SHARED)
    target = head.encode(make_targets(keypoints=torch.cat([KEYPOINTS, KEYPOINTS[:, :2]], dim=1)))
    assert target.image_index.tolist() == [0, 1] and target.channels.tolist() == [[0, 0, 0], [1, 2, 3]]
    assert target.used.tolist() == [[True, False, False], [True] * 3] and target.maps.shape == (2, 3, *SIZE)
    padded = head.pad(target)
    assert len(padded.image_index) == 4 and padded.maps.shape == (4, 3, *SIZE) and not padded.used[2:].any()


def test_extreme_points_are_centers_of_their_side():
    """Side 1: only objects whose point is labeled; the class counts if there are several."""
    targets, shared = make_targets(keypoints=KEYPOINTS), {**SHARED, "point_flags": [4], "side": 1}
    channels = [[0], [-1], [1]]
    for classes in (1, 2):
        head = ExtremeHeatmapHead(num_classes=classes, radius_method="fixed", **shared)
        own = [[min(k, classes - 1) for k in one] for one in channels]
        torch.testing.assert_close(head.encode(targets).to_dense(), draw_peaks(own, KEYPOINTS[:, 1:2], 1, classes))
    offset = ExtremeOffsetHead(**shared)
    output, maps = make_output(offset), offset.encode_dense(targets)
    (u, v), (s, t) = read_cell(output, 0, (4.75, 0.5)), read_cell(output, 2, (5.25, 3.0))
    total = abs(u - 0.75) + abs(v - 0.5) + abs(s - 0.25) + abs(t)
    check_loss(offset, output, targets, total / (3 * 2))
    assert maps[0, :, 0, 4].tolist() == [0.75, 0.5] and maps[1, :, 3, 5].tolist() == [0.25, 0]
    assert maps.count_nonzero() == 3


def test_padding_is_no_keypoint_of_any_object():
    """Of 64 objects, as many as the rows that are padded to."""
    boxes, zero = BOXES[:1].repeat(64, 1), torch.zeros(64, dtype=torch.int64)
    points = 8 * torch.rand(64, 2, 3, generator=torch.Generator().manual_seed(0))
    targets = Targets(boxes, zero, zero, 1, SIZE, torch.tensor(64.0), {"keypoints": points})
    for kind in (KeypointOffsetHead, KeypointGroupingHead):
        head = kind(flip_indices=[0, 1], shared=True, **SHARED)
        deferred, _ = defer(head)
        target = head.encode(targets)
        loss, padded = (head.loss(deferred, one, targets.num_objects) for one in (target, head.pad(target)))
        torch.testing.assert_close(padded, loss)
        assert len(target.owner) == 128 and head.pad(target).num_objects == 128
