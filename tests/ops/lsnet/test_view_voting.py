"""Voting of views: the reference's figures, a plain loop, several images at once."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import box_iou

from centernet_d2.ops.lsnet.view_voting import vote_boxes

BOXES = torch.tensor(
    [[10.0, 10, 50, 50], [12.0, 11, 51, 52], [9.0, 10, 49, 48], [100.0, 100, 150, 160], [30.0, 10, 70, 50]]
)
SCORES = torch.tensor([0.9, 0.8, 0.3, 0.5, 0.6])


def vote_in_a_loop(boxes, scores, classes, vectors, min_overlap=0.66, min_score=0.05):
    """One image, one group after the other; rows of (score, box and vector)."""
    rest = [i for i in scores.argsort(descending=True).tolist() if scores[i] > 0]
    rows = []
    while rest:
        first = rest[0]
        iou = box_iou(boxes[first][None], boxes)[0]
        group = [i for i in rest if i == first or (classes[i] == classes[first] and iou[i] >= min_overlap)]
        weight = scores[group][:, None]
        rows.append((scores[first].item(), (weight * torch.cat([boxes, vectors], 1)[group]).sum(0) / weight.sum()))
        for i in group[1:]:
            score = (scores[i] * (1 - iou[i])).item()
            if score >= min_score:
                rows.append((score, torch.cat([boxes[i], vectors[i]])))
        rest = [i for i in rest if i not in group]
    return sorted(rows, key=lambda row: -row[0])


def test_the_reference_implementations_boxes():
    zero = torch.zeros(1, 5, dtype=torch.int64)
    index, boxes, scores, _ = vote_boxes(BOXES[None], SCORES[None], zero, BOXES[None, :, :0], 100)
    expected = torch.tensor([[10.65, 10.4, 50.25, 50.5], [30, 10, 70, 50], [100, 100, 150, 160], [12, 11, 51, 52]])
    torch.testing.assert_close(boxes[0, :4], expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(scores[0, :4], torch.tensor([0.9, 0.6, 0.5, 0.109493]), atol=1e-5, rtol=0)
    assert not scores[0, 4:].any()
    assert index[0, :4].tolist() == [0, 4, 3, 1]


def test_a_single_detection_stays():
    """The reference loses it."""
    one = [x[None, :1] for x in (BOXES, SCORES)]
    _, boxes, scores, vectors = vote_boxes(*one, torch.zeros(1, 1, dtype=torch.int64), one[0] * 2, 10)
    assert torch.equal(boxes[:, :1], one[0])
    assert torch.equal(vectors[:, :1], one[0] * 2)
    assert scores[0].tolist() == [pytest.approx(0.9), 0]


@pytest.mark.parametrize("limit", [5, 40, 500])
def test_a_plain_loop(limit):
    generator = torch.Generator().manual_seed(0)
    centers = 30 * torch.randint(4, (3, 60, 2), generator=generator).float()
    low = centers + torch.rand(3, 60, 2, generator=generator) * 6
    boxes = torch.cat([low, low + 25 + torch.rand(3, 60, 2, generator=generator) * 6], dim=2)
    scores = torch.rand(3, 60, generator=generator)
    scores[:, -7:] = 0
    classes = torch.randint(2, (3, 60), generator=generator)
    vectors = torch.randn(3, 60, 7, generator=generator)
    _, voted, new_scores, new_vectors = vote_boxes(boxes, scores, classes, vectors, limit)
    for i in range(3):
        rows = vote_in_a_loop(boxes[i], scores[i], classes[i], vectors[i])[:limit]
        assert (new_scores[i] > 0).sum() == len(rows)
        for k, (score, values) in enumerate(rows):
            assert new_scores[i, k].item() == pytest.approx(score, rel=1e-5)
            torch.testing.assert_close(torch.cat([voted[i, k], new_vectors[i, k]]), values, rtol=1e-4, atol=1e-4)


def test_no_boxes():
    empty = torch.zeros(2, 0, 4)
    index, boxes, *_ = vote_boxes(empty, empty[..., 0], empty[..., 0].long(), empty, 10)
    assert index.shape == (2, 0)
    assert boxes.shape == (2, 0, 4)
