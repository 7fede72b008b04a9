"""Each defect of the reference changes the loss or the targets in the direction that its description says."""

from __future__ import annotations

import pytest
import torch
from detectron2.structures import Boxes, Instances

from centernet_d2.modeling.lsnet import towers
from centernet_d2.modeling.lsnet.landmark_head import LandmarkHead, LandmarkTargets, choose_joints
from centernet_d2.modeling.lsnet.levels import Levels
from centernet_d2.modeling.lsnet.reference import DEFECTS, check_defects
from centernet_d2.modeling.lsnet.towers import PyramidFusion
from centernet_d2.modeling.tasks import pyramid_base
from centernet_d2.modeling.tasks.centernet_plus_plus import CenterNetPlusPlusTask
from centernet_d2.modeling.tasks.pyramid_base import PyramidSettings, PyramidTask
from centernet_d2.ops.lsnet.landmark_vectors import encode_vectors
from centernet_d2.structures import Candidates, Targets
from centernet_d2.structures.keypoint_schema import get_schema
from tests.helpers.pyramid import pyramid_cfg

SIZE = (64, 96)


class EmptyTask(PyramidTask):
    """A pyramid without heads."""

    def __init__(self, *defects: str) -> None:
        super().__init__({}, PyramidSettings(defects=frozenset(defects)))
        self.bind_strides((8, 16, 32))

    def decode(self, outputs: dict[str, torch.Tensor]) -> Candidates:
        raise NotImplementedError


def crowded_targets() -> tuple[Targets, torch.Tensor]:
    """One image with an object and a crowd, and another with an object alone; all cells usable."""
    rows = []
    for ignored in ([False, True], [False]):
        instances = Instances(SIZE)
        boxes = torch.tensor([[4.0, 4, 36, 36], [30, 10, 70, 50]])[: len(ignored)]
        instances.gt_boxes, instances.gt_classes = Boxes(boxes), torch.zeros(len(ignored), dtype=torch.int64)
        instances.gt_ignored = torch.tensor(ignored)
        rows.append(instances)
    targets = Targets.from_instances(rows, 1, SIZE)
    levels = Levels.from_input_size(SIZE, (8, 16, 32))
    return targets, levels.get_points(torch.device("cpu"))


@pytest.mark.parametrize("defect", [False, True])
def test_cells_in_crowds_have_no_class_loss(defect):
    targets, points = crowded_targets()
    assert len(targets) == 2 and len(targets.ignored) == 1
    task = EmptyTask(*["crowd_as_background"] * defect)
    usable = torch.ones(2, len(points), dtype=torch.bool)
    usable[:, -1] = False
    inside = ((points >= torch.tensor([30.0, 10])) & (points <= torch.tensor([70.0, 50]))).all(dim=1)
    assigned = torch.full(usable.shape, -1)
    # One positive cell inside the crowd and one outside.
    positive = int(inside.nonzero()[0])
    assigned[0, positive] = assigned[0, 0] = 0
    counted = task.count_cells(targets, usable, assigned, points)
    assert not counted[:, -1].any()
    assert counted[0, positive] and counted[0, 0] and torch.equal(counted[1], usable[1])
    negatives = inside.clone()
    negatives[positive] = False
    assert negatives.sum() > 10
    assert torch.equal(counted[0], usable[0] if defect else usable[0] & ~negatives)


def draw_row(box, points, visible=None):
    """Targets of one cell whose anchor point is (0, 0)."""
    points = torch.tensor([points])
    visible = torch.ones(points.shape[:2]) if visible is None else torch.tensor([visible])
    return LandmarkTargets(points, visible, torch.tensor([box]))


def measure_loss(loss_type, vectors, targets, *defects):
    """The loss of one cell of stride 4, and its gradient."""
    head = LandmarkHead(
        num_landmarks=targets.landmarks.shape[1] - 1,
        kernel_landmarks=range(2),
        loss_type=loss_type,
        channels=32,
        tower=[],
        defects=frozenset(defects),
    )
    vectors = vectors.clone().requires_grad_()
    loss = head.loss(vectors, torch.zeros(1, 2), torch.full((1,), 4.0), targets, torch.tensor([True]))
    loss.backward()
    return loss.detach(), vectors.grad


EXTREMES = draw_row([-8.0, -8, 8, 8], [[2.0, -8], [-8, 1], [1, 8], [8, 2], [0, 0]])


def compare_box_penalty():
    """A perfect prediction has no number with the defect; of a wrong one, the loss is the same but not the gradient."""
    perfect = encode_vectors(EXTREMES.landmarks / 4)
    loss, gradient = measure_loss("bbox", perfect, EXTREMES)
    assert loss.abs() < 1e-5 and gradient.isfinite().all()
    assert measure_loss("bbox", perfect, EXTREMES, "box_penalty")[0].isnan()
    wrong = perfect * torch.linspace(0.5, 1.5, 20)
    ours, theirs = (measure_loss("bbox", wrong, EXTREMES, *names) for names in ((), ("box_penalty",)))
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-3, atol=1e-5)
    assert not torch.allclose(ours[1], theirs[1], rtol=1e-3)


def compare_invisible_joints():
    """A perfect pose of which one joint of three has no label: 2 of 8 coordinates are a constant."""
    pose = draw_row([-8.0, -8, 8, 8], [[3.0, -8], [-8, 5], [4, 8], [1, 1]], [1.0, 0, 1, 1])
    perfect = encode_vectors(pose.landmarks / 4)
    assert measure_loss("keypoint", perfect, pose)[0].abs() < 1e-5
    loss, _ = measure_loss("keypoint", perfect, pose, "invisible_joints")
    assert float(loss) == pytest.approx(2 / 8, abs=1e-5)


def compare_left_joints():
    """Joints of COCO with odd numbers are those of the left side; ours are as many of each side."""
    pairs = get_schema("pose17").flip_pairs
    other = dict(pairs) | {b: a for a, b in pairs}
    theirs, ours = choose_joints(17, pairs, left_only=True), choose_joints(17, pairs)
    assert theirs == [1, 3, 5, 7, 9, 11, 13, 15, 17]
    assert len(ours) == 9 and {other.get(k, k) for k in ours} == set(ours)


def compare_cumulative_offsets():
    """At level 1, maps of levels 1, 0 and 2 are read at 1, 2 and 1/2 times the offsets; the reference's last is 1."""
    maps = [torch.zeros(1, 32, 16, 16), torch.zeros(1, 32, 8, 8), torch.zeros(1, 32, 4, 4)]
    points = [torch.zeros(1, 9, 2, size, size) for size in (16, 8, 4)]
    scales = {}
    for defect in (False, True):
        fusion = PyramidFusion(32, 32, cumulative_offsets=defect)
        seen = scales[defect] = []

        def record(features, points, weight, scale=None, seen=seen):
            ratio = features.shape[-1] / points.shape[-1]
            seen.append(ratio if scale is None else scale[1])
            return torch.zeros(1, 32, *points.shape[-2:])

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(towers, "pyramid_deform_conv", record)
            fusion(maps, points)
    assert scales[False] == [1, 1 / 2, 1 / 4, 1, 2, 1 / 2, 1, 2, 4]
    assert scales[True] == [1, 1 / 2, 1 / 8, 1, 2, 1, 1, 2, 8]


def compare_zero_iou_positives():
    """Proposals inside the object but without an area: no positive, and with the defect all of them."""
    levels = Levels.from_input_size(SIZE, (8, 16, 32))
    points = levels.get_points(torch.device("cpu"))
    proposals, boxes = points.repeat(1, 2)[None], torch.tensor([[[4.0, 4, 60, 60]]])
    arguments = (
        proposals,
        levels,
        boxes,
        torch.ones(1, 1, dtype=torch.bool),
        torch.ones(1, len(points), dtype=torch.bool),
    )
    assert (EmptyTask().assign_refine(*arguments) < 0).all()
    assert (EmptyTask("zero_iou_positives").assign_refine(*arguments) >= 0).sum() > 9


def compare_giou_plus_one():
    """Quarter boxes apart have an overlap with the defect: the loss is lower, and depends on the scale."""
    losses = {}
    for defects in ([], ["giou_plus_one"]):
        task = CenterNetPlusPlusTask(pyramid_cfg("centernet_rt", "MODEL.LSNET.REFERENCE_DEFECTS", defects), [32])
        boxes, assigned = torch.tensor([[[0.0, 0, 8, 8]]]), torch.tensor([[0]])
        for scale in (1.0, 2.0):
            apart = torch.tensor([[[12.0, 0, 20, 8]]])
            strides = torch.tensor([4.0])
            loss = task._box_loss(scale * apart, assigned, 1, scale * boxes, strides)
            losses[bool(defects), scale] = float(loss)
    # GIoU of two squares of side 8 that are 4 apart: 0 - 32 / 160.
    assert [losses[False, scale] for scale in (1.0, 2.0)] == pytest.approx([1.2, 1.2])
    assert losses[True, 1.0] < 1.2 and losses[True, 1.0] < losses[True, 2.0]


def compare_local_normalizers():
    """Of two processes, this one with 4 positive cells and the other with none: ours divides by their mean."""
    assigned = torch.tensor([[0, 1, 2, 3, -1]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyramid_base, "average_over_processes", lambda count: (count + 1) / 2)
        assert EmptyTask().normalizer(assigned) == 2.5
        assert EmptyTask("local_normalizers").normalizer(assigned) == 4


def compare_crowd_as_background():
    test_cells_in_crowds_have_no_class_loss(False)
    test_cells_in_crowds_have_no_class_loss(True)


COMPARISONS = {
    "cumulative_offsets": compare_cumulative_offsets,
    "box_penalty": compare_box_penalty,
    "invisible_joints": compare_invisible_joints,
    "left_joints": compare_left_joints,
    "crowd_as_background": compare_crowd_as_background,
    "zero_iou_positives": compare_zero_iou_positives,
    "giou_plus_one": compare_giou_plus_one,
    "local_normalizers": compare_local_normalizers,
}


@pytest.mark.parametrize("name", DEFECTS)
def test_each_defect_changes_what_it_says(name):
    COMPARISONS[name]()


def test_unknown_defects_are_named():
    with pytest.raises(ValueError, match="has \\['typo'\\], which are not among"):
        check_defects(["box_penalty", "typo"])
