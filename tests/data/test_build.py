"""The training stream depends on seed and position alone, and corrupt images neither stop it nor go unnoticed."""

from __future__ import annotations

import itertools
import logging
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.structures import BoxMode
from detectron2.utils import comm
from PIL import Image

from centernet_d2.data.build import build_test_loader, build_train_loader, load_training_dicts
from centernet_d2.data.corrupt_images import TooManyCorruptError
from centernet_d2.data.image_io import CorruptImageError
from tests.helpers.tiny import base_cfg

NAME = "test_build_images"


@pytest.fixture
def dataset_dicts(tmp_path: Path) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    result = []
    for index in range(10):
        path = tmp_path / f"{index}.png"
        Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(path)
        box = {"bbox": [2, 3, 20, 20], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
        result.append({"file_name": str(path), "image_id": index, "height": 24, "width": 32, "annotations": [box]})
    return result


@pytest.fixture
def cfg(dataset_dicts: list[dict[str, Any]]) -> Iterator[CfgNode]:
    DatasetCatalog.register(NAME, lambda: dataset_dicts)
    cfg = base_cfg()
    cfg.DATASETS.TRAIN = (NAME,)
    cfg.INPUT.SIZE_TRAIN = [32, 32]
    cfg.SOLVER.IMS_PER_BATCH = 4
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SEED = 5
    yield cfg
    DatasetCatalog.remove(NAME)


def _batches(cfg: CfgNode, count: int, start: int = 0) -> list[list[dict[str, Any]]]:
    return list(itertools.islice(build_train_loader(cfg, start), count))


def _assert_same(ours: list[list[dict[str, Any]]], theirs: list[list[dict[str, Any]]]) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(itertools.chain(*ours), itertools.chain(*theirs), strict=True):
        assert one["image_id"] == other["image_id"]
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["instances"].gt_boxes.tensor, other["instances"].gt_boxes.tensor)


def test_each_epoch_is_another_order_of_all_images(cfg: CfgNode) -> None:
    ids = [sample["image_id"] for batch in _batches(cfg, 10) for sample in batch]
    epochs = [ids[start : start + 10] for start in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


@pytest.mark.parametrize("iteration", [1, 3, 7])
def test_resuming_gives_the_rest_of_the_same_stream(cfg: CfgNode, iteration: int) -> None:
    _assert_same(_batches(cfg, 8 - iteration, iteration), _batches(cfg, 8)[iteration:])


def test_workers_change_nothing(cfg: CfgNode) -> None:
    expected = _batches(cfg, 6)
    for workers in (1, 2):
        cfg.DATALOADER.NUM_WORKERS = workers
        _assert_same(_batches(cfg, 6), expected)


def test_processes_share_the_batches_of_one(cfg: CfgNode, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = _batches(cfg, 5, 2)
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    fractions = []
    for rank in (0, 1):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        fractions.append(_batches(cfg, 5, 2))
    woven = [[x for pair in zip(a, b, strict=True) for x in pair] for a, b in zip(*fractions, strict=True)]
    _assert_same(woven, expected)
    cfg.SOLVER.IMS_PER_BATCH = 3
    with pytest.raises(ValueError, match="IMS_PER_BATCH is 3"):
        build_train_loader(cfg)


def test_seeds_and_positions_differ_and_the_global_state_is_left_alone(cfg: CfgNode) -> None:
    np.random.seed(3)  # noqa: NPY002
    random.seed(3)
    torch.manual_seed(3)
    before = (np.random.get_state()[1].tolist(), random.getstate(), torch.get_rng_state().tolist())  # noqa: NPY002
    first = _batches(cfg, 5)
    after = (np.random.get_state()[1].tolist(), random.getstate(), torch.get_rng_state().tolist())  # noqa: NPY002
    assert before == after
    by_image: dict[int, list[bytes]] = {}
    for sample in itertools.chain(*first):
        by_image.setdefault(sample["image_id"], []).append(sample["image"].numpy().tobytes())
    assert all(len(set(images)) == 2 for images in by_image.values())
    cfg.SEED = 6
    other = [sample["image_id"] for batch in _batches(cfg, 5) for sample in batch]
    assert other != [sample["image_id"] for batch in first for sample in batch]


def _break(dataset_dicts: list[dict[str, Any]], indices: range | list[int]) -> None:
    for index in indices:
        Path(dataset_dicts[index]["file_name"]).write_bytes(b"")


@pytest.mark.parametrize("workers", [0, 2])
def test_corrupt_images_are_replaced_reported_once_and_counted(
    cfg: CfgNode, dataset_dicts: list[dict[str, Any]], caplog: pytest.LogCaptureFixture, workers: int
) -> None:
    _break(dataset_dicts, [2, 6])
    cfg.DATALOADER.MAX_CORRUPT_FRACTION = 0.2
    cfg.DATALOADER.NUM_WORKERS = workers
    loader = build_train_loader(cfg)
    with caplog.at_level(logging.WARNING, "centernet_d2"):
        batches = list(itertools.islice(loader, 10))
    assert all(len(batch) == 4 for batch in batches)
    seen = Counter(sample["image_id"] for batch in batches for sample in batch)
    assert set(seen) == set(range(10)) - {2, 6}
    assert set(loader.corrupt.files) == {dataset_dicts[2]["file_name"], dataset_dicts[6]["file_name"]}
    # Twice in each of four epochs, and once more where one stands behind the other.
    assert 8 <= loader.corrupt.failures <= 12
    messages = [r.getMessage() for r in caplog.records if r.name.startswith("centernet_d2")]
    assert len(messages) == 2
    assert all(any(name in message and "empty" in message for message in messages) for name in loader.corrupt.files)


def test_too_many_corrupt_images_stop_and_are_named(cfg: CfgNode, dataset_dicts: list[dict[str, Any]]) -> None:
    _break(dataset_dicts, range(3))
    cfg.DATALOADER.MAX_CORRUPT_FRACTION = 0.2
    with pytest.raises(TooManyCorruptError) as caught:
        _batches(cfg, 10)
    assert all(dataset_dicts[index]["file_name"] in str(caught.value) for index in range(3))


@pytest.mark.parametrize("fraction", [0.05, 1.0])
def test_a_set_with_nothing_readable_stops_at_once(
    cfg: CfgNode, dataset_dicts: list[dict[str, Any]], fraction: float
) -> None:
    absent = [{**dataset_dicts[0], "file_name": f"/absent/{index}.jpg", "image_id": index} for index in range(100_000)]
    DatasetCatalog.remove(NAME)
    DatasetCatalog.register(NAME, lambda: absent)
    cfg.DATALOADER.MAX_CORRUPT_FRACTION = fraction
    loader = build_train_loader(cfg)
    start = time.monotonic()
    with pytest.raises(TooManyCorruptError) as caught:
        next(iter(loader))
    assert time.monotonic() - start < 2
    assert str(caught.value).count("/absent/") == 5


def test_five_percent_pass_whatever_the_order(cfg: CfgNode, dataset_dicts: list[dict[str, Any]]) -> None:
    many = [{**dataset_dicts[0], "file_name": f"/x/{i}.jpg", "image_id": i} for i in range(400)]
    DatasetCatalog.remove(NAME)
    DatasetCatalog.register(NAME, lambda: many)

    def mapper(dataset_dict: dict[str, Any]) -> dict[str, Any]:
        if dataset_dict["image_id"] < 20:
            raise CorruptImageError(dataset_dict["file_name"], "broken")
        return {"image_id": dataset_dict["image_id"]}

    for seed in range(15):
        cfg.SEED = seed
        loader = build_train_loader(cfg, mapper=mapper)
        for _ in itertools.islice(loader, 100):
            pass
        assert len(loader.corrupt.files) == 20


def test_images_without_objects(cfg: CfgNode, dataset_dicts: list[dict[str, Any]]) -> None:
    dataset_dicts[0]["annotations"] = []
    dataset_dicts[1]["annotations"][0]["iscrowd"] = 1
    assert [dataset_dict["image_id"] for dataset_dict in load_training_dicts(cfg)] == list(range(2, 10))
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    assert len(load_training_dicts(cfg)) == 10
    assert sum(len(sample["instances"]) == 0 for batch in _batches(cfg, 5) for sample in batch) >= 2
    dataset_dicts.clear()
    with pytest.raises(ValueError, match=NAME):
        load_training_dicts(cfg)


def test_a_part_of_the_images(cfg: CfgNode) -> None:
    """A larger part contains a smaller one; neither depends on the seed."""
    parts = []
    for cfg.SEED, cfg.DATASETS.TRAIN_IMAGES in ((1, 3), (2, 3), (1, 7), (1, 0)):
        parts.append([dataset_dict["image_id"] for dataset_dict in load_training_dicts(cfg)])
    assert parts[0] == parts[1] and [len(part) for part in parts] == [3, 3, 7, 10]
    assert set(parts[0]) < set(parts[2]) < set(parts[3]) and parts[2] == sorted(parts[2])
    cfg.DATASETS.TRAIN_IMAGES = 11
    with pytest.raises(ValueError, match="TRAIN_IMAGES is 11, but there are 10"):
        load_training_dicts(cfg)


def test_test_loader_gives_every_image_once_and_names_a_corrupt_one(
    cfg: CfgNode, dataset_dicts: list[dict[str, Any]]
) -> None:
    cfg.TEST.IMS_PER_BATCH = 3
    batches = list(build_test_loader(cfg, NAME))
    assert [len(batch) for batch in batches] == [3, 3, 3, 1]
    assert [sample["image_id"] for batch in batches for sample in batch] == list(range(10))
    assert all(tuple(sample["image"].shape) == (3, 24, 32) for batch in batches for sample in batch)
    _break(dataset_dicts, [4])
    with pytest.raises(CorruptImageError, match=r"4\.png"):
        list(build_test_loader(cfg, NAME))


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:400])


def _replace(path: Path) -> None:
    Image.new("RGB", (64, 48)).save(path)


@pytest.mark.parametrize("change", [Path.unlink, _truncate, _replace])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_changes_while_training_is_named(
    cfg: CfgNode, dataset_dicts: list[dict[str, Any]], change: Any, workers: int
) -> None:
    cfg.DATALOADER.NUM_WORKERS, cfg.DATALOADER.MAX_CORRUPT_FRACTION = workers, 0.0
    batches = iter(build_train_loader(cfg))
    next(batches)
    change(Path(dataset_dicts[4]["file_name"]))
    start = time.monotonic()
    with pytest.raises(TooManyCorruptError, match=r"4\.png"):
        for _ in itertools.islice(batches, 20):
            pass
    assert time.monotonic() - start < 10


def test_positions_beyond_32_bits(cfg: CfgNode) -> None:
    """Of a run of billions of steps: whole epochs, and another order than at the start."""
    ids = [sample["image_id"] for batch in _batches(cfg, 5, start=5 * 10**9) for sample in batch]
    assert sorted(ids[:10]) == sorted(ids[10:]) == list(range(10))
    assert ids != [sample["image_id"] for batch in _batches(cfg, 5) for sample in batch]
