"""Corner pooling against loops, in values, gradients and the exported graph."""

from __future__ import annotations

import pytest
import torch

from centernet_d2.ops.lsnet.corner_pooling import pool_bottom, pool_left, pool_right, pool_top

# The cells that each pooling looks at, of a row or column.
POOLS = {
    pool_top: (2, lambda i: slice(i, None)),
    pool_bottom: (2, lambda i: slice(0, i + 1)),
    pool_left: (3, lambda i: slice(i, None)),
    pool_right: (3, lambda i: slice(0, i + 1)),
}


def pool_in_loops(x, pool):
    dim, cells = POOLS[pool]
    result = torch.empty_like(x)
    for i in range(x.shape[dim]):
        window = x[:, :, cells(i)] if dim == 2 else x[:, :, :, cells(i)]
        result.select(dim, i).copy_(window.amax(dim=dim))
    return result


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("size", [(6, 5), (1, 7), (9, 1)])
def test_equals_loops(pool, size):
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    for memory_format in (torch.contiguous_format, torch.channels_last):
        assert torch.equal(pool(x.to(memory_format=memory_format)), pool_in_loops(x, pool))


@pytest.mark.parametrize("pool", POOLS)
def test_gradients(pool):
    x = torch.randn(1, 2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(pool, (x,))


@pytest.mark.parametrize("pool", POOLS)
def test_the_exported_graph_gives_the_same(pool):
    class Pool(torch.nn.Module):
        def forward(self, x):
            return pool(x)

    x = torch.randn(1, 2, 7, 5, generator=torch.Generator().manual_seed(0))
    program = torch.export.export(Pool(), (x,))
    assert "cummax" not in str(program.graph)
    assert torch.equal(program.module()(x), pool_in_loops(x, pool))
