"""Heads of pyramid detectors before training, and their maps and losses by their formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from centernet_d2.modeling.lsnet.class_head import CLASS_PRIOR, LevelClassHead
from centernet_d2.modeling.lsnet.corner_head import CORNERS_AND_CENTER, CornerHead, CornerMaps, CornerPooling
from centernet_d2.modeling.lsnet.landmark_head import LandmarkHead, LandmarkTargets
from centernet_d2.modeling.lsnet.levels import Levels, flatten_levels
from centernet_d2.modeling.lsnet.quarter_box_head import QuarterBoxHead
from centernet_d2.modeling.lsnet.towers import PyramidFusion, build_tower, conv_norm_relu
from centernet_d2.ops.lsnet.corner_heatmaps import semantic_focal_loss
from centernet_d2.ops.lsnet.cross_iou_loss import cross_iou_loss
from centernet_d2.ops.lsnet.pyramid_deform_conv import pyramid_deform_conv
from centernet_d2.structures import Targets


def apply_block(block: nn.Module, x: Tensor) -> Tensor:
    """Convolution, GroupNorm of eight channels each, ReLU; of a plain block."""
    layer, norm, _ = block
    y = F.conv2d(x, layer.weight, padding=layer.weight.shape[-1] // 2)
    return F.group_norm(y, max(x.shape[1] // 8, 1), norm.weight, norm.bias).clamp(min=0)


def draw_targets() -> tuple[Targets, Levels]:
    instances = [Instances((64, 96)), Instances((64, 96))]
    for one, boxes, classes in zip(
        instances, ([[4.0, 4, 36, 36], [30, 10, 60, 50]], [[16.0, 8, 80, 56]]), ([2, 0], [1]), strict=True
    ):
        one.gt_boxes, one.gt_classes = Boxes(torch.tensor(boxes)), torch.tensor(classes)
    return Targets.from_instances(instances, 1, (64, 96)), Levels.from_input_size((64, 96), (8, 16))


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_blocks_of_towers(kernel_size):
    torch.manual_seed(0)
    block = conv_norm_relu("plain", 32, 64, kernel_size)
    assert block[0].weight.shape == (64, 32, kernel_size, kernel_size) and block[0].bias is None
    assert block[0].weight.std().item() == pytest.approx(0.01, rel=0.1)
    x = torch.randn(2, 32, 5, 7)
    torch.testing.assert_close(block(x), apply_block(block, x))
    deformable = conv_norm_relu("deformable", 32, 64)
    assert deformable[0].weight.shape == (64, 32, 3, 3) and deformable[1].num_groups == 4
    assert deformable[0].weight.std().item() == pytest.approx(0.01, rel=0.1) and deformable[0].bias is not None
    assert deformable(x).shape == (2, 64, 5, 7) and deformable(x).min() == 0
    assert [type(one[0]).__name__ for one in build_tower(["plain", "deformable"], 32)] == [
        *("Conv2d", "ModulatedDeformConv2d")
    ]
    with pytest.raises(ValueError, match="not 'dense'"):
        conv_norm_relu("dense", 32, 64)


@pytest.mark.parametrize("corner", ["top_left", "bottom_right"])
def test_corner_pooling_by_its_formula(corner):
    torch.manual_seed(0)
    layer, x = CornerPooling(corner, 16), torch.randn(2, 16, 6, 5)
    for one in (layer.pooled, layer.shortcut):
        assert one.weight.std().item() == pytest.approx(0.01, rel=0.1) and one.bias is None
    inputs = [apply_block(block, x) for block in layer.inputs]
    assert [y.shape for y in inputs] == [(2, 64, 6, 5)] * 2
    total = torch.zeros(2, 64, 6, 5)
    for i in range(6):
        rows = slice(i, None) if corner == "top_left" else slice(0, i + 1)
        total[:, :, i] += inputs[0][:, :, rows].amax(dim=2)
    for j in range(5):
        columns = slice(j, None) if corner == "top_left" else slice(0, j + 1)
        total[..., j] += inputs[1][..., columns].amax(dim=3)
    pooled = F.group_norm(F.conv2d(total, layer.pooled.weight, padding=1), 2)
    shortcut = F.group_norm(F.conv2d(x, layer.shortcut.weight), 2)
    assert layer.output[0].weight.shape == (16, 16, 1, 1)
    torch.testing.assert_close(layer(x), apply_block(layer.output, (pooled + shortcut).clamp(min=0)))


def test_maps_of_corners():
    """The embedding is added before the pooling; scores and offsets are in the order of the points."""
    torch.manual_seed(0)
    head = CornerHead(num_classes=3, channels=16, points=CORNERS_AND_CENTER, shared="plain")
    maps = [torch.randn(2, 16, 6, 5), torch.randn(2, 16, 3, 3)]
    found = head(maps)
    for k, x in enumerate(maps):
        shared = apply_block(head.shared[0], x)
        embedding = apply_block(head.embedding, shared)
        torch.testing.assert_close(found.embedding[k], embedding)
        torch.testing.assert_close(found.semantic[k], head.semantic(shared))
        for p in range(3):
            pooled = head.pools[p](shared + embedding)
            torch.testing.assert_close(found.scores[k][:, p : p + 1], head.scores[p](pooled))
            torch.testing.assert_close(found.offsets[k][:, 2 * p : 2 * p + 2], head.offsets[p](pooled))
    assert head.semantic.weight.shape == (3, 16, 1, 1) and head.embedding[0].weight.shape == (16, 16, 1, 1)
    assert head.pools[2][0].weight.shape == (16, 16, 3, 3)
    assert [x.weight.shape for x in head.scores] == [(1, 16, 3, 3)] * 3
    assert [x.weight.shape for x in head.offsets] == [(2, 16, 3, 3)] * 3
    assert all(torch.equal(x.bias, torch.full_like(x.bias, CLASS_PRIOR)) for x in (head.semantic, *head.scores))
    assert not any(x.bias.any() for x in head.offsets)
    assert torch.tensor(CLASS_PRIOR).sigmoid().item() == pytest.approx(0.01)
    added, wide = found.add_to(maps), found.append_to(maps)
    for k in range(2):
        torch.testing.assert_close(added[k], maps[k] + found.embedding[k])
        torch.testing.assert_close(wide[k], torch.cat([maps[k], found.scores[k], found.offsets[k]], dim=1))
    alone = CornerHead(num_classes=3, channels=16, points=(), shared="plain")
    without = alone(maps)
    assert not without.scores and not without.offsets and len(without.semantic) == 2
    assert all(a is b for a, b in zip(without.append_to(maps), maps, strict=True))
    targets, levels = draw_targets()
    usable = torch.ones(2, 8 * 12 + 4 * 6, dtype=torch.bool)
    semantic = [torch.zeros(2, 3, 8, 12), torch.zeros(2, 3, 4, 6)]
    assert list(alone.losses(CornerMaps([], semantic, [], []), targets, levels, usable)) == ["loss_semantic"]
    assert alone.encode_dense(targets, levels, usable) == {}
    boxes = torch.rand(1, 4, 4)
    assert alone.move_boxes(boxes, torch.ones(1, 4).long(), {}, (8, 16)) is boxes


def test_the_semantic_loss_has_a_weight_of_a_tenth():
    """Of the cells of the finest level that boxes touch, 1 / area of the smallest of their class."""
    instances = [Instances((64, 96), gt_boxes=Boxes(torch.tensor([[3.0, 5, 4, 6], [4, 4, 6, 6], [30, 10, 33, 12]])))]
    instances += [Instances((64, 96), gt_boxes=Boxes(torch.tensor([[16.0, 8, 18, 10]])))]
    instances[0].gt_classes, instances[1].gt_classes = torch.tensor([2, 2, 0]), torch.tensor([1])
    targets, levels = Targets.from_instances(instances, 1, (64, 96)), Levels.from_input_size((64, 96), (8, 16))
    painted = torch.zeros(2, 3, 8, 12)
    painted[0, 2, 0, 0], painted[0, 0, 1, 3:5], painted[1, 1, 1, 2] = 1, 1 / 6, 1 / 4
    weights = flatten_levels([painted, painted[..., ::2, ::2]])
    generator = torch.Generator().manual_seed(0)
    semantic = [torch.randn(2, 3, *size, generator=generator) for size in ((8, 12), (4, 6))]
    head = CornerHead(num_classes=3, channels=16, points=(), shared="plain")
    loss = head.losses(CornerMaps([], semantic, [], []), targets, levels, torch.ones(2, 120, dtype=torch.bool))
    expected = 0.1 * semantic_focal_loss(flatten_levels(semantic), weights)
    torch.testing.assert_close(loss["loss_semantic"], expected)


def test_large_objects_count_as_much_as_small_ones():
    """All weights together are 0.09 here: the loss of the cells inside is still their weighted mean."""
    targets, levels = draw_targets()
    head = CornerHead(num_classes=3, channels=16, points=(), shared="plain")
    semantic = [torch.full((2, 3, *size), -3.0) for size in ((8, 12), (4, 6))]
    painted = torch.zeros(2, 3, 8, 12)
    painted[0, 2, 0:5, 0:5], painted[0, 0, 1:7, 3:8], painted[1, 1, 1:8, 2:11] = 1 / 1024, 1 / 1200, 1 / 3072
    weights = flatten_levels([painted, painted[..., ::2, ::2]])
    p = torch.tensor(-3.0).sigmoid()
    inside = 0.25 * (1 - p) ** 2 * -p.log()
    outside = 0.75 * p**2 * -(1 - p).log() * (weights == 0).sum() / (weights > 0).sum()
    loss = head.losses(CornerMaps([], semantic, [], []), targets, levels, torch.ones(2, 120, dtype=torch.bool))
    assert weights.sum() < 0.2
    torch.testing.assert_close(loss["loss_semantic"], 0.1 * (inside + outside))


def test_corner_maps_of_a_perfect_network():
    """Probability 1 at the nearest cell of each level, to a millionth, and the way to the corner in strides."""
    targets, levels = draw_targets()
    head = CornerHead(num_classes=3, channels=16, points=CORNERS_AND_CENTER, shared="plain")
    maps = head.encode_dense(targets, levels, torch.ones(2, 120, dtype=torch.bool))
    for index, (x, y) in enumerate([(16.0, 8.0), (80.0, 56.0), (48.0, 32.0)]):
        for level, stride in enumerate((8, 16)):
            score, offset = maps["corner_scores"][level][1, index], maps["corner_offsets"][level][1]
            row, column = divmod(int(score.argmax()), score.shape[1])
            assert score.sigmoid().max().item() == pytest.approx(1 - 1e-6, abs=1e-7)
            assert score.min().sigmoid().item() == pytest.approx(1e-6, rel=1e-3)
            way = offset[2 * index : 2 * index + 2, row, column]
            assert [column * stride + stride * way[0], row * stride + stride * way[1]] == pytest.approx([x, y])
    outputs = {f"{name}_{level}": x for name, two in maps.items() for level, x in enumerate(two)}
    boxes = torch.tensor([[[19.0, 5, 46, 30], [19, 5, 46, 30]]] * 2)
    moved = head.move_boxes(boxes, torch.tensor([[1, 0]] * 2), outputs, (8, 16), ("top_left", "center"))
    # Of level 1 to the corner and the center of level 0; of level 0 it stays.
    torch.testing.assert_close(moved[1], torch.tensor([[16.0, 8, 48, 32], [19, 5, 46, 30]]))
    assert head.move_boxes(boxes, torch.ones(2, 2).long(), outputs, (8, 16))[1, 0, 2:].tolist() != [46, 30]
    assert head.threshold == 0 and head.points == CORNERS_AND_CENTER


@pytest.mark.parametrize("deformable", [True, False])
def test_quarter_boxes_before_training(deformable):
    torch.manual_seed(0)
    head = QuarterBoxHead(num_classes=3, channels=16, tower=["plain"], extra_channels=4, deformable=deformable)
    first, relu, second = head.init
    assert first.weight.shape == (16, 16, 3, 3) and isinstance(relu, nn.ReLU) and second.weight.shape == (18, 16, 1, 1)
    for layer in (head.class_conv, head.box_conv):
        assert layer.weight.shape == (16, 20, 3, 3) and layer.weight.std().item() == pytest.approx(0.01, rel=0.1)
        assert layer.bias is None if deformable else not layer.bias.any()
    assert head.logits.weight.shape == (3, 16, 1, 1) and head.refine.weight.shape == (18, 16, 1, 1)
    assert torch.equal(head.logits.bias, torch.full((3,), CLASS_PRIOR)) and not head.refine.bias.any()
    plain = QuarterBoxHead(num_classes=3, channels=16, tower=["plain"])
    assert plain.deformable and plain.class_conv.weight.shape == (16, 16, 3, 3)
    assert not torch.equal(head.class_tower[0][0].weight, head.box_tower[0][0].weight)


def test_maps_of_plain_quarter_boxes_by_their_formula():
    torch.manual_seed(0)
    head = QuarterBoxHead(num_classes=3, channels=16, tower=["plain"], extra_channels=4, deformable=False)
    class_map, box_map, first = torch.randn(2, 20, 6, 4), torch.randn(2, 20, 6, 4), torch.randn(2, 18, 6, 4)
    (logits,), (points,) = head.predict_refined([class_map], [box_map], [first])
    torch.testing.assert_close(logits, head.logits(head.class_conv(class_map).clamp(min=0)))
    torch.testing.assert_close(points, head.refine(head.box_conv(box_map).clamp(min=0)))


def test_maps_of_deformable_quarter_boxes_at_plain_points():
    """Where the nine points are those of a 3x3 kernel, the convolution is a plain one."""
    torch.manual_seed(0)
    head = QuarterBoxHead(num_classes=3, channels=16, tower=["plain"])
    class_map, box_map = torch.randn(2, 16, 6, 4), torch.randn(2, 16, 6, 4)
    taps = torch.tensor([[k // 3 - 1, k % 3 - 1] for k in range(9)]).flatten().float()
    first = taps.view(1, 18, 1, 1).expand(2, 18, 6, 4).clone().requires_grad_()
    (logits,), (points,) = head.predict_refined([class_map], [box_map], [first])
    for found, layer, own, x in (
        (logits, head.logits, head.class_conv, class_map),
        (points, head.refine, head.box_conv, box_map),
    ):
        torch.testing.assert_close(found, layer(F.conv2d(x, own.weight, padding=1).clamp(min=0)), rtol=1e-4, atol=1e-5)


def test_landmarks_before_training():
    """Vectors of all landmarks and the center; free kernel points beside those that are given."""
    torch.manual_seed(0)
    options = {
        "num_landmarks": 4,
        "kernel_landmarks": [4, 0, 2],
        "loss_type": "bbox",
        "channels": 16,
        "tower": ["plain"],
    }
    head = LandmarkHead(extra_channels=3, **options)
    first, relu, second = head.init
    assert first.weight.shape == (16, 16, 3, 3) and isinstance(relu, nn.ReLU)
    assert second.weight.shape == (4 * 5 + 2 * 6, 16, 1, 1) and head.refine.weight.shape == (20, 16, 1, 1)
    assert head.fusion.weight.shape == (16, 19, 3, 3) and not head.fusion.cumulative_offsets
    assert (head.init_weight, head.refine_weight, head.alpha) == (1, 2, 0.2)
    assert LandmarkHead(**options).fusion.weight.shape == (16, 16, 3, 3)
    fusion = PyramidFusion(32, 64)
    # kaiming_normal_ by the fan out: sqrt(2 / (9 * 64)).
    assert fusion.weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.05)
    assert fusion.reduce.weight.shape == (64, 192, 1, 1) and fusion.shortcut.weight.shape == (64, 32, 3, 3)
    assert fusion.norm.num_groups == 8 and fusion.cumulative_offsets is False
    classes = LevelClassHead(num_classes=5, channels=16, tower=["plain", "plain"], extra_channels=3)
    assert classes.fusion.weight.shape == (16, 19, 3, 3) and len(classes.tower) == 2
    assert classes.logits.weight.shape == (5, 16, 1, 1)
    assert torch.equal(classes.logits.bias, torch.full((5,), CLASS_PRIOR))
    assert LevelClassHead(num_classes=5, channels=16, tower=[]).fusion.weight.shape == (16, 16, 3, 3)


def test_fusion_reads_its_neighbors_at_plain_points():
    """Maps of one size at the points of a 3x3 kernel: plain convolutions of each level and its two neighbors."""
    torch.manual_seed(0)
    fusion, maps = PyramidFusion(4, 16), [torch.randn(2, 4, 6, 5) for _ in range(4)]
    taps = torch.tensor([[k // 3 - 1, k % 3 - 1] for k in range(9)]).float()
    points = taps.view(1, 9, 2, 1, 1).expand(2, 9, 2, 6, 5)
    read = [F.conv2d(x, fusion.weight, padding=1) for x in maps]
    for k, others in enumerate([(0, 1, 2), (1, 0, 2), (2, 1, 3), (3, 2, 1)]):
        together = torch.cat([read[j] for j in others], dim=1)
        x = fusion.reduce(together).clamp(min=0) + fusion.shortcut(maps[k])
        expected = F.group_norm(x, 2).clamp(min=0)
        torch.testing.assert_close(fusion(maps, [points] * 4)[k], expected, rtol=1e-3, atol=1e-4)


def test_cumulative_offsets_are_scaled_by_all_levels_read_before():
    """Of level 0 the neighbors are itself, 1 and 2; of level 1 itself, 0 and 2."""
    torch.manual_seed(0)
    fusion, sizes = PyramidFusion(4, 16, cumulative_offsets=True), [(12, 20), (6, 10), (2, 5)]
    maps = [torch.randn(1, 4, *size) for size in sizes]
    scales = [[(1, 1), (1 / 2, 1 / 2), (1 / 12, 1 / 8)], [(1, 1), (2, 2), (2 / 3, 1)]]
    for level, others in enumerate([(0, 1, 2), (1, 0, 2)]):
        points = torch.randn(1, 9, 2, *sizes[level])
        read = fusion._read(maps, level, points)
        for k, other in enumerate(others):
            expected = pyramid_deform_conv(maps[other], points, fusion.weight, scales[level][k])
            torch.testing.assert_close(read[k], expected)


@pytest.mark.parametrize("kind", ["bbox", "polygon", "keypoint"])
def test_the_loss_of_landmarks_row_by_row(kind):
    """In units of four strides, from the anchor point; only rows that count."""
    generator = torch.Generator().manual_seed(0)
    head = LandmarkHead(num_landmarks=4, kernel_landmarks=[4], loss_type=kind, channels=16, tower=[])
    strides, points = torch.tensor([8.0, 16, 8]), torch.tensor([[8.0, 24], [32, 16], [40, 40]])
    landmarks = 64 * torch.rand(3, 5, 2, generator=generator)
    boxes = torch.tensor([[4.0, 2, 40, 60], [10, 10, 50, 40], [0, 0, 64, 64]])
    visible, vectors = torch.ones(3, 5), 3 * torch.rand(3, 20, generator=generator)
    visible[0, 2] = 0
    found = head.loss(vectors, points, strides, LandmarkTargets(landmarks, visible, boxes), torch.tensor([1, 1, 0]) > 0)
    total = torch.zeros(())
    for i in range(2):
        unit = 4 * strides[i]
        box = (boxes[i] - torch.cat([points[i], points[i]])) / unit
        away = (landmarks[i] - points[i]) / unit
        total += cross_iou_loss(vectors[i : i + 1] / 4, away[None], kind, box[None], visible[i : i + 1], 0.2)[0]
    torch.testing.assert_close(found, total)
    up, down, left, right = vectors.unflatten(1, (5, 4)).unbind(2)
    way = torch.stack([torch.where(right > left, right, -left), torch.where(down > up, down, -up)], dim=-1)
    decoded = head.decode(vectors, points, strides)
    torch.testing.assert_close(decoded, points[:, None] + strides[:, None, None] * way)
    (x, y), own = decoded[0, :4].unbind(1), decoded[0]
    around = [x.min(), y.min(), x.max(), y.max()]
    wanted = [own[1, 0], own[0, 1], own[3, 0], own[2, 1]] if kind == "bbox" else around
    assert head.select_box_landmarks(decoded)[0].tolist() == pytest.approx([float(value) for value in wanted])
