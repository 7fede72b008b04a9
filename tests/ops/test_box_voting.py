"""Box voting against a loop, and the cells that vote by hand."""

from __future__ import annotations

import pytest
import torch

from centernet_d2.modeling.heads import BoxHead
from centernet_d2.ops.box_sampling import average_votes, list_voting_cells
from tests.helpers.head_batch import SHARED

GRID = (12, 20)


def compute_iou(a, b):
    shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def vote_by_a_loop(sides, x, y, alpha):
    """sides: (4, H, W), in units of 4 cells."""

    def read(a, b):
        left, top, right, bottom = (4 * sides[:, b, a]).tolist()
        xs, ys = sorted((a + 0.5 - left, a + 0.5 + right)), sorted((b + 0.5 - top, b + 0.5 + bottom))
        return xs[0], ys[0], xs[1], ys[1]

    box, voters = read(x, y), []
    for i in (-1, -0.5, 0, 0.5, 1):
        for j in (-1, -0.5, 0, 0.5, 1):
            a = round(x + i * alpha / 3 * (box[2] - box[0]))
            b = round(y + j * alpha / 3 * (box[3] - box[1]))
            voters.append(read(min(max(a, 0), GRID[1] - 1), min(max(b, 0), GRID[0] - 1)))
    near = [voter for voter in voters if compute_iou(voter, box) >= 0.7]
    assert near
    return [sum(voter[k] for voter in near) / len(near) for k in range(4)], len(near)


@pytest.mark.parametrize("alpha", [0.54, 0.9])
@pytest.mark.parametrize("flags", [[4], [0, 4, 8]])
def test_equals_a_loop(flags, alpha):
    generator = torch.Generator().manual_seed(0)
    head = BoxHead(point_flags=flags, sampling="gaussian", voting=True, alpha=alpha, **SHARED)
    sides = 0.2 + torch.rand(2, len(flags), 4, 1, 1, generator=generator)
    sides = sides + 0.15 * torch.rand(2, len(flags), 4, *GRID, generator=generator)
    cells = torch.stack([torch.randint(0, n, (2, 9, len(flags)), generator=generator) for n in GRID[::-1]], dim=-1)
    boxes = head.decode_boxes(sides.flatten(1, 2), torch.arange(2)[:, None, None], cells, cells + 0.5)
    assert boxes.shape == (2, 9, len(flags), 4)
    counts = set()
    for i in range(2):
        for m in range(9):
            for k in range(len(flags)):
                expected, count = vote_by_a_loop(sides[i, k], *cells[i, m, k].tolist(), alpha)
                assert boxes[i, m, k].tolist() == pytest.approx(expected, abs=1e-4)
                counts.add(count)
    assert len(counts) > 3  # Some voters are other objects', and not the same number each time.


def test_cells_in_the_middle_of_the_box_vote():
    """A box of 20 x 10 cells and alpha 0.6: up to a fifth of its sides away; at the border, the last cell."""
    cells = list_voting_cells(torch.tensor([[0.0, 0, 20, 10]]), torch.tensor([[9, 1]]), GRID, 0.6)
    assert cells.shape == (25, 1, 2) and cells.dtype == torch.int64
    assert sorted(set(cells[:, 0, 0].tolist())) == [5, 7, 9, 11, 13]
    assert sorted(set(cells[:, 0, 1].tolist())) == [0, 1, 2, 3]
    small = list_voting_cells(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[9, 1]]), GRID, 0.6)
    assert (small == torch.tensor([9, 1])).all()


def test_an_error_that_cells_do_not_share_becomes_smaller():
    """A box of 32 x 32 cells, whose sides have noise of 0.8 cells: the mean over 25 cells has about a fifth of it."""
    generator = torch.Generator().manual_seed(1)
    y, x = torch.meshgrid(torch.arange(40), torch.arange(40), indexing="ij")
    exact = 4 + torch.stack([x - 20, y - 20, 20 - x, 20 - y]) / 4
    sides = exact + 0.2 * torch.randn(50, 4, 40, 40, generator=generator)
    image_index, cells = torch.arange(50)[:, None, None], torch.full((50, 1, 1, 2), 20)
    errors = []
    for voting in (False, True):
        head = BoxHead(point_flags=[4], sampling="gaussian", voting=voting, **SHARED)
        boxes = head.decode_boxes(sides, image_index, cells, cells)
        errors.append((boxes - torch.tensor([4.5, 4.5, 36.5, 36.5])).abs().mean().item())
    assert errors[1] == pytest.approx(errors[0] / 5, rel=0.3)


def test_without_an_overlapping_voter_the_box_stays():
    boxes = torch.tensor([[0.0, 0, 4, 4], [float("nan")] * 4])
    votes = torch.tensor([[[10.0, 10, 14, 14]], [[0.0, 0, 4, 2]]]).expand(2, 2, 4)
    kept = average_votes(boxes, votes)
    assert kept[0].tolist() == [0, 0, 4, 4] and kept[1].isnan().all()
    assert average_votes(boxes[:1], torch.tensor([[[0.0, 0, 4, 2.7]], [[0.0, 0, 4, 3]]])).tolist() == [[0, 0, 4, 3]]
