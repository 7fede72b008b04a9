"""The grid-point task: boxes rendered and decoded again, flips, merges, and the loss of a perfect network."""

from __future__ import annotations

import pytest
import torch
from detectron2.structures import Boxes, Instances
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_iou

from centernet_d2.modeling.heads import BoxHead, BoxSizeHead, ClassHeatmapHead, PointOffsetHead
from centernet_d2.modeling.tasks import DetectionTask
from centernet_d2.ops import grid_coding as grid
from centernet_d2.ops.box_losses import BOX_LOSSES
from centernet_d2.ops.indexing import gather_cells
from centernet_d2.structures import Targets

STRIDE, ALL = 4, tuple(range(9))


def make_task(flags, num_classes=3, encoding="wh", merge="resample", candidates=100, box=None, **heatmap):
    """``box``: arguments of BoxHead, in place of BoxSizeHead."""
    shared = {"point_flags": flags, "in_channels": [4], "head_channels": 4, "loss_weight": 1.0}
    heads = {
        "heatmap": ClassHeatmapHead(num_classes=num_classes, **shared, **heatmap),
        "box_size": BoxSizeHead(encoding=encoding, **shared) if box is None else BoxHead(**box, **shared),
    }
    if heads["box_size"].needs_offset:
        heads["offset"] = PointOffsetHead(**shared)
    return DetectionTask(heads=heads, merge=merge, candidates_per_point=candidates)


def make_objects(boxes, classes, image_index=None, grid_size=(64, 64)):
    """``boxes`` in input pixels, one list entry per image where ``image_index`` is given."""
    boxes, classes = torch.as_tensor(boxes).float().view(-1, 4), torch.as_tensor(classes).view(-1)
    index = torch.zeros_like(classes) if image_index is None else torch.as_tensor(image_index)
    instances = []
    for n in range(int(index.max()) + 1 if len(index) else 1):
        x = Instances((grid_size[0] * STRIDE, grid_size[1] * STRIDE))
        x.gt_boxes, x.gt_classes = Boxes(boxes[index == n]), classes[index == n]
        instances.append(x)
    return Targets.from_instances(instances, STRIDE, grid_size)


def decode(task, objects, limit=100):
    predictions = task.decode(task.encode_dense(objects))
    ones = torch.ones(objects.num_images, 2)
    return task.merge(predictions.transform(ones * STRIDE, ones * 0), limit)


def worst_error(predictions, boxes, classes, n=0):
    """Largest distance, in input pixels, of a true box from the nearest found box of its class."""
    worst = 0.0
    for box, category in zip(boxes, classes, strict=True):
        same = predictions.boxes[n][(predictions.classes[n] == category) & (predictions.scores[n] > 0.1)]
        worst = max(worst, (same - box).abs().amax(dim=1).min().item() if len(same) else torch.inf)
    return worst


def alone(boxes, flags, grid_size):
    """Objects none of whose points lies in a cell that holds the same point of another object."""
    cells = gather_cells(grid.compute_grid_points(boxes / STRIDE, flags), grid_size)
    shared = (cells[:, None] == cells[None]).all(dim=-1) & ~torch.eye(len(boxes), dtype=torch.bool)[..., None]
    return ~shared.any(dim=(1, 2))


# One pixel to the whole image, borders included.
SIZES = torch.tensor(
    [
        [0, 0, 256, 256],
        [3, 5, 4, 6],
        [100, 20, 140, 90],
        [0, 200, 30, 256],
        [250, 100, 256, 101.5],
        [0, 0, 1, 1],
        [60.3, 61.7, 99.9, 62.9],
    ]
)


def assert_comes_back(task):
    """Boxes of all SIZES, of a class each, and nothing else."""
    classes = torch.arange(len(SIZES))
    predictions = decode(task, make_objects(SIZES, classes))
    assert worst_error(predictions, SIZES, classes) < 1e-3
    assert (predictions.scores > 0.5).sum() == len(SIZES)


@pytest.mark.parametrize("merge", ["soft_nms", "vote", "resample"])
@pytest.mark.parametrize("encoding", ["wh", "lt", "ltrb", "log_wh"])
@pytest.mark.parametrize("flags", [(4,), (0, 4, 8), ALL])
@pytest.mark.parametrize("elliptical", [False, True])
def test_round_trip_of_many_sizes(flags, encoding, merge, elliptical):
    assert_comes_back(make_task(flags, 7, encoding, merge, elliptical=elliptical))


ENCODINGS = ("wh", "lt", "ltrb", "log_wh")
BOXES = [{"encoding": "wh"}, {"encoding": "lt"}, *({"sampling": x} for x in ("peak", "square", "gaussian"))]
VOTING = {"sampling": "gaussian", "voting": True}


@pytest.mark.parametrize("method", ["cornernet", "corrected", "ellipse", "fixed", "box"])
@pytest.mark.parametrize("box", [None, *BOXES, VOTING])
@pytest.mark.parametrize("flags", [(4,), ALL])
def test_round_trip_of_every_target(flags, box, method):
    assert_comes_back(make_task(flags, 7, merge="vote", box=box, radius_method=method))


@settings(max_examples=1000, deadline=None)
@given(
    seed=st.integers(0, 2**31), count=st.integers(1, 40), flags=st.sets(st.integers(0, 8), min_size=1),
    method=st.sampled_from(["cornernet", "corrected", "ellipse", "box"]), box=st.sampled_from([None, *BOXES, VOTING]),
    size=st.sampled_from([(64, 64), (32, 96), (48, 40)]),
)  # fmt: skip
def test_round_trip_of_random_scenes(seed, count, flags, method, box, size):
    """Crowded scenes of any grid shape: whatever has its cells to itself comes back, from every point."""
    generator = torch.Generator().manual_seed(seed)
    extent = torch.tensor([size[1], size[0]]) * STRIDE
    side = 1 + torch.rand(count, 2, generator=generator) ** 3 * 150
    low = torch.rand(count, 2, generator=generator) * (extent - side).clamp(min=0)
    boxes = torch.cat([low, torch.minimum(low + side, extent)], dim=1)
    classes = torch.randint(0, 3, (count,), generator=generator)
    objects = make_objects(boxes, classes, grid_size=size)
    task = make_task(sorted(flags), merge="soft_nms", box=box, radius_method=method)
    predictions = task.decode(task.encode_dense(objects)).transform(torch.full((1, 2), 4.0), torch.zeros(1, 2))
    apart = alone(boxes, task.point_flags, size)
    for point in range(len(task.point_flags)):
        own = predictions.source == point
        one = predictions.__class__(
            predictions.boxes[:, own], predictions.scores[:, own], predictions.classes[:, own], predictions.source[own]
        )
        assert worst_error(one, boxes[apart], classes[apart]) < 1e-3


def test_objects_in_one_cell_lose_all_but_the_smallest():
    """Three boxes of a class with one center: one comes back; with nine points the two that lie apart do too."""
    boxes = torch.tensor([[80.0, 80, 120, 120], [60, 60, 140, 140], [98, 98, 102, 102]])
    classes = torch.zeros(3, dtype=torch.long)
    center = decode(make_task((4,)), make_objects(boxes, classes))
    assert (center.scores[0] > 0.1).sum() == 1
    assert worst_error(center, boxes[2:], classes[2:]) < 1e-3
    predictions = make_task(ALL, merge="soft_nms").decode(make_task(ALL).encode_dense(make_objects(boxes, classes)))
    predictions = predictions.transform(torch.full((1, 2), 4.0), torch.zeros(1, 2))
    assert worst_error(predictions, boxes, classes) < 1e-3


@pytest.mark.parametrize("flags", [(4,), ALL])
@pytest.mark.parametrize("box", BOXES[2:])
def test_every_cell_says_the_box(flags, box):
    """Also cells far from the center: what the perfect network says there is the whole box of the cell's object."""
    head = make_task(flags, 7, box=box).heads["box_size"]
    objects = make_objects(SIZES, torch.arange(7))
    target, output = head.encode(objects), head.encode_dense(objects)
    predictions = head.decode_boxes(output, target.image_index, target.cells, target.points)[target.weight > 0]
    torch.testing.assert_close(predictions, target.boxes[target.weight > 0], atol=1e-4, rtol=0)
    of_the_largest = (target.boxes[:, 4 % len(flags)] == SIZES[0] / STRIDE).all(dim=1).sum()
    assert of_the_largest == {"peak": 1, "square": 9, "gaussian": 35 * 35}[box["sampling"]]  # int(64 / 2 * 0.54) = 17


@pytest.mark.parametrize("kind", BOX_LOSSES)
@pytest.mark.parametrize("box", BOXES)
def test_boxes_are_found_by_descent(kind, box):
    """From the start value of the outputs, each loss leads to the boxes; of a perfect network it is 0."""
    boxes, classes = torch.tensor([[8.0, 12, 60, 40], [70, 40, 90, 110], [30.5, 60, 33, 63]]), torch.tensor([0, 1, 2])
    task, objects = make_task((4,), box={**box, "box_loss": kind}), make_objects(boxes, classes, grid_size=(32, 32))
    head, maps = task.heads["box_size"], task.encode_dense(objects)
    target = head.encode(objects)
    assert head.loss(maps["box_size"], target, objects.num_objects) < 1e-5
    output = torch.full_like(maps["box_size"], 0.5).requires_grad_()
    optimizer = torch.optim.Adam([output], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)
    for _ in range(200):
        optimizer.zero_grad()
        head.loss(output, target, objects.num_objects).backward()
        optimizer.step()
        schedule.step()
    maps["box_size"] = output.detach()
    predictions = task.decode(maps).transform(torch.full((1, 2), 4.0), torch.zeros(1, 2))
    assert worst_error(predictions, boxes, classes) < 0.5


@pytest.mark.parametrize(("encoding", "box"), [*((x, None) for x in ENCODINGS), *(("", x) for x in BOXES)])
def test_merging_a_perfect_flip_changes_nothing(encoding, box):
    """Maps of a flipped scene, flipped back, are the maps of the scene."""
    generator = torch.Generator().manual_seed(3)
    low = torch.rand(6, 2, generator=generator) * 150
    boxes = torch.cat([low, low + 20 + torch.rand(6, 2, generator=generator) * 60], dim=1)
    classes = torch.arange(6) % 3
    flipped = boxes[:, [2, 1, 0, 3]] * torch.tensor([-1.0, 1, -1, 1]) + torch.tensor([256.0, 0, 256, 0])
    task = make_task(ALL, encoding=encoding, box=box)
    maps, flip_pairs = (task.encode_dense(make_objects(b, classes)) for b in (boxes, flipped))
    merged = task.merge_flipped(maps, flip_pairs)
    merged["heatmap"], maps["heatmap"] = merged["heatmap"].sigmoid(), maps["heatmap"].sigmoid()
    for name in maps:
        torch.testing.assert_close(merged[name], maps[name], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("flags", "closed"), [((4,), True), ((0, 4, 8), False), ((1, 4, 7), True), (ALL, True), ((0, 2), True)]
)
def test_flipped_closed_sets(flags, closed):
    assert make_task(flags).flip_closed is closed


def test_perfect_maps_have_almost_no_loss():
    objects = make_objects([[10, 10, 50, 60], [100, 100, 190, 140]], [0, 2])
    task = make_task(ALL)
    targets = task.encode(objects)
    maps = task.encode_dense(objects)
    for name, head in task.heads.items():
        perfect = head.loss(maps[name], targets[name], objects.num_objects)
        wrong = head.loss(maps[name].roll(1, -1), targets[name], objects.num_objects)
        assert perfect < 0.2
        assert wrong > 5 * perfect


def test_every_channel_is_trained():
    """All points' regressions have the same weight (the reference trains some twice and some never)."""
    task = make_task((0, 4, 8))
    objects = make_objects([[10, 10, 50, 60]], [0])
    head = task.heads["box_size"]
    output = torch.full((1, 6, 64, 64), -5.0, requires_grad=True)
    head.loss(output, head.encode(objects), objects.num_objects).backward()
    torch.testing.assert_close(output.grad.abs().sum(dim=(0, 2, 3)), torch.full((6,), 1 / 6))


def test_votes_outrank_a_lonely_peak():
    """A peak that one point sees counts a ninth of one that all see."""
    objects = make_objects([[40, 40, 120, 120]], [0])
    for merge in ("vote", "resample"):
        task = make_task(ALL, merge=merge)
        maps = task.encode_dense(objects)
        maps["heatmap"][0, 9 + 4, 10, 50] = 16.0  # class 1, center point
        maps["box_size"][0, :, 10, 50] = 12.0
        predictions = task.merge(task.decode(maps), 100)
        best = [predictions.scores[0][predictions.classes[0] == c].max().item() for c in (0, 1)]
        assert best == pytest.approx([1, 1 / 9], abs=0.02)


@pytest.mark.parametrize("merge", ["soft_nms", "vote", "resample"])
def test_merged_duplicates_are_one_object(merge):
    objects = make_objects([[40, 40, 120, 120]], [0])
    predictions = decode(make_task(ALL, merge=merge), objects)
    overlap = box_iou(predictions.boxes[0, :1], predictions.boxes[0])[0]
    assert overlap[0] == 1
    assert (predictions.scores[0][1:] < 0.14).all()  # exp(-1 / sigma): what soft-NMS leaves of an exact copy


@pytest.mark.parametrize("box", [None, *({**BOXES[-1], "box_loss": kind} for kind in BOX_LOSSES)])
@pytest.mark.parametrize("count", [0, 1, 1000])
def test_numbers_of_objects(count, box):
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(count, 2, generator=generator) * 200
    objects = make_objects(torch.cat([low, low + 30], dim=1), torch.zeros(count, dtype=torch.long))
    task = make_task(ALL, box=box)
    features = [torch.randn(1, 4, 64, 64)]
    losses = task.losses(features, task.encode(objects), objects.num_objects.clamp(min=1))
    sum(losses.values()).backward()
    assert all(torch.isfinite(x) for x in losses.values())
    assert all(torch.isfinite(p.grad).all() for p in task.parameters())


@pytest.mark.parametrize("heatmap_loss", ["focal", "quality"])
def test_losses_are_in_float32_under_autocast(heatmap_loss):
    """Nearly the losses of float32, though the maps come in bfloat16."""
    objects = make_objects([[10, 10, 50, 60], [100, 100, 190, 140]], [0, 2])
    task = make_task((4,), box=BOXES[-1], heatmap_loss=heatmap_loss)
    features, targets = [torch.randn(1, 4, 64, 64)], task.encode(objects)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = task.losses(features, targets, objects.num_objects)
    for name, exact in task.losses(features, targets, objects.num_objects).items():
        assert mixed[name].dtype == torch.float32
        torch.testing.assert_close(mixed[name], exact, rtol=0.02, atol=0)


def test_unknown_settings_are_named():
    with pytest.raises(ValueError, match="MERGE"):
        make_task((4,), merge="average")
    with pytest.raises(ValueError, match="BOX_ENCODING"):
        make_task((4,), encoding="xyxy")
    with pytest.raises(ValueError, match="GAUSSIAN_RADIUS"):
        make_task((4,), radius_method="round")
    with pytest.raises(ValueError, match="GAUSSIAN_ELLIPTICAL"):
        make_task((4,), radius_method="box", elliptical=True)
    with pytest.raises(ValueError, match="HEATMAP_LOSS"):
        make_task((4,), heatmap_loss="squared")
    with pytest.raises(ValueError, match="BOX_LOSS"):
        make_task((4,), box={"box_loss": "area"})
    with pytest.raises(ValueError, match="is of BoxSizeHead"):
        make_task((4,), box={"encoding": "log_wh"})
    with pytest.raises(ValueError, match="BOX_SAMPLING"):
        make_task((4,), box={"sampling": "all"})
    with pytest.raises(ValueError, match="needs 'ltrb'"):
        make_task((4,), box={"encoding": "wh", "sampling": "square"})
    with pytest.raises(ValueError, match="BOX_VOTING"):
        make_task((4,), box={"sampling": "square", "voting": True})
