"""Arrays of predictions are not pickled, and COCO's entries are arrays between images.

``tests/engine/test_distributed.py`` gathers them from two processes.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from centernet_d2.evaluation import common
from centernet_d2.evaluation.common import convert_to_columns, convert_to_entries
from tests.helpers.gathered import assert_equal, make_predictions


def test_predictions_are_as_before():
    predictions = make_predictions(0, (3, 0, 7))
    assert_equal(common._unpack(*common._pack(predictions)), predictions)


def test_arrays_are_not_pickled():
    """What is pickled of an image does not grow with its objects."""
    one, many = ({"boxes": np.zeros((n, 4)), "keypoints": torch.zeros(n, 17, 3)} for n in (1, 10_000))
    (small, few), (large, lots) = common._pack(one), common._pack(many)
    assert len(lots) - len(few) < 20
    assert len(large) == 10_000 * (4 * 8 + 17 * 3 * 4) and len(small) < 500


ENTRY = {"image_id": 3, "category_id": 1, "bbox": [0.1, 1 / 3, 2.0, 1e-9], "score": 0.7}


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [ENTRY],
        [ENTRY, ENTRY | {"score": float(np.float32(0.3)), "category_id": 2}],
        [ENTRY | {"image_id": "a", "segmentation": {"size": [3, 4], "counts": "P8"}, "keypoints": [0.5] * 51}] * 3,
    ],
)
def test_columns_are_entries(entries):
    columns = convert_to_columns(entries)
    assert convert_to_entries(columns) == entries
    types = [{key: type(x) for key, x in one.items()} for one in entries]
    assert [{key: type(x) for key, x in one.items()} for one in convert_to_entries(columns)] == types
    assert {"bbox", "score", "category_id"} & columns.keys() <= {
        key for key, x in columns.items() if isinstance(x, np.ndarray)
    }
