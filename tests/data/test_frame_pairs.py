"""Which frame comes before, how it is warped, and what the network is given it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.transforms import TransformList
from detectron2.structures import BoxMode
from detectron2.utils import comm

from centernet_d2.data.build import build_test_loader, build_train_loader
from centernet_d2.data.dataset_mapper import CenterNetDatasetMapper
from centernet_d2.data.frame_pairs import FramePairs, PreviousFrames
from centernet_d2.data.transforms.affine import AffineTransform
from centernet_d2.geometry import build_affine_matrix
from tests.helpers.tiny import base_cfg

NAME = "test_previous_frame_videos"
LENGTHS = (5, 1, 7, 3)


@pytest.fixture
def videos(tmp_path):
    """Videos in which object t of video v is at (10 + 8 t + 2 frame, 20 + v); frame 1 of each lacks object 1."""
    dataset_dicts = []
    for video, length in enumerate(LENGTHS):
        for frame in range(length):
            path = tmp_path / f"{video}_{frame}.png"
            cv2.imwrite(str(path), np.full((48, 64, 3), 10 * video + frame, np.uint8))
            annotations = [
                {
                    "bbox": [6.0 + 8 * t + 2 * frame, 16.0 + video, 8, 8],
                    "bbox_mode": BoxMode.XYWH_ABS,
                    "category_id": 0,
                    "track_id": t,
                    "id": 10 * len(dataset_dicts) + t,
                    "iscrowd": 0,
                }
                for t in (1, 2)
                if not (t == 1 and frame == 1)
            ]
            dataset_dicts.append(
                {
                    "file_name": str(path), "image_id": len(dataset_dicts),
                    "height": 48, "width": 64, "video_id": video,
                    "frame": frame, "annotations": annotations,
                }
            )  # fmt: skip
    DatasetCatalog.register(NAME, lambda: dataset_dicts)
    MetadataCatalog.get(NAME).set(thing_classes=["thing"])
    yield dataset_dicts
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def tracking_cfg(*opts):
    cfg = base_cfg()
    cfg.MODEL.META_ARCHITECTURE = "CenterTrack"
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (NAME,), (NAME,)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.INPUT.SIZE_TRAIN = [48, 64]
    cfg.INPUT.AFFINE.MODE, cfg.INPUT.AFFINE.FLIP_PROB = "none", 0.0
    cfg.INPUT.COLOR.JITTER = cfg.INPUT.COLOR.LIGHTING = 0.0
    cfg.SOLVER.IMS_PER_BATCH, cfg.SEED = 4, 3
    cfg.merge_from_list(list(opts))
    return cfg


@pytest.mark.parametrize("distance", [0, 1, 2, 100])
def test_the_previous_frame_is_any_of_the_video_that_is_close_enough(videos, distance):
    """Every possible one is drawn in the end, and no other."""
    pairs = FramePairs(videos, distance)
    assert len(pairs) == len(videos)
    rng = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    for index, dataset_dict in enumerate(videos):
        expected = {
            (other["video_id"], other["frame"])
            for other in videos
            if other["video_id"] == dataset_dict["video_id"] and abs(other["frame"] - dataset_dict["frame"]) <= distance
        }
        drawn = [pairs[index] for _ in range(120)]
        assert {(x["previous"]["video_id"], x["previous"]["frame"]) for x in drawn} == expected
        assert all({**x, "previous": None} == {**dataset_dict, "previous": None} for x in drawn)
    np.random.set_state(rng)  # noqa: NPY002


def test_frames_that_are_missing_count_as_time(videos):
    """Distance is that of "frame", not of the list."""
    thinned = [dataset_dict for dataset_dict in videos if dataset_dict["frame"] not in (1, 2)]
    pairs = FramePairs(thinned, 2)
    first = next(i for i, x in enumerate(thinned) if x["video_id"] == 2 and x["frame"] == 0)
    assert {pairs[first]["previous"]["frame"] for _ in range(50)} == {0}
    assert {pairs[first + 1]["previous"]["frame"] for _ in range(80)} == {3, 4, 5}


def test_targets_are_where_the_same_object_was(videos):
    """2 pixels a frame; an object that was not there then is not learned, and the image is that of that frame."""
    mapper = CenterNetDatasetMapper(tracking_cfg("MODEL.TRACKING.FN_PROB", 0.0, "MODEL.TRACKING.FP_PROB", 0.0,
                                                 "MODEL.TRACKING.HEATMAP_JITTER", 0.0), is_train=True)  # fmt: skip
    now, before, absent = videos[4], videos[2], videos[1]
    sample = mapper({**now, "previous": before})
    instances = sample["instances"]
    assert instances.gt_track_ids.tolist() == [1, 2]
    expected = instances.gt_boxes.get_centers() - torch.tensor([4.0, 0.0])
    assert torch.allclose(instances.gt_previous_center.tensor[:, 0, :2], expected)
    assert instances.gt_previous_center.tensor[:, 0, 2].tolist() == [1, 1]
    assert (sample["image"] == 4).all() and (sample["previous_image"] == 2).all()
    assert torch.allclose(sample["previous_boxes"], instances.gt_boxes.tensor - torch.tensor([4.0, 0, 4, 0]))
    sample = mapper({**now, "previous": absent})
    assert sample["instances"].gt_previous_center.tensor[:, 0, 2].tolist() == [0, 1]
    assert sample["instances"].gt_previous_center.tensor[0].abs().sum() == 0
    assert len(sample["previous_boxes"]) == 1
    assert "previous" not in sample


def test_both_frames_go_through_one_crop_and_flipped(videos):
    """Displacements of an image twice as large and flipped are twice as long and flipped."""
    mapper = CenterNetDatasetMapper(
        tracking_cfg("INPUT.SIZE_TRAIN", [96, 128], "INPUT.AFFINE.FLIP_PROB", 1.0), is_train=True
    )
    instances = mapper({**videos[4], "previous": videos[3]})["instances"]
    moved = instances.gt_previous_center.tensor[:, 0, :2] - instances.gt_boxes.get_centers()
    assert torch.allclose(moved, torch.tensor([4.0, 0.0]).expand(2, 2))


def test_a_image_alone_is_its_own_previous_frame(videos):
    """As for training on single images: what moves is the crop."""
    alone = [{k: v for k, v in dataset_dict.items() if k not in ("video_id", "frame")} for dataset_dict in videos]
    for dataset_dict in alone:
        dataset_dict["annotations"] = [
            {k: v for k, v in a.items() if k != "track_id"} for a in dataset_dict["annotations"]
        ]
    pairs = FramePairs(alone, 5)
    mapper = CenterNetDatasetMapper(tracking_cfg("MODEL.TRACKING.SHIFT", 0.1), is_train=True)
    for index in (0, 1, 6):
        sample = mapper(pairs[index])
        moved = sample["instances"].gt_previous_center.tensor[:, 0, :2] - sample["instances"].gt_boxes.get_centers()
        assert sample["instances"].gt_previous_center.tensor[:, 0, 2].all()
        assert torch.allclose(moved, moved[:1].expand_as(moved), atol=1e-4) and moved.abs().max() > 0


def test_own_shift_and_zoom_are_about_the_center_of_the_input():
    np.random.seed(1)  # noqa: NPY002
    frames = PreviousFrames(shift=0.05, scale=0.2)
    base = AffineTransform(build_affine_matrix((30, 20), 1.7, 12.0, (96, 128)), (96, 128))
    shifts, zooms = [], []
    for _ in range(400):
        (moved,) = frames.sample_transforms(TransformList([base])).transforms
        center = base.inverse().apply_coords(np.array([[64.0, 48.0]]))
        shifts.append(moved.apply_coords(center)[0] - [64, 48])
        zooms.append(np.sqrt(np.linalg.det(moved.matrix[:, :2])) / 1.7)
    assert np.abs(shifts).max() <= 2 * 0.05 * 128 + 1e-9
    assert np.std(shifts) == pytest.approx(0.05 * 128, rel=0.1)
    assert min(zooms) >= 0.8 and max(zooms) <= 1.2 and np.std(zooms) > 0.1
    still = TransformList([base])
    assert PreviousFrames().sample_transforms(still).transforms[0] is base


def test_what_is_shown_is_near_lost_or_false_as_often_as_requested():
    np.random.seed(2)  # noqa: NPY002
    boxes = torch.tensor([[10.0, 20, 50, 100]]).repeat(4000, 1)
    assert torch.equal(PreviousFrames(center_noise=0, lost_prob=0, false_prob=0).sample_detections(boxes), boxes)
    shown = PreviousFrames(center_noise=0.1, lost_prob=0.25, false_prob=0.0).sample_detections(boxes)
    assert len(shown) == pytest.approx(3000, abs=100)
    assert torch.allclose(shown[:, 2:] - shown[:, :2], torch.tensor([40.0, 80.0]).expand(len(shown), 2), atol=1e-4)
    deviation = (shown - boxes[: len(shown)])[:, :2].std(dim=0)
    assert torch.allclose(deviation, torch.tensor([4.0, 8.0]), rtol=0.08)
    assert len(PreviousFrames(lost_prob=1.0, false_prob=0.1).sample_detections(boxes)) == pytest.approx(400, abs=60)
    assert PreviousFrames().sample_detections(boxes[:0]).shape == (0, 4)


def test_pairs_depend_on_the_seed_and_the_place_alone(videos):
    """So that a run can be resumed: the second batch is the same, requested first."""
    cfg = tracking_cfg()
    two = [batch for batch, _ in zip(build_train_loader(cfg), range(2), strict=False)][1]
    (second,) = [batch for batch, _ in zip(build_train_loader(cfg, 1), range(1), strict=False)]
    for one, other in zip(two, second, strict=True):
        assert torch.equal(one["previous_image"], other["previous_image"])
        assert torch.equal(one["previous_boxes"], other["previous_boxes"])


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_processes_share_whole_videos(videos, world_size, monkeypatch):
    """Every frame once, in order, and no video in two processes."""
    cfg = tracking_cfg()
    monkeypatch.setattr(comm, "get_world_size", lambda: world_size)
    seen = []
    for rank in range(world_size):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        seen.append([x for batch in build_test_loader(cfg, NAME) for x in batch])
    flat = [x["image_id"] for fraction in seen for x in fraction]
    assert flat == list(range(len(videos)))
    held = [{x["video_id"] for x in fraction} for fraction in seen]
    assert sum(map(len, held)) == len(LENGTHS)
