"""Soft-NMS and voting against the reference example and plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchvision.ops import batched_nms

from centernet_d2.ops.soft_nms import (
    _cluster_in_parallel,
    _cluster_in_turn,
    _soft_nms_in_step,
    cluster_vote,
    compute_overlap_with,
    soft_nms,
)
from centernet_d2.runtime import merging


def random_scene(seed, count=40):
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(2, count, 2, generator=generator) * 30
    boxes = torch.cat([low, low + 5 + torch.rand(2, count, 2, generator=generator) * 20], dim=-1)
    return boxes, torch.rand(2, count, generator=generator), torch.randint(0, 3, (2, count), generator=generator)


def iou(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(w, 0) * max(h, 0)
    return overlap / max((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap, 1e-12)


def test_reference_example():
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


@pytest.mark.parametrize("decay", ["hard", "gaussian"])
def test_what_is_suppressed_comes_out_once_too(decay):
    """Copies of few boxes: most have no score left."""
    boxes, scores, classes = (x.repeat(1, 10, *[1] * (x.dim() - 2)) for x in random_scene(7, 4))
    index, found = soft_nms(boxes, scores, classes, limit=100, decay=decay)
    assert (found == 0).sum() > 20
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


def crowded_scene(seed):
    """Two images of 60 candidates, most of them around few objects; some are empty, some have no score or little."""
    generator = torch.Generator().manual_seed(seed)
    boxes, scores, classes = random_scene(seed, 6)
    which = torch.randint(0, 6, (2, 60), generator=generator)
    boxes = boxes.gather(1, which[..., None].expand(-1, -1, 4)) + torch.randn(2, 60, 4, generator=generator)
    boxes[:, :3, 2] = boxes[:, :3, 0]
    scores = torch.rand(2, 60, generator=generator) ** 3
    scores[:, 40:45], scores[:, 45:50] = 0, 5e-4
    return boxes, scores, classes.gather(1, which)


@pytest.mark.parametrize("limit", [7, 100])
@pytest.mark.parametrize("seed", range(5))
def test_votes_equal_a_loop(seed, limit):
    boxes, scores, classes = crowded_scene(seed)
    index, fused, votes = cluster_vote(boxes, scores, classes, num_sources=4, limit=limit)
    for n in range(2):
        rest, expected = dict(enumerate(scores[n].tolist())), []
        while rest and max(rest.values()) > 0 and len(expected) < limit:
            i = max(rest, key=rest.get)
            near = [j for j in rest if classes[n, i] == classes[n, j] and iou(boxes[n, i], boxes[n, j]) >= 0.6]
            best = [max((j for j in near if j // 15 == source), key=rest.get, default=None) for source in range(4)]
            members = [j for j in best if j is not None and rest[j] > 0]
            weight = torch.tensor([rest.pop(j) for j in members])
            rest.pop(i, None)
            mean = (boxes[n, members] * weight[:, None]).sum(dim=0) / weight.sum().clamp(min=1e-12)
            expected.append((i, mean, weight.sum() / 4))
        count = len(expected)
        assert count == min(limit, index.shape[1]) or (votes[n, count:] == 0).all()
        assert index[n, :count].tolist() == [i for i, *_ in expected]
        torch.testing.assert_close(fused[n, :count], torch.stack([box for _, box, _ in expected]))
        torch.testing.assert_close(votes[n, :count], torch.stack([vote for *_, vote in expected]))


@pytest.mark.parametrize("limit", [7, 60])
@pytest.mark.parametrize("seed", range(5))
def test_images_in_step_as_in_turn(seed, limit):
    """What a GPU does and what a CPU does."""
    scene = crowded_scene(seed)
    index, scores = soft_nms(*scene, limit)
    other_index, other_scores = _soft_nms_in_step(*scene, limit, 0.5, 0.001, "gaussian", 0.6)
    kept = scores > 0
    assert torch.equal(index[kept], other_index[kept])
    torch.testing.assert_close(scores, other_scores.where(other_scores >= 0.001, 0))
    index, fused, votes = cluster_vote(*scene, num_sources=4, limit=limit)
    seeds, members, weights = _cluster_in_parallel(*scene, 4, limit, 0.6)
    assert torch.equal(votes, weights.mean(dim=2))
    assert torch.equal(index[votes > 0], seeds[votes > 0])
    rows = torch.arange(2)[:, None, None]
    torch.testing.assert_close(
        fused * votes[..., None] * 4, (scene[0][rows, members] * weights[..., None]).sum(dim=2), rtol=1e-5, atol=1e-5
    )


def test_one_source_votes_once_per_object():
    """Two boxes of one point on one object: only the better one supports it, the other starts a cluster of its own."""
    boxes = torch.tensor([[[0, 0, 10, 10], [0, 0, 10, 10.5], [0, 0, 10, 10], [50, 50, 60, 60]]]).float()
    scores = torch.tensor([[0.8, 0.7, 0.6, 0.0]])
    _, _, votes = cluster_vote(boxes, scores, torch.zeros(1, 4, dtype=torch.long), num_sources=2, limit=2)
    torch.testing.assert_close(votes[0], torch.tensor([0.7, 0.35]))


def test_iou_of_empty_boxes_is_zero():
    row = torch.zeros(1, dtype=torch.long)
    assert compute_overlap_with(row, row, torch.zeros(1, 1, 4), torch.zeros(1, 1)).item() == 0


@pytest.mark.parametrize("limit", [7, 60])
@pytest.mark.parametrize("seed", range(5))
def test_the_runtime_merges_as_the_batched_ops(seed, limit):
    """``runtime.merging`` for one image, and what a GPU does for a batch."""
    boxes, scores, classes = crowded_scene(seed)
    index, lowered = _soft_nms_in_step(boxes, scores, classes, limit, 0.5, 0.001, "gaussian", 0.6)
    seeds, members, weights = _cluster_in_parallel(boxes, scores, classes, 4, limit, 0.6)
    for n in range(2):
        candidates = {
            name: values[n].numpy() for name, values in {"boxes": boxes, "scores": scores, "classes": classes}.items()
        }
        candidates["number"] = np.arange(60)
        kept = merging.soft_nms(candidates, limit)
        count = len(kept["scores"])
        assert kept["number"].tolist() == index[n, :count].tolist() and (lowered[n, count:] < 0.001).all()
        np.testing.assert_allclose(kept["scores"], lowered[n, :count], rtol=1e-5)
        voted = merging.vote(candidates, 4, limit)
        count = len(voted["scores"])
        assert voted["number"].tolist() == seeds[n, :count].tolist() and (weights[n, count:] == 0).all()
        np.testing.assert_allclose(voted["scores"], weights[n, :count].mean(dim=1), rtol=1e-6)
        total = weights[n].sum(dim=1, keepdim=True).clamp(min=1e-12)
        mean = (boxes[n][members[n]] * weights[n][..., None]).sum(dim=1) / total
        np.testing.assert_allclose(voted["boxes"], mean[:count], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("decay", ["hard", "linear"])
@pytest.mark.parametrize("seed", range(3))
def test_hard_and_linear_decay_equal_a_loop(seed, decay):
    """Both texts; "hard" also against torchvision's NMS."""
    boxes, scores, classes = crowded_scene(seed)
    index, new_scores = soft_nms(boxes, scores, classes, 30, decay=decay, iou=0.5)
    in_step = _soft_nms_in_step(boxes, scores, classes, 30, 0.5, 0.001, decay, 0.5)
    torch.testing.assert_close(new_scores, in_step[1].where(in_step[1] >= 0.001, 0))
    for n in range(2):
        rest = dict(enumerate(scores[n].tolist()))
        expected = []
        while rest and len(expected) < 30:
            i = max(rest, key=rest.get)
            expected.append((i, rest.pop(i)))
            for j in rest:
                overlap = iou(boxes[n, i].tolist(), boxes[n, j].tolist())
                if classes[n, i] == classes[n, j] and overlap > 0.5:
                    rest[j] *= 1 - overlap if decay == "linear" else 0
        expected = [(i, score) for i, score in expected if score >= 0.001]
        assert index[n, : len(expected)].tolist() == [i for i, _ in expected]
        torch.testing.assert_close(new_scores[n, : len(expected)], torch.tensor([score for _, score in expected]))
        assert not new_scores[n, len(expected) :].any()
        if decay == "hard":
            kept = batched_nms(boxes[n], scores[n], classes[n], 0.5)
            kept = kept[scores[n][kept] >= 0.001][:30]
            assert index[n, : len(kept)].tolist() == kept.tolist()
        method = {"hard": "nms", "linear": "linear_soft_nms"}[decay]
        candidates = {"boxes": boxes[n].numpy(), "scores": scores[n].numpy(), "classes": classes[n].numpy()}
        merged = merging.merge(candidates, method, 1, 30, 0.5)
        np.testing.assert_allclose(merged["scores"], new_scores[n, : len(expected)], rtol=1e-6)


@pytest.mark.parametrize(("shift", "kept"), [(2.4, [0.9, 0]), (2.6, [0.9, 0.8])])
def test_plain_suppression_begins_at_an_overlap_of_six_tenths(shift, kept):
    """Two boxes of 10 x 10, one moved: 7.6 / 12.4 is 0.61, 7.4 / 12.6 is 0.59."""
    boxes = torch.tensor([[[0, 0, 10, 10], [shift, 0, 10 + shift, 10]]])
    scores, classes = torch.tensor([[0.9, 0.8]]), torch.zeros(1, 2, dtype=torch.long)
    found = soft_nms(boxes, scores, classes, limit=2, decay="hard")[1]
    assert found[0].tolist() == pytest.approx(kept)


@pytest.mark.parametrize("find", [_cluster_in_parallel, _cluster_in_turn])
def test_the_least_overlap_is_enough_for_a_vote(find):
    """Half of a box has an overlap of exactly 0.5."""
    boxes = torch.tensor([[[0.0, 0, 8, 8], [0, 0, 8, 4]]])
    scores, classes = torch.tensor([[0.9, 0.8]]), torch.zeros(1, 2, dtype=torch.long)
    weights = find(boxes, scores, classes, 2, 1, 0.5)[2]
    assert weights.flatten().tolist() == pytest.approx([0.9, 0.8])
