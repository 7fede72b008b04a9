"""Rotations, observation angles and metric values: targets and losses by loops, decoding by hand."""

from __future__ import annotations

import math

import pytest
import torch

from centernet_d2.modeling.heads import (
    AngleHead,
    Box3DCenterOffsetHead,
    Box3DDepthHead,
    Box3DDimensionsHead,
    Box3DOrientationHead,
)
from centernet_d2.modeling.heads.angle import decode_angle, encode_angle
from centernet_d2.modeling.heads.box3d_orientation import decode_angle as decode_bins
from centernet_d2.modeling.heads.box3d_orientation import encode_angle as encode_bins
from tests.helpers.head_batch import BOXES, CENTERS, SHARED, check_loss, make_output, make_targets, read_cell


def test_rotations_by_their_formulas():
    for angle in range(-90, 90, 7):
        a = math.radians(angle)
        values = encode_angle(torch.tensor(float(angle), dtype=torch.float64))
        assert values.tolist() == pytest.approx([math.cos(2 * a), math.sin(2 * a), math.cos(4 * a), math.sin(4 * a)])
        assert float(decode_angle(values)) == pytest.approx(angle)
        # The first two say which of two quarter turns, to 45 degrees.
        for away, turn in ((-44.8, 0), (44.8, 0), (-45.2, -90), (45.2, 90)):
            b = math.radians(2 * (angle + away))
            coarse = torch.tensor([0.1 * math.cos(b), 0.1 * math.sin(b), *values[2:].tolist()])
            assert math.remainder(float(decode_angle(coarse)) - angle - turn, 180) == pytest.approx(0, abs=1e-3)
    head, targets = AngleHead(**SHARED), make_targets(angle=torch.tensor([30.0, -45.0, 80.0]))
    output, total = make_output(head), 0.0
    for i, angle in enumerate((30, -45, 80)):
        a, found = math.radians(angle), read_cell(output, i, CENTERS[i])
        wanted = math.cos(2 * a), math.sin(2 * a), math.cos(4 * a), math.sin(4 * a)
        total += sum(abs(x - y) for x, y in zip(found, wanted, strict=True))
    check_loss(head, output, targets, total / (3 * 4))
    maps, image, cells = head.encode_dense(targets), torch.tensor([[1, 1]]), torch.tensor([[[6, 2], [4, 2]]])
    torch.testing.assert_close(head.decode(maps, image, cells), torch.tensor([[-45.0, 80.0]]))
    flipped = head.decode(head.unflip(maps), image, torch.tensor([[[11 - 6, 2], [11 - 4, 2]]]))
    torch.testing.assert_close(flipped, torch.tensor([[45.0, -80.0]]))


def test_bins_of_observation_angles():
    """Up to 120 degrees from the centers at -90 and 90: logits of outside and inside, sine and cosine."""
    half, inside, outside = math.pi / 2, [0.0, 10.0], [10.0, 0.0, 0.0, 0.0]

    def bin_of(angle: float) -> list[float]:
        return [*inside, math.sin(angle), math.cos(angle)]

    for alpha, expected in {
        0.0: [*bin_of(half), *bin_of(-half)],
        -half: [*bin_of(0), *outside],
        half + 0.3: [*outside, *bin_of(0.3)],
        half + 2.0: [*bin_of(2.0 - math.pi), *bin_of(2.0)],
        half - 2.1: [*bin_of(math.pi - 2.1), *outside],
        -half + 2.09: [*bin_of(2.09), *bin_of(2.09 - math.pi)],
    }.items():
        assert encode_bins(torch.tensor(alpha, dtype=torch.float64)).tolist() == pytest.approx(expected, abs=1e-12)
    channels = torch.tensor([[9.0, 1, 0.6, 0.8, 0, 2, -0.5, 0.5], [0, 2, -3, 4, 9, 1, 1, 0]], dtype=torch.float64)
    assert decode_bins(channels).tolist() == pytest.approx([half - math.pi / 4, -half - math.atan2(3, 4)])


def test_losses_of_observation_angles_by_a_loop():
    alphas = [0.2, -1.4, 2.9]
    head, total = Box3DOrientationHead(**SHARED), 0.0
    output, targets = make_output(head), make_targets(alpha=torch.tensor(alphas))
    for i, alpha in enumerate(alphas):
        found = read_cell(output, i, CENTERS[i])
        for k, center in enumerate((-math.pi / 2, math.pi / 2)):
            outside, inside, sine, cosine = found[4 * k : 4 * k + 4]
            away = math.remainder(alpha - center, 2 * math.pi)
            belongs = abs(away) < 2 * math.pi / 3
            total += math.log(math.exp(outside) + math.exp(inside)) - (inside if belongs else outside)
            for x in (sine - math.sin(away), cosine - math.cos(away)) if belongs else ():
                total += x * x / 2 if abs(x) < 1 else abs(x) - 0.5
    check_loss(head, output, targets, total / 3)
    maps, image, cells = head.encode_dense(targets), torch.tensor([[1, 1]]), torch.tensor([[[6, 2], [4, 2]]])
    torch.testing.assert_close(head.decode(maps, image, cells), torch.tensor([[-1.4, 2.9]]))
    flipped = head.decode(head.unflip(maps), image, torch.tensor([[[5, 2], [7, 2]]]))
    assert flipped.flatten().tolist() == pytest.approx([1.4 - math.pi, math.pi - 2.9], abs=1e-5)


def test_metric_values_by_loops():
    metric, depths = torch.tensor([True, False, True]), torch.tensor([12.0, 30.0, 55.0])
    dimensions, seen = torch.tensor([[1.5, 1.6, 4], [9, 9, 9], [1.7, 0.5, 0.8]]), torch.rand(3, 1, 3)
    seen[:, 0, 2] = torch.tensor([1.0, 1.0, 0.0])
    targets = make_targets(metric=metric, depth=depths, dimensions=dimensions, center_3d=seen)
    depth, size, offset = (x(**SHARED) for x in (Box3DDepthHead, Box3DDimensionsHead, Box3DCenterOffsetHead))
    outputs = {head: make_output(head) for head in (depth, size, offset)}
    totals = dict.fromkeys(outputs, 0.0)
    for i, (x1, y1, x2, y2) in enumerate(BOXES.tolist()):
        found = {head: read_cell(x, i, CENTERS[i]) for head, x in outputs.items()}
        if metric[i]:
            # 1 / (sigmoid(x) + 1e-6) - 1
            totals[depth] += abs(1 / (1 / (1 + math.exp(-found[depth][0])) + 1e-6) - 1 - float(depths[i]))
            totals[size] += sum(abs(a - b) for a, b in zip(found[size], dimensions[i].tolist(), strict=True)) / 3
        if i < 2:
            wanted = (seen[i, 0, 0] - CENTERS[i][0]) / (x2 - x1), (seen[i, 0, 1] - CENTERS[i][1]) / (y2 - y1)
            totals[offset] += sum(abs(a - float(b)) for a, b in zip(found[offset], wanted, strict=True)) / 2
    for head, total in totals.items():
        check_loss(head, outputs[head], targets, total / 3)
    far = torch.full((1, 1, 8, 12), -100.0)
    assert float(depth.decode(far, torch.zeros(1, 1).long(), torch.zeros(1, 1, 2).long())) == pytest.approx(1e6 - 1)
    found = depth.decode(depth.encode_dense(targets), torch.tensor([[0, 1]]), torch.tensor([[[3, 4], [4, 2]]]))
    torch.testing.assert_close(found, torch.tensor([[12.0, 55.0]]))
    torch.testing.assert_close(offset.unflip(outputs[offset])[:, 0], -outputs[offset][:, 0].flip(-1))
    torch.testing.assert_close(offset.unflip(outputs[offset])[:, 1], outputs[offset][:, 1].flip(-1))
