"""The cross-IOU loss: numbers of the reference's functions, its definition as loops, and where it is 0."""

from __future__ import annotations

import math

import pytest
import torch

from centernet_d2.ops.lsnet.cross_iou_loss import KINDS, _box_penalty, cross_iou_loss
from centernet_d2.ops.lsnet.landmark_vectors import decode_vectors, enclose_landmarks, encode_vectors
from tests.ops.lsnet.test_landmark_vectors import VECTORS

UNIT = 4 * 8  # input pixels, of stride 8
EXTREMES = [[50.0, 10.0], [20.0, 42.0], [55.0, 90.0], [88.0, 40.0], [54.0, 50.0]]
BOX = [20.0, 10.0, 88.0, 90.0]
KEYPOINTS = [30, 20, 37, 31, 44, 42, 51, 53, 58, 64, 65, 75, 32, 26, 39, 37, 46, 48, 53, 59, 60, 70, 67, 21, 34, 32, 41]
KEYPOINTS += [43, 48, 54, 55, 65, 62, 76, 50, 50]
VISIBILITY = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1]


def arguments(vectors, points, anchor, box=None, visible=None):
    """One sample: vectors in strides, the rest in input pixels."""
    anchor = torch.tensor(anchor)
    return {
        "vectors": torch.as_tensor(vectors)[None] / 4,
        "displacements": (torch.as_tensor(points)[None] - anchor) / UNIT,
        "boxes": None if box is None else (torch.tensor([box]) - anchor.repeat(2)) / UNIT,
        "visible": visible,
    }


def bbox_sample():
    return arguments(VECTORS, EXTREMES, [48.0, 40.0], BOX)


def polygon_sample():
    angle = 2 * math.pi * torch.arange(36) / 36
    contour = torch.stack([60 - 22 * angle.sin(), 50 - 30 * angle.cos()], dim=1)
    points = torch.cat([contour, torch.tensor([[60.0, 50.0]])])
    return arguments((torch.arange(148) * 0.37) % 4 + 0.1, points, [56.0, 48.0], [38.0, 20.0, 82.0, 80.0])


def keypoint_sample():
    points = torch.tensor(KEYPOINTS, dtype=torch.float32).view(18, 2)
    visible = torch.tensor([[*(v > 0 for v in VISIBILITY), True]]).float()
    return arguments((torch.arange(72) * 0.53) % 4 + 0.1, points, [56.0, 48.0], visible=visible)


SAMPLES = {"bbox": bbox_sample, "polygon": polygon_sample, "keypoint": keypoint_sample}
REFERENCE = {"bbox": 0.920942, "polygon": 0.631792, "keypoint": 0.762120}


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_reference(kind):
    loss = cross_iou_loss(**SAMPLES[kind](), kind=kind, reference_box_penalty=True, count_invisible=True)
    torch.testing.assert_close(loss, torch.tensor([REFERENCE[kind]]), rtol=0, atol=1e-5)


def test_the_reference_has_no_number_at_the_perfect_prediction():
    sample = bbox_sample()
    sample["vectors"] = encode_vectors(sample["displacements"])
    assert cross_iou_loss(**sample, kind="bbox", reference_box_penalty=True).isnan().all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_perfect_prediction_has_no_loss_and_no_gradient(kind):
    sample = SAMPLES[kind]()
    vectors = encode_vectors(sample["displacements"]).requires_grad_()
    loss = cross_iou_loss(**{**sample, "vectors": vectors}, kind=kind)
    (gradient,) = torch.autograd.grad(loss.sum(), vectors)
    torch.testing.assert_close(loss, torch.zeros(1), rtol=0, atol=1e-6)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_along_the_gradient_comes_closer(kind):
    """From far away and from next to the target."""
    sample = SAMPLES[kind]()
    target = encode_vectors(sample["displacements"])
    generator = torch.Generator().manual_seed(0)
    for size in (1.0, 1e-3):
        start = (target + size * torch.randn(target.shape, generator=generator)).clamp(min=1e-3).requires_grad_()
        loss = cross_iou_loss(**{**sample, "vectors": start}, kind=kind)
        (gradient,) = torch.autograd.grad(loss.sum(), start)
        assert gradient.isfinite().all()
        step = (start - 1e-3 * size * gradient / gradient.norm()).detach()
        assert cross_iou_loss(**{**sample, "vectors": step}, kind=kind) < loss


def keypoint_loss_in_loops(vectors, displacements, visible):
    """1 minus the mean ratio of the coordinates of visible landmarks that do not equal the anchor point's."""
    ratios = []
    for k, (x, y) in enumerate(displacements.tolist()):
        for axis, d in enumerate((y, x)):
            p = vectors[4 * k + 2 * axis : 4 * k + 2 * axis + 2].tolist()
            t = [abs(d), 0.2 * abs(d)] if d < 0 else [0.2 * abs(d), abs(d)]
            if visible[k] and d != 0:
                ratios.append(sum(map(min, p, t)) / sum(map(max, p, t)))
    return 1 - sum(ratios) / len(ratios)


def test_keypoints_that_are_not_visible_do_not_count():
    sample = keypoint_sample()
    assert (sample["displacements"] == 0).any()  # keypoint 8 is on the anchor point's row
    loss = cross_iou_loss(**sample, kind="keypoint")
    expected = keypoint_loss_in_loops(sample["vectors"][0], sample["displacements"][0], sample["visible"][0])
    assert float(loss) == pytest.approx(expected, abs=1e-6)
    hidden = (1 - sample["visible"]).repeat_interleave(4, dim=1)
    moved = {**sample, "vectors": sample["vectors"] + hidden * torch.rand_like(hidden)}
    assert torch.equal(cross_iou_loss(**moved, kind="keypoint"), loss)


def test_an_object_without_visible_keypoints_has_no_loss():
    sample = keypoint_sample()
    vectors = sample["vectors"].requires_grad_()
    loss = cross_iou_loss(**{**sample, "visible": torch.zeros(1, 18)}, kind="keypoint")
    (gradient,) = torch.autograd.grad(loss.sum(), vectors)
    assert loss.item() == 0
    assert not gradient.any()


@pytest.mark.parametrize("points", [5, 20, 37])
def test_polygons_of_any_number_of_points(points):
    """Groups are g, g + 9, ...; 5 landmarks are a group each. The box is the predicted one: no penalty."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.rand(2, 4 * points, generator=generator, dtype=torch.float64)
    displacements = torch.randn(2, points, 2, generator=generator, dtype=torch.float64)
    target, groups = encode_vectors(displacements), min(points, 9)
    low, high = (f(vectors, target).view(2, points, 4).sum(dim=2) for f in (torch.minimum, torch.maximum))
    ratios = [low[:, g::groups].sum(dim=1) / high[:, g::groups].sum(dim=1) for g in range(groups)]
    boxes = enclose_landmarks(decode_vectors(vectors)[:, :-1])
    loss = cross_iou_loss(vectors, displacements, "polygon", boxes)
    torch.testing.assert_close(loss, 1 - torch.stack(ratios).mean(dim=0))


def test_samples_are_independent():
    samples = [bbox_sample(), bbox_sample()]
    samples[1]["vectors"] = samples[1]["vectors"] * 1.7
    both = {k: v if v is None else torch.cat([v, samples[1][k]]) for k, v in samples[0].items()}
    each = [cross_iou_loss(**sample, kind="bbox") for sample in samples]
    torch.testing.assert_close(cross_iou_loss(**both, kind="bbox"), torch.cat(each))
    none = {k: v if v is None else v[:0] for k, v in both.items()}
    assert cross_iou_loss(**none, kind="bbox").shape == (0,)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_against_differences(kind):
    sample = {k: v if v is None else v.double() for k, v in SAMPLES[kind]().items()}
    vectors = (sample.pop("vectors") + 0.01).requires_grad_()
    for options in ({"reference_box_penalty": True}, {"count_invisible": True}):
        # Without the reference's gradient through the factor, differences of the whole loss are not its gradient.
        if kind == "keypoint" or "reference_box_penalty" in options:
            loss = lambda v, options=options: cross_iou_loss(v, kind=kind, **sample, **options)  # noqa: E731
            assert torch.autograd.gradcheck(loss, (vectors,), atol=1e-6)


def test_half_precision_is_computed_in_float32():
    sample = bbox_sample()
    half = {k: v if v is None else v.bfloat16() for k, v in sample.items()}
    loss = cross_iou_loss(**half, kind="bbox")
    assert loss.dtype == torch.float32
    exact = cross_iou_loss(**{k: v if v is None else v.float() for k, v in half.items()}, kind="bbox")
    assert torch.equal(loss, exact)


def test_errors():
    sample = bbox_sample()
    with pytest.raises(ValueError, match="not 'box'"):
        cross_iou_loss(**sample, kind="box")
    with pytest.raises(ValueError, match="needs the boxes"):
        cross_iou_loss(**{**sample, "boxes": None}, kind="polygon")


@pytest.mark.parametrize("first_is_gt", [False, True])
def test_the_penalty_of_two_boxes_by_hand(first_is_gt):
    """Each reaches further to one side: around both are 4 x 5; the centers are 2 apart; 4 / 2 and 2 / 4 wide."""
    boxes = torch.tensor([[[0.0, 0, 4, 2]], [[1.0, 1, 3, 5]]]).double()
    iou = 2 / 14
    aspect = 4 / math.pi**2 * (math.atan(4 / 2) - math.atan(2 / 4)) ** 2
    expected = 2**2 / (4**2 + 5**2) + aspect / (1 - iou + aspect) * aspect
    ours, gt = boxes.flip(0) if first_is_gt else boxes
    found = _box_penalty(ours, gt, torch.tensor([iou]).double(), False)
    assert found.item() == pytest.approx(expected, rel=1e-5)
