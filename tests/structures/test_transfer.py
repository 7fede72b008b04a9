from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from centernet_d2.ops.constants import make_constant, select_channels
from centernet_d2.structures.transfer import list_tensors, move, pack

CPU = torch.device("cpu")


class Pair(NamedTuple):
    first: Tensor
    second: Tensor | None


@dataclass
class Record:
    name: str
    values: dict[str, Tensor]
    inner: "Record | None" = None
    cache: dict[str, int] = field(default_factory=dict, init=False)


def make_value():
    """All that targets consist of: many dtypes, no dimension, no elements, and views."""
    square = torch.arange(12.0).view(3, 4)
    inner = Record("inner", {"empty": torch.zeros(0, 3), "flags": torch.tensor([True, False, True])})
    many = {
        "scalar": torch.tensor(2.5),
        "transposed": square.t(),
        "expanded": torch.tensor([7])[:, None].expand(3, 5),
        "column": square[:, 1:2].expand(3, 1),
        "half": torch.arange(5).half(),
        "double": torch.tensor([1 / 3], dtype=torch.float64),
        "bytes": torch.tensor([1, 2, 3], dtype=torch.uint8),
        "lone": torch.zeros(4, dtype=torch.int64)[:1].expand(1),
    }
    return [Record("outer", many, inner), Pair(torch.tensor([1, 2]), None), 3, "text"]


def test_the_value_comes_back_from_one_block():
    value = make_value()
    again = pack(value).unpack(CPU)
    assert [type(x) for x in again] == [type(x) for x in value]
    assert (
        again[0].name == "outer"
        and again[0].inner.name == "inner"
        and again[1].second is None
        and again[2:] == value[2:]
    )
    before, after = list(list_tensors(value)), list(list_tensors(again))
    assert len(before) == len(after) == 11
    for x, y in zip(before, after, strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape and torch.equal(x, y)
    assert len({y.untyped_storage().data_ptr() for y in after if y.numel()}) == 1


def test_nothing_is_copied_where_it_is():
    value = make_value()
    assert move(value, CPU) is value
    assert {x.device.type for x in list_tensors(move(value, torch.device("meta")))} == {"meta"}
    assert move({"number": 1}, torch.device("meta")) == {"number": 1}


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_constants_have_the_type_and_place_of_another_tensor(dtype):
    like = torch.zeros(2, dtype=dtype)
    assert torch.equal(make_constant([1, 2, 3], like), torch.tensor([1, 2, 3], dtype=dtype))
    elsewhere = make_constant([1, 2, 3], like.to("meta"))
    assert elsewhere.dtype == dtype and elsewhere.device.type == "meta" and elsewhere.shape == (3,)
    assert elsewhere is make_constant((1, 2, 3), like.to("meta"))


def test_channels_in_another_order():
    maps = torch.randn(2, 3, 4)
    assert torch.equal(select_channels(maps, 1, [2, 0, 1]), maps[:, [2, 0, 1]])
    assert torch.equal(select_channels(maps, -1, [3, 0]), maps[..., [3, 0]])
