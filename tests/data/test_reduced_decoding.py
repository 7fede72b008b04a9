"""Decoding at a fraction of the size: what is where, how close to the mean over each pixel's area, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.structures import BoxMode
from PIL import Image

from centernet_d2.config import get_cfg
from centernet_d2.data.dataset_mapper import CenterNetDatasetMapper
from centernet_d2.data.image_io import CorruptImageError, read_image, read_reduced
from centernet_d2.data.transforms.affine import AffineTransform
from centernet_d2.geometry import build_affine_matrix, build_letterbox_matrix
from tests.helpers.tiny import base_cfg


def _areas(image: np.ndarray, reduction: int) -> np.ndarray:
    """Mean of each block; the last ones go on as the image ends."""
    height, width = (-(-side // reduction) for side in image.shape[:2])
    padding = [(0, height * reduction - image.shape[0]), (0, width * reduction - image.shape[1]), (0, 0)]
    padded = np.pad(image.astype(float), padding, mode="edge")
    return padded.reshape(height, reduction, width, reduction, 3).mean(axis=(1, 3))


@pytest.fixture
def smooth() -> np.ndarray:
    """(301, 419, 3), waves of 60 pixels and more."""
    ys, xs = np.mgrid[:301, :419]
    waves = [np.sin(xs / 11) * np.cos(ys / 13), np.cos(xs / 14 + ys / 17), np.sin(ys / 10 - xs / 20)]
    return np.round(127 + 100 * np.stack(waves, axis=2)).astype(np.uint8)


@pytest.fixture
def path(tmp_path: Path, smooth: np.ndarray) -> Path:
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=98, subsampling=0)
    return tmp_path / "a.jpg"


@pytest.mark.parametrize("reduction", [2, 4, 8])
@pytest.mark.parametrize("format", ["RGB", "BGR"])
def test_pixels_are_means_of_those_they_stand_for(path: Path, smooth: np.ndarray, reduction: int, format: str) -> None:
    image, done = read_reduced({"file_name": str(path), "height": 301, "width": 419}, format, reduction)
    expected = _areas(smooth if format == "RGB" else smooth[:, :, ::-1], reduction)
    assert done == reduction and image.shape == expected.shape
    # The last row and column are what the encoder made up, in part.
    assert np.abs(image - expected)[:-1, :-1].mean() < 0.7 and np.abs(image - expected)[:-1, :-1].max() <= 4
    with pytest.raises(CorruptImageError, match="419 wide and 301 high; its annotation says 210 and 151"):
        read_reduced({"file_name": str(path), "height": 151, "width": 210}, format, reduction)


def test_other_images_are_read_whole(tmp_path: Path, path: Path, smooth: np.ndarray) -> None:
    Image.fromarray(smooth).save(tmp_path / "a.png")
    rotated = Image.Exif()
    rotated[0x0112] = 6
    Image.fromarray(smooth).save(tmp_path / "rotated.jpg", exif=rotated)
    Image.fromarray(smooth).convert("CMYK").save(tmp_path / "printed.jpg")
    dataset_dicts: list[dict[str, Any]] = [
        {"file_name": str(tmp_path / n)} for n in ("a.png", "rotated.jpg", "printed.jpg")
    ]
    dataset_dicts += [
        {"file_name": str(path), "crop": [20, 10, 80, 90]},
        {"file_name": "synthetic://synthetic_shapes_val/1"},
    ]
    for dataset_dict in dataset_dicts:
        image, reduction = read_reduced(dataset_dict, "BGR", 4)
        assert reduction == 1
        np.testing.assert_array_equal(image, read_image(dataset_dict, "BGR"))


def test_a_truncated_file_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(CorruptImageError, match="truncated"):
        read_reduced({"file_name": str(path)}, "BGR", 2)


@pytest.mark.parametrize("pixel_center", [0.5, 0.0])
@pytest.mark.parametrize("scale, reduction", [(0.5, 2), (0.3, 2), (0.24, 4), (0.11, 8)])
@pytest.mark.parametrize("flip", [False, True])
def test_everything_stays_in_its_place(
    path: Path, pixel_center: float, scale: float, reduction: int, flip: bool
) -> None:
    """On waves, whole and reduced image are the same after the warp; a shift by an image's pixel is not."""
    size = (round(260 * scale), round(380 * scale))
    transform = AffineTransform(build_affine_matrix((208.3, 151.9), scale, 7.0, size, flip), size, pixel_center)
    assert transform.reduction() == reduction
    dataset_dict = {"file_name": str(path)}
    whole = transform.apply_image(read_image(dataset_dict)).astype(float)
    image, done = read_reduced(dataset_dict, "BGR", reduction)
    reduced = transform.adapt_to_reduced(done).apply_image(image)
    inside = slice(5, -5), slice(5, -5)
    difference = np.abs(whole - reduced)[inside].mean()
    # A mean over ``reduction`` pixels flattens a wave a little: by the square of their number.
    limit = 0.5 + 0.12 * reduction**2
    assert difference < limit
    matrix = transform.matrix.copy()
    matrix[:, 2] += (reduction - 1) / 2 * matrix[:, :2].sum(axis=1)
    shifted = AffineTransform(matrix, size, pixel_center).adapt_to_reduced(done).apply_image(image)
    assert np.abs(whole - shifted)[inside].mean() > 2 * limit


@pytest.mark.parametrize(
    "scale, reduction", [(2.0, 1), (0.51, 1), (0.5, 2), (0.26, 2), (0.25, 4), (0.125, 8), (0.01, 8)]
)
def test_the_reduced_image_is_never_enlarged(scale: float, reduction: int) -> None:
    for angle in (0.0, 33.0):
        assert AffineTransform(build_affine_matrix((9, 9), scale, angle, (64, 64)), (64, 64)).reduction() == reduction


def test_the_direction_that_shrinks_least_counts() -> None:
    assert AffineTransform(np.array([[0.3, 0.0, 9], [0.0, 0.1, 9]]), (64, 64)).reduction() == 2
    assert AffineTransform(np.array([[0.1, 0.0, 9], [0.0, 0.6, 9]]), (64, 64)).reduction() == 1
    assert AffineTransform(np.array([[0.4, 0.4, 9], [0.0, 0.4, 9]]), (64, 64)).reduction() == 1  # a diagonal: 0.65


def _cfg(**settings: Any) -> CfgNode:
    cfg = base_cfg()
    cfg.INPUT.SIZE_TRAIN = [96, 128]
    cfg.INPUT.AFFINE.MODE, cfg.INPUT.COLOR.JITTER, cfg.INPUT.COLOR.LIGHTING = "none", 0.0, 0.0
    cfg.INPUT.REDUCED_DECODING = True
    for key, value in settings.items():
        cfg.INPUT[key] = value
    return cfg


@pytest.fixture
def dataset_dict(path: Path) -> dict[str, Any]:
    annotation = {"bbox": [50, 40, 200, 180], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
    return {"file_name": str(path), "image_id": 1, "height": 301, "width": 419, "annotations": [annotation]}


def _samples(cfg: CfgNode, dataset_dict: dict[str, Any]) -> list[dict[str, Any]]:
    np.random.seed(0)  # noqa: NPY002
    mapper = CenterNetDatasetMapper(cfg, is_train=True)
    return [mapper(dataset_dict) for _ in range(8)]


def test_objects_are_the_same_and_images_nearly(dataset_dict: dict[str, Any]) -> None:
    """Also with everything random switched on: what is drawn does not depend on how images are decoded."""
    cfg = _cfg()
    cfg.INPUT.AFFINE.MODE, cfg.INPUT.AFFINE.BORDER, cfg.INPUT.AFFINE.SHEAR = "crop", 64, 5.0
    cfg.INPUT.COLOR.JITTER, cfg.INPUT.BLUR.PROB = 0.4, 0.5
    reduced = _samples(cfg, dataset_dict)
    cfg.INPUT.REDUCED_DECODING = False
    whole = _samples(cfg, dataset_dict)
    for ours, theirs in zip(reduced, whole, strict=True):
        assert (ours["height"], ours["width"]) == (theirs["height"], theirs["width"]) == (301, 419)
        assert torch.equal(ours["instances"].gt_boxes.tensor, theirs["instances"].gt_boxes.tensor)
        assert (ours["image"].float() - theirs["image"].float()).abs().mean() < 2
    assert any(not torch.equal(ours["image"], theirs["image"]) for ours, theirs in zip(reduced, whole, strict=True))


def test_without_the_switch_or_the_size_images_are_decoded_whole(
    dataset_dict: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    requested: list[int] = []

    def noted(dataset_dict: dict[str, Any], format: str, reduction: int) -> tuple[np.ndarray, int]:
        requested.append(reduction)
        return read_reduced(dataset_dict, format, reduction)

    monkeypatch.setattr("centernet_d2.data.dataset_mapper.read_reduced", noted)
    CenterNetDatasetMapper(_cfg(), is_train=True)(dataset_dict)
    assert requested == [2]
    CenterNetDatasetMapper(_cfg(REDUCED_DECODING=False), is_train=True)(dataset_dict)
    CenterNetDatasetMapper(_cfg(), is_train=False)(dataset_dict)
    CenterNetDatasetMapper(_cfg(), is_train=True)(
        {k: v for k, v in dataset_dict.items() if k not in ("height", "width")}
    )
    CenterNetDatasetMapper(_cfg(), is_train=True)({**dataset_dict, "crop": [0, 0, 419, 301]})
    assert requested == [2] and not get_cfg().INPUT.REDUCED_DECODING


def test_the_previous_frame_is_decoded_as_its_follower(dataset_dict: dict[str, Any]) -> None:
    cfg = _cfg()
    cfg.MODEL.META_ARCHITECTURE = "CenterTrack"
    cfg.MODEL.TRACKING.SHIFT = cfg.MODEL.TRACKING.SCALE = 0.0
    (sample, *_) = _samples(cfg, {**dataset_dict, "previous": dataset_dict})
    assert torch.equal(sample["image"], sample["previous_image"])


@pytest.mark.parametrize("shrink", [2.5, 3.75, 5.5, 11.0])
def test_photos_come_close_to_the_mean_over_each_pixels_area(shared_data: Path, shrink: float) -> None:
    """The stated difference: 4 gray levels in the mean; a whole image, warped bilinearly, skips pixels and is
    further away."""
    ours, plain = [], []
    for path in sorted((shared_data / "voc" / "images").glob("*.jpg")):
        image = read_image({"file_name": str(path)})
        size = (int(image.shape[0] / shrink), int(image.shape[1] / shrink))
        transform = AffineTransform(build_letterbox_matrix(image.shape[:2], size, 1 / shrink), size)
        fine = AffineTransform(8 * transform.matrix, (8 * size[0], 8 * size[1])).apply_image(image)
        gt = cv2.resize(fine.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)[1:-1, 1:-1]
        reduced, done = read_reduced({"file_name": str(path)}, "BGR", transform.reduction())
        ours.append(np.abs(transform.adapt_to_reduced(done).apply_image(reduced)[1:-1, 1:-1] - gt).mean())
        plain.append(np.abs(transform.apply_image(image)[1:-1, 1:-1] - gt).mean())
    assert max(ours) < 6 and np.mean(ours) < 4 and np.mean(ours) < 0.6 * np.mean(plain)
