"""torchvision's changes of color: what they do to an image, what they leave alone, what is refused, what is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.structures import BoxMode
from fvcore.transforms.transform import NoOpTransform
from PIL import Image, ImageOps
from torchvision.transforms import v2

from centernet_d2.data.build import build_train_loader
from centernet_d2.data.transforms.photometric import NAMES, RandomPhotometric, build_photometric
from tests.helpers.tiny import base_cfg

NAME = "test_photometric"
ALWAYS: dict[str, dict[str, Any]] = {
    "ColorJitter": {"brightness": [1.1, 1.1], "contrast": [0.8, 0.8], "saturation": [0.7, 0.7], "hue": [0.1, 0.1]},
    "GaussianBlur": {"kernel_size": 5, "sigma": [1.0, 1.0]},
    "GaussianNoise": {"sigma": 0.02},
    "JPEG": {"quality": [80, 90]},
    "RandomAdjustSharpness": {"sharpness_factor": 1.5, "p": 1.0},
    "RandomAutocontrast": {"p": 1.0},
    "RandomChannelPermutation": {},
    "RandomEqualize": {"p": 1.0},
    "RandomGrayscale": {"p": 1.0},
    "RandomInvert": {"p": 1.0},
    "RandomPhotometricDistort": {"p": 1.0},
    "RandomPosterize": {"bits": 4, "p": 1.0},
    "RandomSolarize": {"threshold": 128, "p": 1.0},
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    np.random.seed(0)  # noqa: NPY002


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def _changed(image: np.ndarray, name: str, arguments: dict[str, Any], format: str = "RGB") -> np.ndarray:
    return RandomPhotometric(name, arguments, format=format).get_transform(image).apply_image(image)


@pytest.mark.parametrize("format", ["BGR", "RGB"])
def test_changes_equal_those_of_another_library(noise: np.ndarray, format: str) -> None:
    """PIL's, on the image in its own order."""
    image = Image.fromarray(noise)
    expected = {
        "RandomInvert": ImageOps.invert(image),
        "RandomPosterize": ImageOps.posterize(image, 4),
        "RandomSolarize": ImageOps.solarize(image, 128),
        "RandomGrayscale": image.convert("L").convert("RGB"),
        "RandomAutocontrast": ImageOps.autocontrast(image),
    }
    order = slice(None, None, -1) if format == "BGR" else slice(None)
    for name, wanted in expected.items():
        changed = _changed(np.ascontiguousarray(noise[..., order]), name, ALWAYS[name], format)[..., order]
        assert np.abs(changed.astype(int) - np.asarray(wanted)).max() <= 1, name


@pytest.mark.parametrize("format, red", [("BGR", 2), ("RGB", 0)])
def test_red_rotated_by_a_third_of_the_circle_is_green(format: str, red: int) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[..., red] = 200
    changed = _changed(image, "ColorJitter", {"hue": [1 / 3, 1 / 3]}, format)
    expected = np.zeros_like(image)
    expected[..., 1] = 200
    assert np.abs(changed.astype(int) - expected).max() <= 2


def test_noise_has_its_deviation(noise: np.ndarray) -> None:
    gray = np.full((200, 200, 3), 128, np.uint8)
    changed = _changed(gray, "GaussianNoise", {"sigma": 0.05}).astype(float) - 128
    assert changed.std() == pytest.approx(0.05 * 255, rel=0.05) and abs(changed.mean()) < 1


@pytest.mark.parametrize("name", NAMES)
def test_nothing_moves(name: str) -> None:
    """What differs from its surroundings does so where it did before."""
    image = np.full((64, 96, 3), (90, 60, 30), np.uint8)
    image[20:30, 50:70] = (150, 200, 240)
    image[0, 0] = (0, 5, 10)
    changed = _changed(image, name, ALWAYS[name]).astype(float)
    assert not np.array_equal(changed, image)
    distance = np.abs(changed - np.median(changed, axis=(0, 1))).sum(axis=2)
    rows, columns = np.nonzero(distance[2:, 2:] > distance[25, 60] / 2)
    assert [rows.min() + 2, rows.max() + 3, columns.min() + 2, columns.max() + 3] == [20, 30, 50, 70]
    transform = RandomPhotometric(name, ALWAYS[name]).get_transform(image)
    points = np.array([[1.5, 2.5]])
    np.testing.assert_array_equal(transform.apply_coords(points), points)


def test_a_synthetic_change_is_the_same_for_every_image_and_leaves_torch_alone(noise: np.ndarray) -> None:
    augmentation = RandomPhotometric("RandomPhotometricDistort", {"p": 0.9})
    state, original = torch.get_rng_state(), noise.copy()
    transforms = [augmentation.get_transform(noise) for _ in range(20)]
    results = [transform.apply_image(noise) for transform in transforms]
    torch.rand(3)
    for transform, result in zip(transforms, results, strict=True):
        np.testing.assert_array_equal(transform.apply_image(noise), result)
    assert len({result.tobytes() for result in results}) > 15
    torch.set_rng_state(state)
    transforms[0].apply_image(noise)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(noise, original)


def test_the_probability_is_kept(noise: np.ndarray) -> None:
    augmentation = RandomPhotometric("GaussianNoise", {}, 0.3)
    used = [not isinstance(augmentation.get_transform(noise), NoOpTransform) for _ in range(500)]
    assert 0.24 < np.mean(used) < 0.36


@pytest.mark.parametrize("name", [*sorted(set(dir(v2)) - set(NAMES)), "Sepia", "nn"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"INPUT\.PHOTOMETRIC: {name} .*GaussianNoise.*INPUT\.AFFINE"):
        RandomPhotometric(name, {})


@pytest.mark.parametrize(
    "entry, message",
    [
        (["GaussianNoise", {"sigam": 0.1}], "GaussianNoise.*sigam"),
        (["GaussianNoise", {"sigma": -0.1}], "GaussianNoise.*sigma"),
        (["GaussianBlur", {"kernel_size": 4}], "GaussianBlur.*odd"),
        (["RandomPosterize", {"bits": 9}], "RandomPosterize.*bits"),
        (["RandomPosterize", {}], "RandomPosterize.*bits"),
        (["JPEG", {"quality": [0, 200]}], "JPEG.*quality"),
        (["GaussianNoise", {}, 1.5], "probability of GaussianNoise.*1.5"),
        ("GaussianNoise", "'GaussianNoise' is not"),
        (["GaussianNoise"], "is not .name"),
        (["GaussianNoise", 0.1], "is not .name"),
        (["GaussianNoise", {}, "often"], "is not .name"),
    ],
)
def test_bad_entries_are_named(entry: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"INPUT\.PHOTOMETRIC: .*{message}"):
        build_photometric([entry], "BGR")


@pytest.fixture
def cfg(tmp_path: Path, noise: np.ndarray) -> Iterator[CfgNode]:
    Image.fromarray(noise).save(tmp_path / "a.png")
    box = {"bbox": [5, 6, 25, 20], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
    dataset_dict = {"file_name": str(tmp_path / "a.png"), "annotations": [box]}
    DatasetCatalog.register(NAME, lambda: [{**dataset_dict, "image_id": number} for number in range(6)])
    cfg = base_cfg()
    cfg.merge_from_file(str(Path(__file__).parents[3] / "configs" / "Base-strong-augmentation.yaml"))
    cfg.DATASETS.TRAIN, cfg.SEED = (NAME,), 5
    cfg.INPUT.SIZE_TRAIN = [64, 64]
    cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS = 4, 0
    yield cfg
    DatasetCatalog.remove(NAME)


def test_runs_can_be_repeated_and_resumed(cfg: CfgNode) -> None:
    def batches(start: int, end: int) -> list[torch.Tensor]:
        torch.manual_seed(start)  # nothing depends on torch's own state
        loader = iter(build_train_loader(cfg, start))
        return [sample["image"] for _ in range(start, end) for sample in next(loader)]

    whole = batches(0, 5)
    assert len({image.numpy().tobytes() for image in whole}) == 20
    assert all(map(torch.equal, whole[8:], batches(2, 5)))
    cfg.DATALOADER.NUM_WORKERS = 2
    assert all(map(torch.equal, whole, batches(0, 5)))


def test_what_is_wrong_is_said_before_any_worker_starts(cfg: CfgNode) -> None:
    cfg.DATALOADER.NUM_WORKERS = 2
    cfg.INPUT.PHOTOMETRIC = [["RandomPerspective", {}]]
    with pytest.raises(ValueError, match=r"INPUT\.PHOTOMETRIC: RandomPerspective moves"):
        build_train_loader(cfg)
