"""Training clothes allocates no 294 dense maps."""

from __future__ import annotations

import torch
from detectron2.modeling import build_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from centernet_d2.data.schemas import SCHEMAS
from tests.helpers.keypoints import keypoint_cfg, objects, sample


class LargestTensor(TorchDispatchMode):
    """Notes the most elements that any result of an operation has."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        sizes = [x.numel() for x in tree_leaves(result) if isinstance(x, torch.Tensor)]
        self.largest = max(self.largest, *sizes, 0)
        return result


def test_no_operation_of_a_training_step_makes_294_maps():
    model = build_model(keypoint_cfg("clothes294", "KeypointRegressionTask"))
    batch = [
        sample(objects(SCHEMAS["clothes294"], [[10, 10, 60, 70], [70, 30, 120, 120]], classes))
        for classes in ((0, 12), (3, 3), (8, 1), (2, 10))
    ]
    with LargestTensor() as mode:
        sum(model.train()(batch).values()).backward()
    cells = 32 * 32
    assert mode.largest < len(batch) * 294 * cells / 3
    # The measure itself works: prediction does make them.
    with LargestTensor() as mode, torch.no_grad():
        model.eval().predict_maps(model.normalize([x["image"] for x in batch]))
    assert mode.largest >= len(batch) * 2 * 294 * cells
