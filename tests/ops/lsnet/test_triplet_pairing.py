"""Pairing of quarter boxes: the reference's figures, a plain loop over pairs."""

from __future__ import annotations

import torch

from centernet_d2.ops.lsnet.triplet_pairing import pair_quarter_boxes


def is_box(first, second):
    """The rule for one pair of quarter boxes, number by number."""
    x1, y1, ax, ay = first.tolist()
    bx, by, x2, y2 = second.tolist()
    if x2 <= x1 or y2 <= y1:
        return False
    width, height = x2 - x1, y2 - y1
    mu = 1 / 4 if width * height > 3500 else 1 / 5
    x, y, across, down = (x1 + x2) / 2, (y1 + y2) / 2, mu * width, mu * height
    for px, py in ((ax, ay), (bx, by)):
        if not (x - across / 2 < px < x + across / 2 and y - down / 2 < py < y + down / 2):
            return False
    return abs((ax - bx) * (ay - by)) <= 0.5 * across * down


def test_the_reference_implementations_boxes():
    first = torch.tensor(
        [[10.0, 10, 52, 49, 0.9], [100, 100, 140, 160, 0.6], [12, 9, 70, 80, 0.5], [300, 20, 330, 41, 0.8]]
    )
    second = torch.tensor(
        [[48.0, 52, 92, 90, 0.7], [141, 158, 180, 220, 0.4], [52, 50, 95, 92, 0.3], [329, 40, 360, 60, 0.6]]
    )
    labels = torch.tensor([[1, 2, 1, 3]]), torch.tensor([[1, 2, 1, 2]])
    boxes, scores, classes = (
        x[0]
        for x in pair_quarter_boxes(
            first[None, :, :4], first[None, :, 4], labels[0], second[None, :, :4], second[None, :, 4], labels[1]
        )
    )
    order = scores.argsort(descending=True)[:4]
    assert boxes[order[:3]].tolist() == [[10, 10, 92, 90], [10, 10, 95, 92], [100, 100, 180, 220]]
    torch.testing.assert_close(scores[order], torch.tensor([0.8, 0.6, 0.5, 0.0]))
    assert classes[order[:3]].tolist() == [1, 1, 2]


def test_a_plain_loop_over_pairs():
    generator = torch.Generator().manual_seed(0)
    count = 40
    corner = torch.rand(2, count, 2, generator=generator) * 8
    size = 50 + torch.rand(2, count, 2, generator=generator) * 20
    noise = torch.randn(2, 2, count, 2, generator=generator)
    first = torch.cat([corner, corner + size / 2 + noise[0] * size / 10], dim=2)
    second = torch.cat([corner + size / 2 + noise[1] * size / 10, corner + size], dim=2)
    scores = torch.rand(2, 2, count, generator=generator)
    scores[:, :, 0] = 0
    classes = torch.randint(2, (2, 2, count), generator=generator)
    boxes, paired, labels = pair_quarter_boxes(first, scores[0], classes[0], second, scores[1], classes[1])
    valid = 0
    for image in range(2):
        for i in range(count):
            for j in range(count):
                k = i * count + j
                expected = (scores[0, image, i] + scores[1, image, j]) / 2
                same = classes[0, image, i] == classes[1, image, j] and i > 0 and j > 0
                if not (same and is_box(first[image, i], second[image, j])):
                    expected = torch.zeros(())
                valid += int(expected > 0)
                torch.testing.assert_close(paired[image, k], expected)
                assert boxes[image, k].tolist() == [*first[image, i, :2].tolist(), *second[image, j, 2:].tolist()]
                assert labels[image, k] == classes[0, image, i]
    assert 50 < valid < 2000


def test_centers_may_be_apart_by_half_of_the_central_region():
    """Of a box of 80 x 80 that is 20 x 20; 16 x 12.5 is half of its area, and counts; a little more does not."""
    first, one, label = torch.tensor([[[0.0, 0, 32, 31]]]), torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.long)
    second = torch.tensor([[[48.0, 43.5, 80, 80], [48, 43.625, 80, 80]]])
    scores = pair_quarter_boxes(first, one, label, second, one.expand(1, 2), label.expand(1, 2))[1]
    assert scores.tolist() == [[1, 0]]


def test_a_box_smaller_than_a_pixel():
    first, second = torch.tensor([[[10.0, 10, 10.4, 10.4]]]), torch.tensor([[[10.4, 10.4, 10.8, 10.8]]])
    score, label = torch.full((1, 1), 0.5), torch.zeros(1, 1).long()
    assert pair_quarter_boxes(first, score, label, second, score, label)[1].item() == 0.5
