"""The cells at which the box of an object is learned, and those that vote on it (box voting: Gidaris and Komodakis
2015, arXiv:1505.01749, section 5; there of detections after NMS)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from centernet_d2.ops.box_losses import compute_overlap
from centernet_d2.ops.constants import make_constant
from centernet_d2.ops.gaussian import compute_window_radius
from centernet_d2.ops.indexing import gather_cells

#: "peak": the cell of the point alone. "square": 3x3 cells around, those with their center in the box (FCOS, section
#: 3.2). "gaussian": the window of a Gaussian, which weighs them (TTFNet, section 3.3).
SAMPLINGS = ("peak", "square", "gaussian")

# The area in input pixels at which an object's weight is 1 (TTFNet).
_UNIT_AREA = 64.0**2
# Cells of each side that vote, and the IoU with the box of the peak below which a cell sees another object.
# Chosen with images held out of training: docs/ablations.md.
_SIDE = 5
_MIN_OVERLAP = 0.7


@dataclass
class BoxSamples:
    """E rows, each with one cell of each of an object's K points.

    Attributes:
        owner: (E,) int64, the object.
        cells: (E, K, 2) int64 x, y, inside the grid.
        weight: (E, K) float32; 0 where there is no such cell, or it is another object's.
    """

    owner: Tensor
    cells: Tensor
    weight: Tensor


def sample_box_cells(
    sampling: str,
    boxes: Tensor,
    image_index: Tensor,
    cells: Tensor,
    grid_size: tuple[int, int],
    alpha: float = 0.54,
    stride: int = 4,
) -> BoxSamples:
    """Return the cells where ``boxes`` (P, 4) in grid cells are learned, around the ``cells`` (P, K, 2) int64 of their
    points.

    A cell belongs to the object whose point lies in it (there it is decoded), else to the smallest object (TTFNet). The
    weights of a point's cells add up to 1, but for cells that are another object's; of "gaussian" to the logarithm of
    the box's area, over that of 64x64 input pixels: large objects have more of the loss, as in TTFNet,
    which divides by the sum of all weights instead of the number of objects.

    Args:
        sampling: one of :data:`SAMPLINGS`.
        image_index: (P,) int64.
        alpha: fraction of the box's sides that the window of "gaussian" covers.
        stride: input pixels per grid cell.
    """
    sizes = boxes[:, 2:] - boxes[:, :2]
    if sampling == "gaussian":
        radius = compute_window_radius(sizes, 1.0, "ellipse", False, alpha)
    else:
        radius = torch.full_like(cells[:, 0], 1 if sampling == "square" else 0)
    owner, shift = _list_window_cells(radius)
    positions = cells[owner] + shift[:, None]
    peak = (shift == 0).all(dim=1, keepdim=True)
    nearest = gather_cells(positions, grid_size)
    inside = (positions == nearest).all(dim=-1)
    if sampling == "square":
        center, own = positions + 0.5, boxes[owner, None]
        inside &= ((center > own[..., :2]) & (center < own[..., 2:])).all(dim=-1) | peak
    weight = _evaluate_gaussian(shift, (2 * radius + 1)[owner])[:, None] if sampling == "gaussian" else 1.0
    weight = weight * inside
    weight = weight / torch.zeros_like(cells[..., 0], dtype=weight.dtype).index_add(0, owner, weight)[owner]
    if sampling == "gaussian":
        weight = weight * _log_area(sizes * stride)[owner, None]
    owned = _find_owned_cells(sizes, image_index[owner], owner, nearest, inside, peak, grid_size)
    return BoxSamples(owner, nearest, weight * owned)


def list_voting_cells(boxes: Tensor, cells: Tensor, grid_size: tuple[int, int], alpha: float) -> Tensor:
    """Return the cells (25, ..., 2) int64 around ``cells`` (..., 2) that vote on ``boxes`` (..., 4) in grid cells.

    They cover two standard deviations of TTFNet's Gaussian, ``alpha`` / 6 of the box's sides: where the box is learned
    with most weight. Small boxes have the same cell several times.
    """
    steps = [alpha / 3 * (2 * i / (_SIDE - 1) - 1) for i in range(_SIDE)]
    fractions = make_constant([number for y in steps for x in steps for number in (x, y)], boxes)
    shift = fractions.view(-1, *[1] * (boxes.dim() - 1), 2) * (boxes[..., 2:] - boxes[..., :2])
    return gather_cells(cells + shift.round(), grid_size)


def average_votes(boxes: Tensor, votes: Tensor) -> Tensor:
    """Return the mean (..., 4) of ``votes`` (V, ..., 4) that overlap ``boxes`` (..., 4) with an IoU of at least 0.7;
    ``boxes`` where none does."""
    shared, union = compute_overlap(votes, boxes)
    near = (shared >= _MIN_OVERLAP * union)[..., None]
    count = near.sum(dim=0)
    return torch.where(count > 0, votes.where(near, 0).sum(dim=0) / count.clamp(min=1), boxes)


def _log_area(sizes: Tensor) -> Tensor:
    """Return weights (P,) of objects of ``sizes`` (P, 2) in input pixels.

    Areas below e pixels count as e, so that weights are positive.
    """
    return sizes.prod(dim=1).log().clamp(min=1) / torch.tensor(_UNIT_AREA).log()


def _find_owned_cells(
    sizes: Tensor,
    image_index: Tensor,
    owner: Tensor,
    positions: Tensor,
    inside: Tensor,
    peak: Tensor,
    grid_size: tuple[int, int],
) -> Tensor:
    """Return (E, K) bool: the cell belongs to its owner and to no other object."""
    count, (height, width) = positions.shape[1], grid_size
    channel = image_index[:, None] * count + torch.arange(count, device=positions.device)
    index = ((channel * height + positions[..., 1]) * width + positions[..., 0]).where(inside, -1)
    rank = sizes.prod(dim=1).argsort(descending=True, stable=True).argsort()  # the smallest object has the highest
    claim = (index << 32) | (rank[owner, None] + len(sizes) * peak)
    claim, order = claim.flatten().sort()
    owned = torch.zeros_like(inside.flatten())
    owned[order] = torch.cat([claim[1:] >> 32 != claim[:-1] >> 32, owned.new_ones(min(len(claim), 1))])
    return owned.view(inside.shape)


def _list_window_cells(radius: Tensor) -> tuple[Tensor, Tensor]:
    """Return the E cells of all windows of ``radius`` (P, 2): owners (E,) int64, and positions (E, 2) int64 x, y from
    the center.

    Row by row, one window after the other.
    """
    spans = 2 * radius + 1
    counts = spans.prod(dim=1)
    owner = torch.repeat_interleave(counts)
    within = torch.arange(len(owner), device=radius.device) - (counts.cumsum(0) - counts)[owner]
    width = spans[owner, 0]
    return owner, torch.stack([within % width, within // width], dim=1) - radius[owner]


def _evaluate_gaussian(away: Tensor, span: Tensor) -> Tensor:
    """Return (...) float32 at ``away`` (..., 2) cells from the center of a Gaussian
    ``span`` = 6 sigma wide and high."""
    return (-18 * (away.double() / span).square().sum(dim=-1)).exp().float()
