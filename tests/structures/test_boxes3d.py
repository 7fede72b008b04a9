"""3D boxes against closed forms, brute-force sampling and round trips."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from centernet_d2.ops.box3d_geometry import (
    convert_alpha_to_rotation_y,
    convert_rotation_y_to_alpha,
    project,
    unproject,
    wrap_angle,
)
from centernet_d2.structures.boxes3d import Boxes3D, compute_ground_intersection, compute_iou_3d

# Of an image of KITTI.
P2 = torch.tensor(
    [
        [707.0493, 0, 604.0814, 45.75831],
        [0, 707.0493, 180.5066, -0.3454157],
        [0, 0, 1, 0.004981016],
    ],
    dtype=torch.float64,
)


def boxes(*rows: tuple[float, ...]) -> Boxes3D:
    """h, w, l, x, y, z, rotation_y of each."""
    table = torch.tensor(rows, dtype=torch.float64)
    return Boxes3D(table[:, :3], table[:, 3:6], table[:, 6])


def random_boxes(count: int, seed: int) -> Boxes3D:
    """Near enough to each other that most pairs overlap."""
    rng = np.random.default_rng(seed)
    size, place = rng.uniform(1, 4, (count, 3)), rng.uniform([3, -1, 18], [6, 2, 21], (count, 3))
    return Boxes3D(*map(torch.from_numpy, (size, place, rng.uniform(-4, 4, count))))


def holds(box: Boxes3D, points: torch.Tensor) -> torch.Tensor:
    """Whether one box holds points (n, 3): in its own axes, from where its front and its left are."""
    x, y, z = (points - box.locations).unbind(-1)
    front = torch.stack([box.rotation_y.cos(), -box.rotation_y.sin()])
    left = torch.stack([box.rotation_y.sin(), box.rotation_y.cos()])
    height, width, length = box.dimensions
    along, across = x * front[0] + z * front[1], x * left[0] + z * left[1]
    return (along.abs() <= length / 2) & (across.abs() <= width / 2) & (y <= 0) & (y >= -height)


def test_corners_of_a_box_that_looks_to_the_right():
    expected = [[4, 2, 11], [4, 2, 9], [0, 2, 9], [0, 2, 11]]
    corners = boxes((1.5, 2, 4, 2, 2, 10, 0)).compute_corners()[0]
    assert torch.allclose(corners[:4], torch.tensor(expected, dtype=torch.float64))
    assert torch.allclose(corners[4:], torch.tensor([[x, 0.5, z] for x, _, z in expected], dtype=torch.float64))


def test_a_quarter_turn_makes_it_look_at_the_camera():
    corners = boxes((1.5, 2, 4, 2, 2, 10, math.pi / 2)).compute_corners()[0]
    front = corners[[0, 1, 4, 5]]
    assert torch.allclose(front[:, 2], torch.tensor(8.0).double())
    # Seen from inside, looking to the camera, left is at larger x.
    assert torch.allclose(front[:, 0], torch.tensor([3.0, 1, 3, 1]).double())


def test_corners_lie_on_the_box_at_any_angle():
    some = random_boxes(50, 0)
    for i, corners in enumerate(some.compute_corners()):
        one = Boxes3D(*(x[i] for x in some))
        center = one.locations - torch.tensor([0, 1, 0]) * one.dimensions[0] / 2
        assert holds(one, center + 0.9999 * (corners - center)).all()
        assert not holds(one, center + 1.0001 * (corners - center)).any()


@pytest.mark.parametrize("turns", range(-2, 4))
def test_boxes_with_parallel_sides(turns):
    """Overlaps of intervals."""
    angles = torch.full((200,), turns * math.pi / 2, dtype=torch.float64)
    a, b = (random_boxes(200, seed)._replace(rotation_y=angles) for seed in (1, 2))
    extents = [2, 0, 1] if turns % 2 == 0 else [1, 0, 2]  # of dimensions, along x, y, z
    low, high = [], []
    for one in (a, b):
        size = one.dimensions[:, extents]
        low.append(one.locations - size * torch.tensor([0.5, 1, 0.5]))
        high.append(one.locations + size * torch.tensor([0.5, 0, 0.5]))
    shared = (torch.minimum(*high) - torch.maximum(*low)).clamp(min=0)
    for result, axes in zip(compute_iou_3d(a, b), ([0, 2], [0, 1, 2]), strict=True):
        both = shared[:, axes].prod(dim=1)
        union = sum((end - start)[:, axes].prod(dim=1) for start, end in zip(low, high, strict=True)) - both
        assert torch.allclose(result, both / union, rtol=0, atol=1e-12)
        assert 20 < (result > 0.1).sum() < 200


@pytest.mark.parametrize("angle", np.linspace(-math.pi, math.pi, 9))
def test_closed_forms(angle):
    square = boxes((1, 2, 2, 3, 1, 40, angle))
    # Two squares at 45 degrees share an octagon.
    octagon = 8 * (math.sqrt(2) - 1)
    rotated = square._replace(rotation_y=square.rotation_y + math.pi / 4)
    assert compute_ground_intersection(square, rotated).item() == pytest.approx(octagon, abs=1e-9)
    assert compute_iou_3d(square, rotated)[1].item() == pytest.approx(octagon / (8 - octagon), abs=1e-9)
    # A cross, and a box in another.
    bar = boxes((1, 1, 4, 3, 1, 40, angle))
    crossing = bar._replace(rotation_y=bar.rotation_y + math.pi / 2)
    assert compute_ground_intersection(bar, crossing).item() == pytest.approx(1, abs=1e-9)
    inner = square._replace(dimensions=square.dimensions * 0.4, rotation_y=square.rotation_y + 1)
    assert compute_ground_intersection(square, inner).item() == pytest.approx(0.64, abs=1e-9)
    assert compute_iou_3d(inner, square)[1].item() == pytest.approx(0.4**3, abs=1e-9)


def test_the_same_box_and_boxes_with_a_common_side():
    """Sides in one line are where rounding could decide whether there is anything in common."""
    some = random_boxes(300, 2)
    ground, space = compute_iou_3d(some, some)
    assert torch.allclose(ground, torch.ones(300).double(), rtol=0, atol=1e-9)
    assert torch.allclose(space, torch.ones(300).double(), rtol=0, atol=1e-9)
    front = torch.stack([some.rotation_y.cos(), torch.zeros(300).double(), -some.rotation_y.sin()], dim=1)
    width, length = some.dimensions[:, 1], some.dimensions[:, 2]
    for fraction in (0.25, 0.5, 1.0, 1.5):
        moved = some._replace(locations=some.locations + fraction * length[:, None] * front)
        expected = width * length * max(0, 1 - fraction)
        assert torch.allclose(compute_ground_intersection(some, moved), expected, rtol=0, atol=1e-9)
        opposite = moved._replace(rotation_y=moved.rotation_y + math.pi)
        assert torch.allclose(compute_ground_intersection(opposite, some), expected, rtol=0, atol=1e-9)


def test_against_points():
    """From the fraction of a lattice of 60^3 points in the first box that is in the second, too: within 0.02."""
    first, second = random_boxes(30, 3), random_boxes(30, 4)
    steps = (torch.arange(60).double() + 0.5) / 60
    lattice = torch.cartesian_prod(steps, steps, steps) - torch.tensor([0.5, 0, 0.5])
    results = torch.stack(compute_iou_3d(first, second), dim=1)
    for i, exact in enumerate(results):
        a, b = (Boxes3D(*(x[i] for x in some)) for some in (first, second))
        height, width, length = a.dimensions
        cosine, sine, none = a.rotation_y.cos(), a.rotation_y.sin(), torch.tensor(0).double()
        axes = torch.stack([cosine, none, -sine, none, none - 1, none, sine, none, cosine]).view(3, 3)
        points = a.locations + (lattice * torch.stack([length, height, width])) @ axes
        # For the view from above all are at b's bottom.
        level = torch.stack([points[:, 0], b.locations[1].expand(len(points)), points[:, 2]], dim=1)
        for overlap, positions, first_axis in ((exact[0], level, 1), (exact[1], points, 0)):
            size_a, size_b = (one.dimensions[first_axis:].prod() for one in (a, b))
            shared = holds(b, positions).double().mean() * size_a
            assert overlap == pytest.approx(float(shared / (size_a + size_b - shared)), abs=0.02)
    assert (results > 0.1).sum(dim=0).tolist() > [10, 10]


def test_overlaps_are_symmetric_and_broadcast():
    first, second = random_boxes(7, 5), random_boxes(5, 6)
    rows, columns = Boxes3D(*(x[:, None] for x in first)), Boxes3D(*(x[None] for x in second))
    for forth, back in zip(compute_iou_3d(rows, columns), compute_iou_3d(columns, rows), strict=True):
        assert forth.shape == (7, 5)
        assert torch.allclose(forth, back, rtol=0, atol=1e-12)
    one = compute_iou_3d(Boxes3D(*(x[3] for x in first)), Boxes3D(*(x[4] for x in second)))
    assert one[1] == compute_iou_3d(rows, columns)[1][3, 4]


def test_boxes_without_size_overlap_nothing():
    good = boxes((1, 1, 1, 0, 0, 5, 0))
    for size in ((1, 0, 1), (0, 0, 0), (1, -1, 1), (-1, -1, -1)):
        flat = boxes((*size, 0, 0, 5, 0.3))
        assert compute_iou_3d(good, flat)[0] == compute_iou_3d(flat, good)[0] == compute_iou_3d(flat, flat)[0] == 0
    ground, space = compute_iou_3d(good, boxes((-1, 1, 1, 0, 0, 5, 0)))
    assert (ground, space) == (1, 0)
    assert compute_iou_3d(Boxes3D(*(x[:0] for x in good)), good)[0].shape == (0,)


def test_projection():
    """By hand: u = (707.0493 x + 604.0814 z + 45.75831) / (z + 0.004981016)."""
    u, v, depth = project(torch.tensor([2.0, 1.5, 20.0]).double(), P2).tolist()
    assert depth == pytest.approx(20.004981016)
    assert u == pytest.approx((707.0493 * 2 + 604.0814 * 20 + 45.75831) / 20.004981016)
    assert v == pytest.approx((707.0493 * 1.5 + 180.5066 * 20 - 0.3454157) / 20.004981016)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_projection_and_back(dtype, tolerance):
    generator = torch.Generator().manual_seed(0)
    low, high = torch.tensor([-30.0, -3, 1]), torch.tensor([30.0, 4, 80])
    points = (low + (high - low) * torch.rand(4, 500, 3, generator=generator)).to(dtype)
    # Four cameras.
    calibration = P2.to(dtype).repeat(4, 1, 1)
    calibration[:, 0] *= torch.tensor([[1.0], [1.1], [1.2], [1.3]])
    back = unproject(project(points, calibration[:, None]), calibration[:, None])
    assert (back - points).abs().max() < tolerance


def test_alpha_and_rotation_y_at_all_angles():
    angles = torch.linspace(-math.pi, math.pi, 3601).double()[:, None]
    x = torch.linspace(-100, 1400, 31).double()
    there = convert_alpha_to_rotation_y(angles, x, P2)
    back = convert_rotation_y_to_alpha(there, x, P2)
    for result in (there, back):
        assert (result >= -math.pi).all() and (result < math.pi).all()
    for expected in (torch.cos, torch.sin):
        assert torch.allclose(expected(back), expected(angles).expand_as(back), rtol=0, atol=1e-12)
    assert torch.allclose(wrap_angle(angles[1:-1] + 4 * math.pi), angles[1:-1], rtol=0, atol=1e-12)


def test_alpha_is_what_is_seen():
    """Objects that turn with their line of sight keep their alpha; straight ahead it is rotation_y."""
    camera = P2.clone()
    camera[:, 3] = 0
    positions = torch.tensor([[-10.0, 1, 20], [0, 1, 20], [15, 1, 15]]).double()
    sight = torch.tensor([math.atan2(-10, 20), 0, math.pi / 4]).double()
    alpha = convert_rotation_y_to_alpha(0.3 + sight, project(positions, camera)[:, 0], camera)
    assert torch.allclose(alpha, torch.tensor(0.3).double())
