"""Patches and blur: where they are, how large, how often, and that nothing else changes."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.transforms import AugInput
from detectron2.structures import BoxMode
from fvcore.transforms.transform import NoOpTransform
from PIL import Image

from centernet_d2.data.dataset_mapper import CenterNetDatasetMapper
from centernet_d2.data.transforms.blur import FilterTransform, RandomBlur, make_gaussian_kernel, make_motion_kernel
from centernet_d2.data.transforms.build import build_augmentations
from centernet_d2.data.transforms.erasing import PatchTransform, RandomErasing
from centernet_d2.structures import Targets
from tests.helpers.tiny import base_cfg, tiny_model


@pytest.fixture(autouse=True)
def seeded() -> None:
    np.random.seed(0)  # noqa: NPY002


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (80, 120, 3), dtype=np.uint8)


def test_patches_keep_to_their_settings(noise: np.ndarray) -> None:
    augmentation = RandomErasing(prob=0.6, max_patches=3, max_size=0.5)
    counts, kinds = [], set()
    for _ in range(400):
        transform = augmentation.get_transform(noise)
        if isinstance(transform, NoOpTransform):
            counts.append(0)
            continue
        counts.append(len(transform.patches))
        for left, top, patch in transform.patches:
            rows, columns = patch.shape[:2]
            assert 0.3 * 40 - 0.5 <= min(rows, columns) <= max(rows, columns) <= 40
            assert 0 <= left <= 120 - columns and 0 <= top <= 80 - rows
            uniform = (patch == patch[0, 0]).all()
            copied = cv2.matchTemplate(noise, patch, cv2.TM_SQDIFF).min() < 1
            kinds.add("color" if uniform else "copy" if copied else "noise")
    assert kinds == {"color", "copy", "noise"}
    assert 0.52 < np.mean(np.array(counts) > 0) < 0.68
    assert all(60 < counts.count(k) < 105 for k in (1, 2, 3))


def test_patches_cover_what_they_say_and_nothing_else(noise: np.ndarray) -> None:
    before = noise.copy()
    transform = RandomErasing(prob=1.0, max_patches=1).get_transform(noise)
    ((left, top, patch),) = transform.patches
    changed = transform.apply_image(noise)
    np.testing.assert_array_equal(noise, before)
    np.testing.assert_array_equal(changed[top : top + patch.shape[0], left : left + patch.shape[1]], patch)
    mask = np.ones((80, 120), bool)
    mask[top : top + patch.shape[0], left : left + patch.shape[1]] = False
    np.testing.assert_array_equal(changed[mask], noise[mask])
    points = np.array([[left + 1.0, top + 1.0]])
    np.testing.assert_array_equal(transform.apply_coords(points), points)
    np.testing.assert_array_equal(transform.inverse().apply_image(changed), changed)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 2)])
def test_small_images_can_be_degraded(size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 7, np.uint8)
    for augmentation in (RandomErasing(1.0), RandomBlur(1.0)):
        for _ in range(20):
            assert augmentation.get_transform(image).apply_image(image).shape == image.shape


@pytest.mark.parametrize("deviation", [0.0, 0.4, 1.0, 2.7])
def test_gaussian_has_its_standard_deviation(deviation: float) -> None:
    kernel = make_gaussian_kernel(deviation)
    positions = np.arange(len(kernel)) - len(kernel) // 2
    assert kernel.sum() == pytest.approx(1) and (kernel * positions).sum() == pytest.approx(0)
    if deviation >= 1:
        assert math.sqrt((kernel * positions**2).sum()) == pytest.approx(deviation, rel=0.02)
    image = np.zeros((31, 31, 3), np.uint8)
    image[15, 15] = 255
    reach = len(kernel) // 2
    spot = FilterTransform(kernel).apply_image(image)[15 - reach : 16 + reach, 15 - reach : 16 + reach, 0]
    distances = positions[:, None] ** 2 + positions**2
    expected = np.exp(-distances / (2 * deviation**2)) if deviation else distances == 0
    # OpenCV's weights are multiples of 1/256 here.
    assert np.abs(spot - 255 * expected / expected.sum()).max() <= 2.5


@pytest.mark.parametrize("length, angle", [(0.0, 10.0), (2.5, 0.0), (3.0, 90.0), (9.0, 30.0), (6.2, 135.0)])
def test_motion_is_a_line_of_its_length_and_direction(length: float, angle: float) -> None:
    """By second moments: a uniform line of length L has variance L^2 / 12 along itself and none across; reading between
    cells adds at most a quarter."""
    kernel = make_motion_kernel(length, angle)
    reach = len(kernel) // 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    assert kernel.sum() == pytest.approx(1) and kernel.min() >= 0
    assert (kernel * x).sum() == pytest.approx(0) and (kernel * y).sum() == pytest.approx(0)
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    along, across = x * cosine + y * sine, y * cosine - x * sine
    assert -0.01 <= (kernel * along**2).sum() - length**2 / 12 <= 0.27 + 0.02 * length**2
    assert (kernel * across**2).sum() <= 0.27


def test_blur_keeps_positions_and_brightness(noise: np.ndarray) -> None:
    """The center of a spot stays where it is, and the sum of its values what it was."""
    image = np.zeros((41, 61, 3), np.uint8)
    image[18:23, 28:35] = 200
    y, x = np.mgrid[0:41, 0:61]
    for _ in range(40):
        blurred = RandomBlur(1.0, 4.0).get_transform(image).apply_image(image)[:, :, 0].astype(float)
        assert blurred.sum() == pytest.approx(7000, rel=0.02)
        assert (blurred * x).sum() / blurred.sum() == pytest.approx(31, abs=0.1)
        assert (blurred * y).sum() / blurred.sum() == pytest.approx(20, abs=0.1)


def test_blur_is_as_frequent_and_strong_as_requested(noise: np.ndarray) -> None:
    augmentation = RandomBlur(0.4, 2.0)
    transforms = [augmentation.get_transform(noise) for _ in range(400)]
    kernels = [t.kernel for t in transforms if isinstance(t, FilterTransform)]
    assert 0.33 < len(kernels) / 400 < 0.47
    assert 0.35 < np.mean([kernel.ndim == 1 for kernel in kernels]) < 0.65
    assert max(kernel.shape[0] for kernel in kernels) <= 13
    roughness = [np.abs(np.diff(t.apply_image(noise).astype(int), axis=1)).mean() for t in transforms[:60]]
    assert max(roughness) == np.abs(np.diff(noise.astype(int), axis=1)).mean() > 3 * min(roughness)


@pytest.mark.parametrize(
    "make, key",
    [
        (lambda: RandomErasing(prob=1.2), "RANDOM_ERASING.PROB"),
        (lambda: RandomErasing(max_patches=0), "RANDOM_ERASING.MAX_PATCHES"),
        (lambda: RandomErasing(max_size=1.5), "RANDOM_ERASING.MAX_SIZE"),
        (lambda: RandomBlur(prob=-1), "BLUR.PROB"),
        (lambda: RandomBlur(max_size=0), "BLUR.MAX_SIZE"),
    ],
)
def test_bad_settings_are_named(make, key: str) -> None:
    with pytest.raises(ValueError, match=f"INPUT.{key}"):
        make()


def _cfg() -> CfgNode:
    cfg = base_cfg()
    cfg.INPUT.SIZE_TRAIN = [64, 64]
    return cfg


def test_the_configuration_switches_them_on() -> None:
    cfg = _cfg()
    assert [type(a).__name__ for a in build_augmentations(cfg)] == ["RandomAffine", "RandomColor"]
    cfg.INPUT.RANDOM_ERASING.PROB, cfg.INPUT.RANDOM_ERASING.MAX_PATCHES, cfg.INPUT.RANDOM_ERASING.MAX_SIZE = 0.5, 4, 0.2
    cfg.INPUT.BLUR.PROB, cfg.INPUT.BLUR.MAX_SIZE = 0.25, 5.0
    _, occlusion, blur, _ = build_augmentations(cfg)
    assert (occlusion.prob, occlusion.max_patches, occlusion.max_size) == (0.5, 4, 0.2)
    assert (blur.prob, blur.max_size) == (0.25, 5.0)


def test_objects_and_keypoints_stay_as_they_are(tmp_path, noise: np.ndarray) -> None:
    Image.fromarray(noise).save(tmp_path / "a.png")
    points = [20, 30, 2, 60, 40, 2, 10, 25, 1]
    annotation = {"bbox": [5, 20, 70, 50], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, "keypoints": points}
    dataset_dict = {"file_name": str(tmp_path / "a.png"), "image_id": 1, "annotations": [annotation]}
    cfg = _cfg()
    cfg.INPUT.SIZE_TRAIN = [80, 120]
    cfg.INPUT.AFFINE.MODE, cfg.INPUT.AFFINE.FLIP_PROB, cfg.INPUT.COLOR.JITTER = "none", 0.0, 0.0
    cfg.INPUT.RANDOM_ERASING.PROB, cfg.INPUT.RANDOM_ERASING.MAX_PATCHES, cfg.INPUT.RANDOM_ERASING.MAX_SIZE = 1.0, 8, 1.0
    cfg.INPUT.BLUR.PROB = 1.0
    cfg.MODEL.CENTERNET.TASK = "KeypointRegressionTask"
    cfg.DATASETS.TRAIN = ("test_degradation",)
    MetadataCatalog.get("test_degradation").set(keypoint_names=["a", "b", "c"], keypoint_flip_map=[])
    sample = CenterNetDatasetMapper(cfg, is_train=True)(dataset_dict)
    assert sample["instances"].gt_boxes.tensor.tolist() == [[5, 20, 70, 50]]
    assert sample["instances"].gt_keypoints.tensor.ravel().tolist() == points
    assert (sample["image"].permute(1, 2, 0).numpy()[:, :, ::-1] != noise).mean() > 0.5


def test_patches_of_the_image_are_of_the_image_as_it_is(noise: np.ndarray) -> None:
    """A patch is a copy: one that was cut from under another shows what was there before."""
    first = noise[10:20, 10:20].copy()
    seen = AugInput(noise.copy())
    transform = PatchTransform([(30, 40, first), (35, 45, np.zeros((5, 5, 3), np.uint8))])
    seen.transform(transform)
    np.testing.assert_array_equal(seen.image[40:45, 30:40], first[:5])
    assert not seen.image[45:50, 35:40].any()


def test_a_batch_of_kept_sizes_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of different sizes go through together, and each object's target is where it is without company."""
    cfg = _cfg()
    cfg.INPUT.AFFINE.KEEP_RESOLUTION_PROB = 1.0
    (affine, _) = build_augmentations(cfg)
    model = tiny_model()
    samples = []
    for height, width in ((37, 50), (64, 30), (22, 81)):
        dataset_dict = {"file_name": f"synthetic://synthetic_shapes_val/{width}", "image_id": width}
        annotation = {"bbox": [5, 6, 25, 20], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1}
        dataset_dict |= {"crop": [0, 0, width, height], "height": height, "width": width, "annotations": [annotation]}
        samples.append(CenterNetDatasetMapper(is_train=True, augmentations=[affine])(dataset_dict))
        assert samples[-1]["image"].shape == (3, height, width)
    seen: list[Targets] = []

    encode = model.task.encode

    def note(objects: Targets) -> Any:
        seen.append(objects)
        return encode(objects)

    monkeypatch.setattr(model.task, "encode", note)
    losses = model(samples)
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    (objects,) = seen
    assert objects.grid_size == (16, 21) and objects.image_index.tolist() == [0, 1, 2]
    expected = torch.cat([sample["instances"].gt_boxes.tensor for sample in samples]) / 4
    torch.testing.assert_close(objects.boxes, expected)
