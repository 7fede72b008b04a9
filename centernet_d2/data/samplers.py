"""The training stream, a function of the seed and the position alone."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch.utils.data import Dataset, Sampler

from centernet_d2.data.corrupt_images import _MAX_IN_A_ROW
from centernet_d2.data.image_io import CorruptImageError, DatasetDict

Sample = dict[str, Any]
Mapper = Callable[[DatasetDict], Sample]


class PositionSampler(Sampler[int]):
    """Endless positions start + rank, start + rank + world_size, ..."""

    def __init__(self, start: int, rank: int = 0, world_size: int = 1) -> None:
        self.start, self.rank, self.world_size = start, rank, world_size

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.start + self.rank, self.world_size)


class PositionDataset(Dataset[tuple[Sample | None, list[CorruptImageError]]]):
    """The training stream by position; see ``data.build``.

    An item is a sample and the unreadable images that it replaces. The sample is None after 20 unreadable images in a
    row (or after all images).

    Args:
        stages: (end, mapper): each mapper is used below its end, from the end before it on; the last one is infinite.
    """

    def __init__(
        self,
        dataset_dicts: Sequence[DatasetDict],
        stages: Sequence[tuple[float, Mapper]],
        seed: int,
    ) -> None:
        self.dataset_dicts, self.stages, self.seed = dataset_dicts, stages, seed
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self.dataset_dicts)

    def __getitem__(self, position: int) -> tuple[Sample | None, list[CorruptImageError]]:
        epoch, index = divmod(position, len(self.dataset_dicts))
        corrupt: list[CorruptImageError] = []
        order = self._permute(epoch)
        mapper = next(mapper for end, mapper in self.stages if position < end)
        for attempt in range(min(_MAX_IN_A_ROW, len(order))):
            try:
                with _seed_globally(self.seed, position):
                    return mapper(self.dataset_dicts[int(order[(index + attempt) % len(order)])]), corrupt
            except CorruptImageError as error:
                corrupt.append(error)
        return None, corrupt

    def _permute(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng((self.seed, epoch)).permutation(len(self.dataset_dicts))
        return self._order


@contextmanager
def _seed_globally(seed: int, position: int) -> Iterator[None]:
    """Seed the global random states of NumPy and Python by the arguments; restore the previous states afterwards."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    state = np.random.SeedSequence((seed, position)).generate_state(4)
    np.random.seed(state)  # noqa: NPY002
    random.seed(int(state[0]))
    try:
        yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)
