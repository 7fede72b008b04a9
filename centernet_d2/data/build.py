"""Training and test loaders. The training stream is a function of the seed and the position alone.

Position p belongs to epoch p // n of a dataset of n images and takes image p % n of that epoch's permutation; its
augmentation is seeded by (seed, p). The number of workers and processes changes nothing, and a resumed run continues
exactly from its iteration.
"""

from __future__ import annotations

import math
import multiprocessing
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import cv2
import torch
from detectron2.config import CfgNode
from detectron2.data.build import filter_images_with_only_crowd_annotations, trivial_batch_collator
from detectron2.data.common import DatasetFromList, MapDataset
from detectron2.utils import comm
from torch.multiprocessing import _prctl_pr_set_pdeathsig  # type: ignore[attr-defined]
from torch.utils.data import DataLoader

from centernet_d2.data.catalog import load_dataset_dicts
from centernet_d2.data.corrupt_images import CorruptImages
from centernet_d2.data.dataset_mapper import CenterNetDatasetMapper
from centernet_d2.data.frame_pairs import FramePairs
from centernet_d2.data.image_io import DatasetDict
from centernet_d2.data.mixing import build_mixing_mapper, is_mixing
from centernet_d2.data.samplers import Mapper, PositionDataset, PositionSampler, Sample
from centernet_d2.registry import get_required_fields
from centernet_d2.stop_signals import leave_to_parent
from centernet_d2.structures.transfer import pack


class TrainLoader:
    """Endless batches (lists of the mapper's dicts) of this process.

    Attributes:
        corrupt: the images that this process could not read so far.
    """

    def __init__(self, loader: DataLoader, corrupt: CorruptImages) -> None:
        self.loader, self.corrupt = loader, corrupt
        self.dataset = loader.dataset

    def encode_in_workers(self, encode: Callable[[list[Sample]], Any]) -> None:
        """Have the worker processes, if there are any, add "targets" to the first sample of each batch: the result of
        ``encode``, :func:`packed <centernet_d2.structures.transfer.pack>`."""
        # Other ways of starting them would copy the model with the function.
        if self.loader.num_workers and multiprocessing.get_start_method() == "fork":
            self.loader.collate_fn = partial(_collate_with_targets, encode)

    def __iter__(self) -> Iterator[list[Sample]]:
        for items in self.loader:
            samples = [sample for sample, _ in items if sample is not None]
            self.corrupt.add(len(samples), [error for _, errors in items for error in errors])
            if len(samples) < len(items):
                self.corrupt.stop()
            yield samples


def build_train_loader(cfg: CfgNode, start_iteration: int = 0, mapper: Mapper | None = None) -> TrainLoader:
    """Build the loader of ``DATASETS.TRAIN`` from ``start_iteration`` on.

    A batch of all processes together has ``SOLVER.IMS_PER_BATCH`` images.

    With a negative ``SEED`` every start shuffles differently, and a resumed run is not exact.

    Args:
        mapper: replaces ``CenterNetDatasetMapper``, mosaic and mixup.

    Raises:
        ValueError: no image to train on, a batch that the processes cannot share evenly, or a mosaic that the task
            cannot use; and ``load_dataset_dicts``'s.
    """
    dataset_dicts = load_training_dicts(cfg)
    batch, world_size = cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size()
    if batch <= 0 or batch % world_size:
        raise ValueError(f"SOLVER.IMS_PER_BATCH is {batch}, which {world_size} processes cannot share evenly")
    seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
    images: Sequence[DatasetDict] = DatasetFromList(dataset_dicts, copy=False)
    stages = build_stages(cfg, images) if mapper is None else [(math.inf, mapper)]
    if "previous_frame" in get_required_fields(cfg):
        images = FramePairs(images, cfg.MODEL.TRACKING.MAX_FRAME_DISTANCE)
    loader = DataLoader(
        PositionDataset(images, stages, seed),
        sampler=PositionSampler(start_iteration * batch, comm.get_rank(), world_size),
        batch_size=batch // world_size,
        drop_last=True,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=trivial_batch_collator,
        # By a thread of its own, for copies to a GPU that the host need not wait for.
        pin_memory=cfg.MODEL.DEVICE.startswith("cuda") and torch.cuda.is_available(),
        worker_init_fn=_start_worker,
        # A separate generator: building a loader must not advance the global state that checkpoints save.
        generator=torch.Generator().manual_seed(seed),
    )
    return TrainLoader(loader, CorruptImages(len(dataset_dicts), cfg.DATALOADER.MAX_CORRUPT_FRACTION))


def build_stages(cfg: CfgNode, dataset_dicts: Sequence[DatasetDict]) -> list[tuple[float, Mapper]]:
    """Return the mappers of the parts of the schedule, each with the position at which it ends.

    Flips end at ``INPUT.AFFINE.FLIP_UNTIL``; mosaic, mixup and copy-paste at ``INPUT.MIX_UNTIL``.

    Raises:
        ValueError: as ``build_mixing_mapper``, or one of the two is not in [0, 1].
    """

    def find_end(key: str, fraction: float) -> float:
        if not 0 <= fraction <= 1:
            raise ValueError(f"INPUT.{key} must be in [0, 1], not {fraction}")
        return math.inf if fraction == 1 else int(fraction * cfg.SOLVER.MAX_ITER) * cfg.SOLVER.IMS_PER_BATCH

    mix_end = find_end("MIX_UNTIL", cfg.INPUT.MIX_UNTIL)
    flip_end = find_end("AFFINE.FLIP_UNTIL", cfg.INPUT.AFFINE.FLIP_UNTIL)
    if not is_mixing(cfg):
        mix_end = 0
    stages = []
    for end in sorted({mix_end, flip_end, math.inf} - {0}):
        stage = cfg.clone()
        stage.defrost()
        if end > flip_end:
            stage.INPUT.AFFINE.FLIP_PROB = 0.0
        mapper: Mapper = CenterNetDatasetMapper(stage, is_train=True)
        if end <= mix_end:
            mapper = build_mixing_mapper(stage, mapper, CenterNetDatasetMapper, dataset_dicts)
        stages.append((end, mapper))
    return stages


def _collate_with_targets(encode: Callable[[list[Sample]], Any], items: list[Any]) -> list[Any]:
    samples = [sample for sample, _ in items if sample is not None]
    if samples:
        samples[0]["targets"] = pack(encode(samples))
    return items


def load_training_dicts(
    cfg: CfgNode, load: Callable[[str], list[DatasetDict]] = load_dataset_dicts
) -> list[DatasetDict]:
    """Load all dataset dicts of ``DATASETS.TRAIN``, each dataset by ``load``.

    ``DATALOADER.FILTER_EMPTY_ANNOTATIONS`` drops those without objects, and ``DATASETS.TRAIN_IMAGES`` are kept of the
    others.

    Raises:
        ValueError: no image is left, or there are fewer than that.
    """
    dataset_dicts = [dataset_dict for name in cfg.DATASETS.TRAIN for dataset_dict in load(name)]
    if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
        dataset_dicts = filter_images_with_only_crowd_annotations(dataset_dicts)
    if not dataset_dicts:
        names = ", ".join(cfg.DATASETS.TRAIN) or "nothing"
        raise ValueError(f"DATASETS.TRAIN names {names}: there is no image with objects to train on")
    wanted, count = cfg.DATASETS.TRAIN_IMAGES, len(dataset_dicts)
    if not 0 <= wanted <= count:
        raise ValueError(f"DATASETS.TRAIN_IMAGES is {wanted}, but there are {count} images to train on")
    if wanted:
        chosen = random.Random(0).sample(range(count), count)[:wanted]
        dataset_dicts = [dataset_dicts[i] for i in sorted(chosen)]
    return dataset_dicts


def build_test_loader(cfg: CfgNode, name: str, mapper: Mapper | None = None) -> DataLoader:
    """Build a loader of every image of a dataset once, in order, in batches of ``TEST.IMS_PER_BATCH``.

    Each process gets a part of the dataset; the frames of a video stay together. An image that cannot be read is an
    error here, because a score without it would be wrong.
    """
    dataset_dicts = load_dataset_dicts(name)
    return DataLoader(
        MapDataset(DatasetFromList(dataset_dicts, copy=False), mapper or CenterNetDatasetMapper(cfg, is_train=False)),
        sampler=_select_process_share(dataset_dicts),
        batch_size=cfg.TEST.IMS_PER_BATCH,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=trivial_batch_collator,
        worker_init_fn=_start_worker,
    )


def _select_process_share(dataset_dicts: Sequence[DatasetDict]) -> Sequence[int]:
    """Return the indices of this process's dataset dicts: a contiguous range of whole videos."""
    rank, world_size = comm.get_rank(), comm.get_world_size()
    starts = [
        i
        for i, x in enumerate(dataset_dicts)
        if i == 0 or "video_id" not in x or x["video_id"] != dataset_dicts[i - 1].get("video_id")
    ]
    wanted = [len(dataset_dicts) * fraction // world_size for fraction in (rank, rank + 1)]
    first, end = (next((start for start in starts if start >= position), len(dataset_dicts)) for position in wanted)
    return range(first, end)


def _start_worker(worker: int) -> None:
    leave_to_parent()
    # Ends with its parent, also while it waits for a disk.
    _prctl_pr_set_pdeathsig(signal.SIGKILL)
    # 1 instead of 0 would hang in a forked process: it waits for threads that only the parent has.
    cv2.setNumThreads(0)
