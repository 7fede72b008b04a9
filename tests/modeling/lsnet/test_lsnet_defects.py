"""Each defect of the reference changes the loss or the targets in the direction that its description says."""

from __future__ import annotations

import pytest
import torch
from detectron2.structures import Boxes, Instances

from centernet_d2.modeling.lsnet.levels import Levels
from centernet_d2.modeling.tasks.pyramid_base import PyramidSettings, PyramidTask
from centernet_d2.structures import Candidates, Targets

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
