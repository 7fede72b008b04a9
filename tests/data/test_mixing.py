"""Mosaic and mixup: the objects lie where their pixels are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from centernet_d2.data import mixing
from centernet_d2.data.build import build_train_loader
from centernet_d2.data.dataset_mapper import CenterNetDatasetMapper
from centernet_d2.data.fields import KeypointField
from tests.helpers.tiny import base_cfg

NAME = "test_mixing_images"
SIDE = 128
COUNT = 6


@pytest.fixture
def cfg(tmp_path: Path) -> Iterator[CfgNode]:
    """Black images with one rectangle each; the brightness of image k is that of class k."""
    dataset_dicts = []
    for k in range(COUNT):
        x1, y1, x2, y2 = 20 + 5 * k, 30 + 4 * k, 80 + 5 * k, 70 + 6 * k
        image = np.zeros((160, 200, 3), np.uint8)
        image[y1:y2, x1:x2] = list_levels()[k]
        cv2.imwrite(str(tmp_path / f"{k}.png"), image)
        points = [x1, y1, 2, x2, y2, 2]
        objects = [{"bbox": [x1, y1, x2, y2], "bbox_mode": 0, "category_id": k, "keypoints": points}]
        entry = {"file_name": str(tmp_path / f"{k}.png"), "image_id": k, "height": 160, "width": 200}
        dataset_dicts.append({**entry, "annotations": objects})
    DatasetCatalog.register(NAME, lambda: dataset_dicts)
    cfg = base_cfg()
    cfg.DATASETS.TRAIN, cfg.INPUT.SIZE_TRAIN, cfg.DATALOADER.NUM_WORKERS, cfg.SEED = (NAME,), [SIDE, SIDE], 0, 3
    cfg.INPUT.AFFINE.BORDER, cfg.INPUT.COLOR.JITTER, cfg.INPUT.COLOR.LIGHTING = 16, 0.0, 0.0
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER, cfg.INPUT.MIX_UNTIL = 2, 10, 0.5
    yield cfg
    DatasetCatalog.remove(NAME)


def list_levels() -> list[int]:
    return [40 * (k + 1) for k in range(COUNT)]


def read_samples(cfg: CfgNode, batches: int) -> list[dict]:
    loader = iter(build_train_loader(cfg))
    return [sample for _ in range(batches) for sample in next(loader)]


def locate_level(plane: np.ndarray, level: int) -> np.ndarray:
    """x1, y1, x2, y2 around the pixels of about this brightness."""
    rows, columns = np.nonzero(np.abs(plane.astype(int) - level) <= 2)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def test_objects_of_a_mosaic_lie_where_their_pixels_are(cfg):
    cfg.INPUT.MOSAIC.PROB = 1.0
    counts = []
    for sample in read_samples(cfg, 5):
        assert sample["image"].shape == (3, SIDE, SIDE)
        objects, plane = sample["instances"], sample["image"][0].numpy()
        counts.append(len(objects))
        assert objects.image_size == (SIDE, SIDE)
        for box, label in zip(objects.gt_boxes.tensor.round().int().numpy(), objects.gt_classes.tolist(), strict=True):
            if (box[2:] - box[:2]).min() < 4:
                continue  # too thin to have a pixel of its own brightness
            quarter = [64 * int(middle >= 64) for middle in ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)]
            part = plane[quarter[1] : quarter[1] + 64, quarter[0] : quarter[0] + 64]
            seen = locate_level(part, list_levels()[label]) + np.tile(quarter, 2)
            assert np.abs(seen - box).max() <= 2
    assert max(counts) >= 3


def test_every_quarter_has_an_image(cfg):
    cfg.INPUT.MOSAIC.PROB, cfg.INPUT.MOSAIC.SCALES, cfg.INPUT.AFFINE.MODE = 1.0, [1.0], "none"
    for sample in read_samples(cfg, 4):
        boxes = sample["instances"].gt_boxes.tensor
        middles = ((boxes[:, :2] + boxes[:, 2:]) / 2 >= 64).int().tolist()
        assert sorted(middles) == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_mixup_is_the_mean_of_two_images(cfg):
    """Where one rectangle lies alone, its pixels are half as bright."""
    cfg.INPUT.MIXUP.PROB, cfg.INPUT.AFFINE.MODE, cfg.INPUT.AFFINE.FLIP_PROB = 1.0, "none", 0.0
    plain = {k: CenterNetDatasetMapper(cfg)(dict(entry)) for k, entry in enumerate(DatasetCatalog.get(NAME))}
    for sample in read_samples(cfg, 4):
        objects = sample["instances"]
        first, second = objects.gt_classes.tolist()
        expected = (plain[first]["image"].double() + plain[second]["image"].double()) / 2
        assert (sample["image"].double() - expected).abs().max() <= 0.5
        both = [plain[k]["instances"].gt_boxes.tensor for k in (first, second)]
        assert torch.equal(objects.gt_boxes.tensor, torch.cat(both))


def test_keypoints_move_with_their_objects(cfg):
    """They are two corners of the box here."""
    cfg.INPUT.MOSAIC.SCALES, cfg.INPUT.AFFINE.MODE, cfg.INPUT.AFFINE.FLIP_PROB = [1.0], "none", 0.0

    def build(cfg: CfgNode) -> CenterNetDatasetMapper:
        mapper = CenterNetDatasetMapper(cfg)
        mapper.fields = [KeypointField(flip_indices=np.arange(2))]
        return mapper

    cfg.INPUT.MOSAIC.PROB = 1.0
    mapper = mixing.build_mixing_mapper(cfg, build(cfg), build, DatasetCatalog.get(NAME))
    objects = mapper(DatasetCatalog.get(NAME)[0])["instances"]
    assert len(objects) == 4
    corners = objects.gt_keypoints.tensor[:, :, :2].reshape(-1, 4)
    torch.testing.assert_close(corners, objects.gt_boxes.tensor, atol=1e-3, rtol=0)


def outline(entry: dict) -> None:
    """Give its only object a mask: the triangle below the diagonal of the box."""
    x1, y1, x2, y2 = entry["annotations"][0]["bbox"]
    entry["annotations"][0]["segmentation"] = [[x1, y1, x1, y2, x2, y2]]


def paste_once(cfg: CfgNode) -> tuple[dict, dict, dict]:
    """Image 5's object, pasted into image 0: the result and the two images."""
    cfg.INPUT.COPY_PASTE.PROB, cfg.INPUT.AFFINE.MODE, cfg.INPUT.AFFINE.FLIP_PROB = 1.0, "none", 0.0
    mapper = CenterNetDatasetMapper(cfg)
    first, second = (mapper(dict(DatasetCatalog.get(NAME)[k])) for k in (0, 5))
    # Away from the object of the first image.
    second = {**second, "image": second["image"].roll((40, 40), dims=(1, 2))}
    second["instances"] = mixing.move_instances(second["instances"], 40, 40, (SIDE, SIDE))
    np.random.seed(2)  # noqa: NPY002  # the first number is below 1/2
    return mixing.paste_objects(first, second), first, second


def test_pasted_objects_are_cut_out_by_their_masks(cfg):
    outline(DatasetCatalog.get(NAME)[5])
    sample, first, second = paste_once(cfg)
    assert sample["instances"].gt_classes.tolist() == [0, 5]
    assert torch.equal(sample["instances"].gt_boxes.tensor[1], second["instances"].gt_boxes.tensor[0])
    x1, y1, x2, y2 = second["instances"].gt_boxes.tensor[0].tolist()
    rows, columns = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
    # Distance, in pixels, below the diagonal.
    depth = (rows - y1) - (columns - x1) * (y2 - y1) / (x2 - x1)
    inside = (depth > 1.5) & (columns > x1 + 1) & (rows < y2 - 1)
    outside = (depth < -1.5) | (columns < x1 - 1) | (columns > x2 + 1) | (rows > y2 + 1)
    assert inside.sum() > 200
    assert torch.equal(sample["image"][:, inside], second["image"][:, inside])
    assert torch.equal(sample["image"][:, outside], first["image"][:, outside])


def test_objects_without_masks_or_that_hide_others_are_not_pasted(cfg):
    sample, first, second = paste_once(cfg)
    assert len(sample["instances"]) == 1 and torch.equal(sample["image"], first["image"])
    outline(DatasetCatalog.get(NAME)[5])
    _, first, second = paste_once(cfg)
    second["instances"].gt_boxes.tensor[:] = first["instances"].gt_boxes.tensor
    np.random.seed(2)  # noqa: NPY002
    assert len(mixing.paste_objects(first, second)["instances"]) == 1


def test_pasting_trains_a_task_of_boxes(cfg):
    for entry in DatasetCatalog.get(NAME):
        outline(entry)
    cfg.INPUT.COPY_PASTE.PROB = 1.0
    counts = [len(sample["instances"]) for sample in read_samples(cfg, 8)]
    assert set(counts) == {1, 2} and counts[10:] == [1] * 6


def test_both_end_before_the_schedule_does(cfg):
    """Of ten batches of two, the first five have mosaics."""
    cfg.INPUT.MOSAIC.PROB, cfg.INPUT.MOSAIC.SCALES, cfg.INPUT.AFFINE.MODE = 1.0, [1.0], "none"
    assert [len(sample["instances"]) for sample in read_samples(cfg, 8)] == [4] * 10 + [1] * 6


def test_a_stream_goes_on_where_it_stopped(cfg):
    cfg.INPUT.MOSAIC.PROB = cfg.INPUT.MIXUP.PROB = 0.5
    whole = read_samples(cfg, 4)
    rest = [sample for _, batch in zip(range(2), build_train_loader(cfg, 2), strict=False) for sample in batch]
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(whole[4:], rest, strict=True))


def test_what_cannot_be_mixed_is_refused(cfg):
    cfg.INPUT.MOSAIC.PROB = 0.5
    cfg.INPUT.AFFINE.KEEP_RESOLUTION_PROB = 0.5
    with pytest.raises(ValueError, match="KEEP_RESOLUTION_PROB"):
        build_train_loader(cfg)
    cfg.INPUT.AFFINE.KEEP_RESOLUTION_PROB = 0.0
    cfg.MODEL.CENTERNET.TASK = "Detection3DTask"
    with pytest.raises(ValueError, match="task that needs box3d"):
        build_train_loader(cfg)


def test_flips_end_with_their_part_of_the_schedule(cfg):
    """Five steps with mosaic, of which four have flips, then five without either."""
    cfg.INPUT.MOSAIC.PROB, cfg.INPUT.AFFINE.MODE = 1.0, "none"
    cfg.INPUT.AFFINE.FLIP_PROB, cfg.INPUT.AFFINE.FLIP_UNTIL = 1.0, 0.4
    flipped, mixed = [], []
    for sample in read_samples(cfg, 10):
        boxes = sample["instances"].gt_boxes.tensor
        side = SIDE // 2 if len(boxes) > 1 else SIDE
        # The rectangles are in the left half of their images.
        flipped.append({x > side / 2 for x in (boxes[:, [0, 2]].mean(dim=1) % side).tolist()})
        mixed.append(len(boxes) > 1)
    assert flipped == [{True}] * 8 + [{False}] * 12
    assert mixed == [True] * 10 + [False] * 10


@pytest.mark.parametrize("key", ["INPUT.AFFINE.FLIP_UNTIL", "INPUT.MIX_UNTIL"])
@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_a_part_of_the_schedule_that_is_none(cfg, key, fraction):
    cfg.merge_from_list([key, fraction])
    with pytest.raises(ValueError, match=rf"{key} must be in \[0, 1\]"):
        build_train_loader(cfg)
