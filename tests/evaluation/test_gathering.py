"""Arrays of predictions are not pickled, and COCO's entries are arrays between images.

``tests/engine/test_distributed.py`` gathers them from two processes.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.utils import comm

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


def test_every_array_is_read_where_it_lies():
    """Arrays of one, three, ... bytes before numbers of eight bytes, which begin at multiples of 16."""
    value = [x for n in (1, 3, 16, 17, 20) for x in (np.full(n, 7, np.uint8), np.arange(n, dtype=np.float64))]
    block, rest = common._pack(value)
    unpacked = common._unpack(block, rest)
    for own, expected in zip(unpacked, value, strict=True):
        assert np.array_equal(own, expected)
        assert (own.__array_interface__["data"][0] - block.data_ptr()) % 16 == 0
    assert len(block) == sum(-(-x.nbytes // 16) * 16 for x in value)


@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_send_equally_many_bytes(rank, monkeypatch):
    """With the calls of ``torch.distributed`` that this process makes: the main one gets the values of both."""
    values = [make_predictions(0, (3, 0, 7)), make_predictions(1, (1,))]
    packed = [common._pack(one) for one in values]
    longest = max(sum(map(len, one)) for one in packed)

    def all_gather(sizes, own, group):
        assert group == "gloo" and own.tolist() == [len(x) for x in packed[rank]]
        for size, one in zip(sizes, packed, strict=True):
            size.copy_(torch.tensor([len(x) for x in one]))

    def gather(padded, blocks, dst, group):
        own = torch.cat(packed[rank])
        assert group == "gloo" and dst == 0 and len(padded) == longest
        assert torch.equal(padded[: len(own)], own) and not padded[len(own) :].any()
        assert (blocks is None) == (rank == 1)
        for block, one in zip(blocks or (), packed, strict=False):
            block[: sum(map(len, one))] = torch.cat(one)

    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "is_main_process", lambda: rank == 0)
    monkeypatch.setattr(comm, "_get_global_gloo_group", lambda: "gloo")
    monkeypatch.setattr(torch.distributed, "all_gather", all_gather)
    monkeypatch.setattr(torch.distributed, "gather", gather)
    assert_equal(common.gather_arrays(values[rank]), values if rank == 0 else [])


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
