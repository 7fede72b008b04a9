"""Predictions as evaluators keep them, of all kinds, to be gathered from several processes."""

from __future__ import annotations

import dataclasses
from collections import namedtuple
from typing import Any

import numpy as np
import torch

from centernet_d2.structures import Boxes3D

# Objects of each image of the two processes: unequal, images without objects, processes without images.
COUNTS = [((3, 0, 7), (1,)), ((), (5, 2)), ((0,), (0, 0)), ((), ())]

Frame = namedtuple("Frame", ["boxes", "scores"])


def make_predictions(rank: int, counts: tuple[int, ...]) -> dict[Any, Any]:
    """Of an image for each count, with everything that evaluators keep."""
    generator = np.random.default_rng(rank)
    return {
        (f"image {rank}", k): {
            "frame": Frame(generator.normal(size=(count, 4)), generator.normal(size=count).astype(np.float32)),
            "classes": generator.integers(0, 9, count),
            "names": np.array(["car", "truck of the fire brigade"])[generator.integers(0, 2, count)],
            "usable": generator.integers(0, 2, count).astype(bool),
            "every_second_column": generator.normal(size=(count, 6))[:, ::2],
            "columns_first": np.asfortranarray(generator.normal(size=(count, 3))),
            "keypoints": torch.from_numpy(generator.normal(size=(count, 17, 3))),
            "boxes_3d": Boxes3D(*(torch.from_numpy(generator.normal(size=(count, n))) for n in (3, 3, 1))),
            "masks": [{"size": [4, 4], "counts": "0" * (n + 1)} for n in range(count)],
            "landmarks": None,
        }
        for k, count in enumerate(counts)
    }


def assert_equal(ours: Any, expected: Any) -> None:
    assert type(ours) is type(expected)
    if isinstance(expected, np.ndarray):
        assert ours.dtype == expected.dtype and ours.shape == expected.shape and np.array_equal(ours, expected)
        assert ours.flags.writeable and ours.flags.aligned
    elif isinstance(expected, torch.Tensor):
        assert ours.dtype == expected.dtype and torch.equal(ours, expected)
    elif dataclasses.is_dataclass(expected):
        assert_equal(vars(ours), vars(expected))
    elif isinstance(expected, dict):
        assert list(ours) == list(expected)
        assert_equal(list(ours.values()), list(expected.values()))
    elif isinstance(expected, (list, tuple)):
        assert len(ours) == len(expected)
        for a, b in zip(ours, expected, strict=True):
            assert_equal(a, b)
    else:
        assert ours == expected
