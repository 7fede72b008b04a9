"""Soft-NMS and voting against the published example and plain loops."""

from __future__ import annotations

import math

import torch

from centernet_d2.ops.soft_nms import cluster_vote, pairwise_iou, soft_nms


def random_scene(seed, count=40):
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(2, count, 2, generator=generator) * 30
    boxes = torch.cat([low, low + 5 + torch.rand(2, count, 2, generator=generator) * 20], dim=-1)
    return boxes, torch.rand(2, count, generator=generator), torch.randint(0, 3, (2, count), generator=generator)


def iou(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(w, 0) * max(h, 0)
    return overlap / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap)


def test_published_example():
    """The reference counts a pixel more in each side, hence the one added here."""
    boxes = torch.tensor([[[10, 10, 60, 60], [12, 12, 62, 58], [100, 100, 150, 140], [9, 11, 61, 62]]]).float()
    boxes[..., 2:] += 1
    scores, classes = torch.tensor([[0.9, 0.8, 0.7, 0.3]]), torch.zeros(1, 4, dtype=torch.long)
    index, new_scores = soft_nms(boxes, scores, classes, limit=100)
    assert index.tolist() == [[0, 2, 1, 3]]
    expected = torch.tensor([[0.9, 0.7, 0.18569691583471457, 0.014118097066024812]])
    torch.testing.assert_close(new_scores, expected, atol=1e-6, rtol=1e-5)


def test_soft_nms_equals_a_loop():
    for seed in range(5):
        boxes, scores, classes = random_scene(seed)
        index, new_scores = soft_nms(boxes, scores, classes, limit=25)
        for n in range(2):
            rest = dict(enumerate(scores[n].tolist()))
            expected = []
            while rest and len(expected) < 25:
                i = max(rest, key=rest.get)
                expected.append((i, rest.pop(i)))
                for j in rest:
                    if classes[n, i] == classes[n, j]:
                        rest[j] *= math.exp(-(iou(boxes[n, i].tolist(), boxes[n, j].tolist()) ** 2) / 0.5)
            assert index[n].tolist() == [i for i, _ in expected]
            torch.testing.assert_close(
                new_scores[n], torch.tensor([s if s >= 0.001 else 0 for _, s in expected]), atol=1e-5, rtol=1e-4
            )


def test_every_box_comes_out_once():
    boxes, scores, classes = random_scene(7)
    index, _ = soft_nms(boxes, scores, classes, limit=100)
    assert all(sorted(rows) == list(range(40)) for rows in index.tolist())


def test_votes_are_averaged_over_all_sources():
    """Three points: two see the object (a little apart), one does not; a second object has one vote, another class
    none."""
    boxes = torch.tensor(
        [[[0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 12, 10], [80, 80, 90, 90], [0, 0, 10, 10], [0, 0, 1, 1]]]
    )
    scores = torch.tensor([[0.9, 0.3, 0.6, 0.0, 0.6, 0.0]])
    classes = torch.tensor([[0, 0, 0, 0, 1, 0]])
    index, fused, votes = cluster_vote(boxes.float(), scores, classes, num_sources=3, limit=3)
    assert index[0].tolist() == [0, 4, 1]
    torch.testing.assert_close(votes[0], torch.tensor([0.5, 0.2, 0.1]))
    torch.testing.assert_close(fused[0, 0], torch.tensor([0, 0, (0.9 * 10 + 0.6 * 12) / 1.5, 10]))


def test_one_source_votes_once_per_object():
    """Two boxes of one point on one object: only the better one supports it, the other starts a cluster of its own."""
    boxes = torch.tensor([[[0, 0, 10, 10], [0, 0, 10, 10.5], [0, 0, 10, 10], [50, 50, 60, 60]]]).float()
    scores = torch.tensor([[0.8, 0.7, 0.6, 0.0]])
    _, _, votes = cluster_vote(boxes, scores, torch.zeros(1, 4, dtype=torch.long), num_sources=2, limit=2)
    torch.testing.assert_close(votes[0], torch.tensor([0.7, 0.35]))


def test_iou_of_empty_boxes_is_zero():
    assert pairwise_iou(torch.zeros(1, 4), torch.zeros(1, 4)).item() == 0
