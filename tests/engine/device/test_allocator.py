"""Memory that training keeps."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Pages that are new to the process for nine tensors of 64 MB, each after the one before was freed.
COUNT_NEW_PAGES = """
import resource
import torch
from centernet_d2.engine.allocator import keep_freed_memory

def count():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

keep_freed_memory()
for _ in range(3):  # until the first operations have made what they keep
    torch.zeros(1 << 24).add_(1)
before = count()
for _ in range(9):
    torch.zeros(1 << 24).add_(1)
print(count() - before)
"""


PAGES_OF_A_TENSOR = 16384  # of 4 KB


@pytest.mark.skipif(sys.platform != "linux", reason="it is for glibc")
def test_freed_memory_is_used_again():
    """Without the call all nine tensors are new. With it one may be, where something small stands in its place."""
    run = subprocess.run([sys.executable, "-c", COUNT_NEW_PAGES], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 2.5 * PAGES_OF_A_TENSOR
