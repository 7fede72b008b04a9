"""Loaders. What training sees is a pure function of the seed and the position in the stream.

Position p belongs to epoch p // n of a data set of n pictures, and is the (p % n)-th of the permutation that seed and
epoch give; its augmentation is seeded by (seed, p). So neither the number of workers nor that of processes changes
anything, and a resumed run needs only the iteration to go on exactly.
"""

from __future__ import annotations

import itertools
import logging
import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.build import filter_images_with_only_crowd_annotations, trivial_batch_collator
from detectron2.data.common import DatasetFromList, MapDataset
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

from centernet_d2.data.dataset_mapper import CenterNetDatasetMapper
from centernet_d2.data.datasets.custom import load_records
from centernet_d2.data.previous_frame import WithPrevious
from centernet_d2.data.reading import BrokenImageError, Record

Sample = dict[str, Any]
Mapper = Callable[[Record], Sample]

_logger = logging.getLogger(__name__)
# So many unreadable pictures one after the other stop training, whatever share is allowed.
_MAX_IN_A_ROW = 20


class TooManyBrokenError(RuntimeError):
    """More pictures cannot be read than the configuration allows."""


class PositionSampler(Sampler[int]):
    """Endless positions start + rank, start + rank + world_size, ..."""

    def __init__(self, start: int, rank: int = 0, world_size: int = 1) -> None:
        self.start, self.rank, self.world_size = start, rank, world_size

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.start + self.rank, self.world_size)


class PositionDataset(Dataset[tuple[Sample | None, list[BrokenImageError]]]):
    """The training stream, by position; see the module.

    An item is the sample and the unreadable pictures in whose place it stands; the sample is None after 20 of them
    (or after all there are).
    """

    def __init__(self, records: Sequence[Record], mapper: Mapper, seed: int) -> None:
        self.records, self.mapper, self.seed = records, mapper, seed
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, position: int) -> tuple[Sample | None, list[BrokenImageError]]:
        epoch, index = divmod(position, len(self.records))
        broken: list[BrokenImageError] = []
        order = self._permutation(epoch)
        for attempt in range(min(_MAX_IN_A_ROW, len(order))):
            try:
                with _seeded(self.seed, position):
                    return self.mapper(self.records[int(order[(index + attempt) % len(order)])]), broken
            except BrokenImageError as error:
                broken.append(error)
        return None, broken

    def _permutation(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng((self.seed, epoch)).permutation(len(self.records))
        return self._order


class BrokenPictures:
    """Counts what could not be read, reports each file once, and stops when it is too much.

    It is too much when the files exceed the allowed share of the whole data set, or when their share of those seen so
    far is beyond chance (six standard deviations), so that a hopeless set does not take an epoch to be noticed.
    """

    def __init__(self, num_pictures: int, max_share: float) -> None:
        self.num_pictures, self.max_share = num_pictures, max_share
        self.files: dict[str, str] = {}
        self.attempts = 0
        self.failures = 0

    def add(self, good: int, broken: Sequence[BrokenImageError]) -> None:
        """Note that ``good`` pictures could be read and that ``broken`` could not.

        Raises:
            TooManyBrokenError: names the first five files.
        """
        self.attempts += good + len(broken)
        self.failures += len(broken)
        for error in broken:
            if error.file_name not in self.files:
                self.files[error.file_name] = error.reason
                _logger.warning("Picture %d that cannot be used, replaced by another: %s", len(self.files), error)
        if broken:
            self._judge()

    def _judge(self) -> None:
        allowed = self.max_share * self.num_pictures
        expected = self.max_share * self.attempts
        chance = 6 * math.sqrt(expected * (1 - min(self.max_share, 1.0)))
        beyond_chance = self.attempts >= _MAX_IN_A_ROW and self.failures > expected + chance
        if len(self.files) > allowed + 1e-9 or beyond_chance:
            self.stop()

    def stop(self) -> None:
        """Raise."""
        first = "\n  ".join(f"{name}: {reason}" for name, reason in itertools.islice(self.files.items(), 5))
        raise TooManyBrokenError(
            f"{self.failures} of {self.attempts} pictures could not be used ({len(self.files)} different ones, of "
            f"{self.num_pictures} in all); DATALOADER.MAX_BROKEN_SHARE allows {self.max_share:g}. The first:\n  {first}"
        )


class TrainLoader:
    """Endless batches (lists of the mapper's dicts) of this process.

    Attributes:
        broken: what could not be read so far, in this process.
    """

    def __init__(self, loader: DataLoader, broken: BrokenPictures) -> None:
        self.loader, self.broken = loader, broken
        self.dataset = loader.dataset

    def __iter__(self) -> Iterator[list[Sample]]:
        for items in self.loader:
            samples = [sample for sample, _ in items if sample is not None]
            self.broken.add(len(samples), [error for _, errors in items for error in errors])
            if len(samples) < len(items):
                self.broken.stop()
            yield samples


def build_train_loader(cfg: CfgNode, start_iteration: int = 0, mapper: Mapper | None = None) -> TrainLoader:
    """The stream of ``DATASETS.TRAIN`` from ``start_iteration`` on, ``SOLVER.IMS_PER_BATCH`` pictures a time in all.

    With a negative ``SEED`` every start shuffles anew, and a resumed run is not exact.

    Args:
        mapper: in place of ``CenterNetDatasetMapper``.

    Raises:
        ValueError: no picture to train on, or a batch that the processes cannot share evenly; and ``load_records``'s.
    """
    records = training_records(cfg)
    batch, world_size = cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
    if batch <= 0 or batch % world_size:
        raise ValueError(f"SOLVER.IMS_PER_BATCH is {batch}, which {world_size} processes cannot share evenly")
    seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
    mapper = mapper or CenterNetDatasetMapper(cfg, is_train=True)
    pictures: Sequence[Record] = DatasetFromList(records, copy=False)
    if cfg.MODEL.TRACKING_ON:
        pictures = WithPrevious(pictures, cfg.MODEL.TRACKING.MAX_FRAME_DISTANCE)
    loader = DataLoader(
        PositionDataset(pictures, mapper, seed),
        sampler=PositionSampler(start_iteration * batch, comm.get_rank(), world_size),
        batch_size=batch // world_size,
        drop_last=True,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=trivial_batch_collator,
        worker_init_fn=_single_threaded,
        # Of its own, so that making a loader draws nothing from the global state that a checkpoint saves.
        generator=torch.Generator().manual_seed(seed),
    )
    return TrainLoader(loader, BrokenPictures(len(records), cfg.DATALOADER.MAX_BROKEN_SHARE))


def training_records(cfg: CfgNode) -> list[Record]:
    """All records of ``DATASETS.TRAIN``; those without objects only if ``DATALOADER.FILTER_EMPTY_ANNOTATIONS`` is off.

    Raises:
        ValueError: nothing is left.
    """
    records = [record for name in cfg.DATASETS.TRAIN for record in load_records(name)]
    if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
        records = filter_images_with_only_crowd_annotations(records)
    if not records:
        names = ", ".join(cfg.DATASETS.TRAIN) or "nothing"
        raise ValueError(f"DATASETS.TRAIN names {names}: there is no picture with objects to train on")
    return records


def build_test_loader(cfg: CfgNode, name: str, mapper: Mapper | None = None) -> DataLoader:
    """Every picture of a data set once, in order, each process its share; batches of ``TEST.IMS_PER_BATCH``.

    Shares do not part the frames of a video. A picture that cannot be read is an error here: a score without it would
    be wrong.
    """
    records = load_records(name)
    return DataLoader(
        MapDataset(DatasetFromList(records, copy=False), mapper or CenterNetDatasetMapper(cfg, is_train=False)),
        sampler=_share(records),
        batch_size=cfg.TEST.IMS_PER_BATCH,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=trivial_batch_collator,
        worker_init_fn=_single_threaded,
    )


def _share(records: Sequence[Record]) -> Sequence[int]:
    """The records of this process: a stretch of them, whole videos."""
    rank, world_size = comm.get_rank(), comm.get_world_size()
    starts = [
        i
        for i, x in enumerate(records)
        if i == 0 or "video_id" not in x or x["video_id"] != records[i - 1].get("video_id")
    ]
    wanted = [len(records) * share // world_size for share in (rank, rank + 1)]
    first, end = (next((start for start in starts if start >= place), len(records)) for place in wanted)
    return range(first, end)


@contextmanager
def _seeded(seed: int, position: int) -> Iterator[None]:
    """Global random states of NumPy and Python that depend on the arguments alone; the ones before are put back."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    state = np.random.SeedSequence((seed, position)).generate_state(4)
    np.random.seed(state)  # noqa: NPY002
    random.seed(int(state[0]))
    try:
        yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


def _single_threaded(worker: int) -> None:
    # 1 instead of 0 would wait for ever, in a forked process, for threads that only the parent has.
    cv2.setNumThreads(0)
