"""Boxes, their quality, displacements and class heatmaps: targets and losses by loops, decoding by hand."""

from __future__ import annotations

import math

import pytest
import torch

from centernet_d2.modeling.heads import (
    BoxHead,
    BoxQualityHead,
    BoxSizeHead,
    ClassHeatmapHead,
    DisplacementHead,
    KeypointRegressionHead,
    PointOffsetHead,
)
from centernet_d2.ops.box_losses import BOX_LOSSES
from centernet_d2.structures import Targets
from tests.helpers.head_batch import (
    BOXES,
    CENTERS,
    COUNT,
    IMAGES,
    SHARED,
    SIZE,
    check_loss,
    compute_focal,
    draw_peaks,
    make_output,
    make_targets,
    read_cell,
)


def test_sizes_and_offsets_by_a_loop():
    size, offset = BoxSizeHead(point_flags=[0, 4], **SHARED), PointOffsetHead(point_flags=[0, 4], **SHARED)
    targets, total = make_targets(), {size: 0.0, offset: 0.0}
    outputs = {head: make_output(head) for head in total}
    for i, (x1, y1, x2, y2) in enumerate(BOXES.tolist()):
        for k, part in enumerate((1 / 4, 1 / 2)):
            point = x1 + part * (x2 - x1), y1 + part * (y2 - y1)
            wanted = {size: (x2 - x1, y2 - y1), offset: (point[0] - int(point[0]), point[1] - int(point[1]))}
            for head in total:
                found = read_cell(outputs[head], i, point)[2 * k : 2 * k + 2]
                total[head] += sum(abs(a - b) for a, b in zip(found, wanted[head], strict=True))
    for head, value in total.items():
        check_loss(head, outputs[head], targets, value / (3 * 4))
    assert offset.merge_flipped(outputs[offset], outputs[size]) is outputs[offset]


def test_of_objects_in_one_cell_the_smallest_wins():
    """The larger a box, the nearer its center to the corner of the cell (6, 4); the list is in no order of size."""
    sides, centers = [(2, 2), (8, 4), (4, 3)], [6.75, 6.25, 6.5]
    boxes = torch.tensor(
        [[c - w / 2, c - 2 - h / 2, c + w / 2, c - 2 + h / 2] for (w, h), c in zip(sides, centers, strict=True)]
    )
    for order in ([0, 1, 2], [1, 0, 2], [2, 1, 0]):
        targets = Targets(boxes[order], torch.zeros(3).long(), torch.zeros(3).long(), 1, SIZE, COUNT)
        targets.fields["keypoints"] = torch.tensor([[[7.0, 5.0, 2]], [[8.0, 6.0, 2]], [[9.0, 7.0, 2]]])[order]
        maps = BoxSizeHead(point_flags=[4], **SHARED).encode_dense(targets)
        assert maps[0, :, 4, 6].tolist() == [2, 2] and maps.count_nonzero() == 2
        points = KeypointRegressionHead(flip_indices=[0], **SHARED).encode_dense(targets)
        assert points[0, :, 4, 6].tolist() == [1, 1] and points.count_nonzero() == 2


def test_displacements_by_a_loop():
    """Only of objects whose previous center is known."""
    before = torch.tensor([[[2.5, 4.75, 1]], [[9.0, 9.0, 0]], [[5.25, 1.0, 1]]])
    head = DisplacementHead(**SHARED)
    output, total = make_output(head), 0.0
    for i in (0, 2):
        x, y = (int(v) for v in CENTERS[i])
        found = read_cell(output, i, CENTERS[i])
        total += abs(found[0] - (float(before[i, 0, 0]) - x)) + abs(found[1] - (float(before[i, 0, 1]) - y))
    targets = make_targets(previous_center=before)
    check_loss(head, output, targets, total / (3 * 2))
    maps = head.encode_dense(targets)
    assert maps[0, :, 4, 3].tolist() == [-0.5, 0.75] and maps[1, :, 2, 4].tolist() == [1.25, -1.0]
    assert maps.count_nonzero() == 4 and head.merge_flipped(maps, output) is maps


@pytest.mark.parametrize("flags", [(4,), (0, 2, 7)])
@pytest.mark.parametrize("kind", BOX_LOSSES)
def test_box_losses_by_a_loop(kind, flags):
    """One unit of the output is 4 cells; the box lies around the cell's center."""
    head = BoxHead(box_loss=kind, point_flags=flags, **SHARED)
    output, total = make_output(head), 0.0
    for i, (x1, y1, x2, y2) in enumerate(BOXES.tolist()):
        for k, flag in enumerate(flags):
            point = x1 + (1 + flag % 3) / 4 * (x2 - x1), y1 + (1 + flag // 3) / 4 * (y2 - y1)
            left, top, right, bottom = read_cell(output, i, point)[4 * k : 4 * k + 4]
            x, y = int(point[0]) + 0.5, int(point[1]) + 0.5
            (a, c), (b, d) = sorted((x - 4 * left, x + 4 * right)), sorted((y - 4 * top, y + 4 * bottom))
            total += float(BOX_LOSSES[kind](torch.tensor([[a, b, c, d]]), BOXES[i : i + 1])[0])
    check_loss(head, output, make_targets(), total / (3 * len(flags)))


def test_units_of_other_strides():
    """16 input pixels are 4 cells of 4 and 2 cells of 8; boxes seen from a point are decoded from it."""
    cells, image = torch.tensor([[[3, 5]]]), torch.zeros(1, 1, dtype=torch.int64)
    sides = torch.tensor([0.5, 1.0, 0.25, -2.0]).view(1, 4, 1, 1).expand(1, 4, 8, 8)
    for stride, unit in ((4, 4), (8, 2)):
        box = BoxHead(point_flags=[4], stride=stride, **SHARED).decode_boxes(sides, image, cells, cells)
        low, high = 5.5 - unit, 5.5 - 2 * unit
        assert box.flatten().tolist() == [3.5 - unit / 2, min(low, high), 3.5 + unit / 4, max(low, high)]
    wh = BoxHead(point_flags=[4], encoding="wh", **SHARED)
    box = wh.decode_boxes(sides[:, :2], image, cells, torch.tensor([[[3.25, 5.75]]]))
    assert box.flatten().tolist() == [2.25, 3.75, 4.25, 7.75] and wh.needs_offset
    assert not BoxHead(point_flags=[4], **SHARED).needs_offset


def test_the_quality_of_boxes_by_a_loop():
    """The cross entropy of the IoU, a fifth of it by default, and the box loss, divided by objects and points."""
    flags = (0, 4, 8)
    head, plain = BoxQualityHead(point_flags=flags, **SHARED), BoxHead(point_flags=flags, **SHARED)
    output, total = make_output(head, 3).abs() / 4, 0.0
    maps = output.unflatten(1, (3, 5))
    for i, (x1, y1, x2, y2) in enumerate(BOXES.tolist()):
        for k, flag in enumerate(flags):
            point = x1 + (1 + flag % 3) / 4 * (x2 - x1), y1 + (1 + flag // 3) / 4 * (y2 - y1)
            x, y = int(point[0]), int(point[1])
            left, top, right, bottom, logit = maps[IMAGES[i], k, :, y, x].tolist()
            a, b, c, d = x + 0.5 - 4 * left, y + 0.5 - 4 * top, x + 0.5 + 4 * right, y + 0.5 + 4 * bottom
            shared = max(min(c, x2) - max(a, x1), 0) * max(min(d, y2) - max(b, y1), 0)
            iou = shared / ((c - a) * (d - b) + (x2 - x1) * (y2 - y1) - shared)
            total += math.log1p(math.exp(logit)) - iou * logit
    sides = maps[:, :, :4].flatten(1, 2)
    box = float(plain.loss(sides, plain.encode(make_targets()), COUNT))
    check_loss(head, output, make_targets(), box + 0.2 * total / (3 * 3))
    cells, image = torch.tensor([[[2, 3]] * 3]), torch.tensor([[1]])
    scores = head.adjust_scores(torch.tensor([[0.5, 0.3, 0.1]]), output, image, cells)
    logits = maps[1, :, 4, 3, 2]
    torch.testing.assert_close(scores[0], (torch.tensor([0.5, 0.3, 0.1]) * logits.sigmoid()).sqrt())


@pytest.mark.parametrize(("flags", "order"), [((4,), [0, 1]), ((3, 5), [1, 0, 3, 2])])
def test_class_heatmaps_by_a_loop(flags, order):
    """Channels c K + k of class c and point k."""
    head = ClassHeatmapHead(num_classes=2, point_flags=flags, radius_method="fixed", **SHARED)
    count, output = len(flags), make_output(head)
    fractions = torch.tensor([[(1 + f % 3) / 4, (1 + f // 3) / 4] for f in flags])
    points = BOXES[:, None, :2] + fractions * (BOXES[:, None, 2:] - BOXES[:, None, :2])
    channels = [[c * count + k for k in range(count)] for c in (0, 1, 1)]
    heat = draw_peaks(channels, points, 1, 2 * count)
    expected = compute_focal(output, heat) / (3 * count)
    target = head.encode(make_targets())
    for one in (target, head.pad(target)):
        assert head.loss(output, one, COUNT).item() == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(head.encode_dense(make_targets()).sigmoid(), heat, atol=1e-5, rtol=0)
    torch.testing.assert_close(head.unflip(output), output[:, order].flip(-1))


def test_ignored_regions_have_no_peak():
    head = ClassHeatmapHead(num_classes=2, point_flags=[4], radius_method="fixed", fixed_radius=2, **SHARED)
    targets = make_targets()
    targets.ignored = make_targets().select(torch.tensor([False, False, True]))
    targets = targets.select(torch.tensor([True, True, False]))
    maps = head.encode(targets).to_dense()
    heat = draw_peaks([[0], [1], [1]], torch.tensor(CENTERS)[:, None], 2, 2)
    heat[1, 1, 2, 4] = 0.9999
    torch.testing.assert_close(maps, heat)


@pytest.mark.parametrize("encoding", ["wh", "log_wh", "lt", "ltrb"])
def test_sizes_of_a_flipped_image(encoding):
    """Points 3 and 5 are exchanged, at 1/4 and 3/4 of the width: l becomes a / (1 - a) l, or r."""
    head = BoxSizeHead(point_flags=[3, 4, 5], encoding=encoding, **SHARED)
    maps = make_output(head).abs()
    count = head.channels_per_point
    found = head.unflip(maps).unflatten(1, (3, count))
    for k, (other, left) in enumerate(((2, 1 / 4), (1, 1 / 2), (0, 3 / 4))):
        seen = maps.unflatten(1, (3, count))[:, other].flip(-1)
        expected = seen[:, [2, 1, 0, 3]] if encoding == "ltrb" else seen
        factor = left / (1 - left) if encoding == "lt" else 1
        torch.testing.assert_close(found[:, k, 0], factor * expected[:, 0])
        torch.testing.assert_close(found[:, k, 1:], expected[:, 1:])
