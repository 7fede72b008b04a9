"""The geometry and color of training, against plain float versions written here."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch

from centernet_d2.data.transforms.affine import AffineTransform, RandomAffine
from centernet_d2.data.transforms.color import ColorTransform, RandomColor
from centernet_d2.geometry import build_affine_matrix, build_letterbox_matrix
from centernet_d2.ops.grid_coding import compute_grid_points, flip_grid_points

GRAY = np.array([0.114, 0.587, 0.299])


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.fixture
def smooth() -> np.ndarray:
    ys, xs = np.mgrid[:90, :120] + 0.5
    waves = [np.sin(xs / 11) * np.cos(ys / 9), np.cos(xs / 13 + ys / 17), np.sin(ys / 8)]
    return np.round(127 + 100 * np.stack(waves, axis=2)).astype(np.uint8)


def _bilinear(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int], pixel_center: float) -> np.ndarray:
    """Every output pixel's center sent back to the image, its four neighbors weighted; black outside."""
    padded = np.pad(image.astype(float), ((2, 2), (2, 2), (0, 0)))
    linear = np.linalg.inv(matrix[:, :2])
    result = np.zeros((*size, 3))
    for row in range(size[0]):
        for column in range(size[1]):
            x, y = linear @ (np.array([column, row]) + pixel_center - matrix[:, 2]) - pixel_center
            left, top = math.floor(x), math.floor(y)
            if not (-1 <= left < image.shape[1] and -1 <= top < image.shape[0]):
                continue
            u, v = x - left, y - top
            block = padded[top + 2 : top + 4, left + 2 : left + 4]
            weights = np.outer([1 - v, v], [1 - u, u])
            result[row, column] = (block * weights[:, :, None]).sum(axis=(0, 1))
    return result


@pytest.mark.parametrize("pixel_center", [0.5, 0.0])
@pytest.mark.parametrize("flip", [False, True])
def test_warp_equals_bilinear_interpolation(smooth: np.ndarray, pixel_center: float, flip: bool) -> None:
    matrix = build_affine_matrix((50.3, 41.7), 0.83, 12.0, (64, 80), flip)
    warped = AffineTransform(matrix, (64, 80), pixel_center).apply_image(smooth)
    difference = np.abs(warped - _bilinear(smooth, matrix, (64, 80), pixel_center))
    # OpenCV may interpolate at multiples of 1/32 pixel.
    assert difference.mean() < 0.6
    assert np.quantile(difference, 0.98) < 3


def test_flipping_twice_is_the_identity(noise: np.ndarray) -> None:
    size = noise.shape[:2]
    flip = AffineTransform(build_affine_matrix((30, 20), 1.0, 0.0, size, flip=True), size)
    np.testing.assert_array_equal(flip.apply_image(noise), noise[:, ::-1])
    np.testing.assert_array_equal(flip.apply_image(flip.apply_image(noise)), noise)
    boxes = np.random.default_rng(1).integers(0, 1024, (100, 4)) / 16
    boxes[:, 2:] += boxes[:, :2]
    np.testing.assert_array_equal(flip.apply_box(flip.apply_box(boxes)), boxes)
    np.testing.assert_array_equal(flip.apply_coords(flip.apply_coords(boxes[:, :2])), boxes[:, :2])
    assert flip.flips
    assert not AffineTransform(build_affine_matrix((30, 20), 1.0, 90.0, size), size).flips


def test_inverse_undoes_the_coordinates_and_restores_the_size(smooth: np.ndarray) -> None:
    transform = AffineTransform(build_affine_matrix((60, 45), 0.9, 20.0, (128, 128), flip=True), (128, 128))
    back = transform.inverse()
    points = np.random.default_rng(2).uniform(0, 90, (50, 2))
    np.testing.assert_allclose(back.apply_coords(transform.apply_coords(points)), points, atol=1e-9)
    warped = transform.apply_image(smooth)
    restored = transform.inverse().apply_image(warped)
    assert restored.shape == smooth.shape
    assert np.abs(restored[30:60, 40:80].astype(int) - smooth[30:60, 40:80]).mean() < 2


def test_box_encloses_its_rotated_corners() -> None:
    transform = AffineTransform(build_affine_matrix((0, 0), 1.0, 90.0, (0, 0)), (10, 10))
    np.testing.assert_allclose(transform.apply_box(np.array([[1.0, 2.0, 5.0, 4.0]])), [[2, -5, 4, -1]], atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_image_and_box_move_together(seed: int) -> None:
    """A filled box, warped, lies where the warped box says; an error of half an image pixel would be 0.7 or more."""
    np.random.seed(seed)  # noqa: NPY002
    image = np.zeros((200, 300, 3), np.uint8)
    image[80:130, 120:190] = 240
    transform = RandomAffine((512, 512), mode="shift", shift=0.02, scale=0.2).get_transform(image)
    x1, y1, x2, y2 = transform.apply_box(np.array([[120.0, 80.0, 190.0, 130.0]]))[0]
    assert x1 > 1 and y1 > 1 and x2 < 511 and y2 < 511
    weights = transform.apply_image(image)[:, :, 0] / 240.0
    total = weights.sum()
    ys, xs = np.mgrid[:512, :512] + 0.5
    assert (weights * xs).sum() / total == pytest.approx((x1 + x2) / 2, abs=0.1)
    assert (weights * ys).sum() / total == pytest.approx((y1 + y2) / 2, abs=0.1)
    assert total == pytest.approx((x2 - x1) * (y2 - y1), rel=0.01)


@pytest.mark.parametrize("flip", [False, True])
def test_points_of_the_warped_box_are_the_warped_points_of_the_box(flip: bool) -> None:
    boxes = np.random.default_rng(3).uniform(0, 500, (200, 4))
    boxes[:, 2:] += boxes[:, :2]
    transform = AffineTransform(build_affine_matrix((310.3, 200.9), 0.713, 0.0, (384, 512), flip), (384, 512))
    warped_first = compute_grid_points(
        torch.from_numpy(transform.apply_box(boxes)), flip_grid_points(range(9)) if flip else range(9)
    )
    points_first = transform.apply_coords(compute_grid_points(torch.from_numpy(boxes), range(9)).numpy())
    np.testing.assert_allclose(warped_first, points_first, atol=1e-9)


@pytest.mark.parametrize("size", [(480, 640), (100, 700), (33, 20), (1, 1), (4000, 3)])
def test_crop_stays_in_its_range(size: tuple[int, int]) -> None:
    scales = [0.6, 1.0, 1.3]
    augmentation = RandomAffine((256, 512), mode="crop", scales=scales, border=128, flip_prob=0.0)
    fitted = min(256 / size[0], 512 / size[1])
    borders = []
    for side in size:
        halvings = next(k for k in range(20) if side - 128 // 2**k > 128 // 2**k)
        borders.append(128 // 2**halvings)
    image = np.broadcast_to(np.zeros(3, np.uint8), (*size, 3))
    zooms, centers = set(), []
    for _ in range(300):
        matrix = augmentation.get_transform(image).matrix
        zooms.add(round(fitted / matrix[0, 0], 6))
        centers.append(np.linalg.solve(matrix[:, :2], np.array([256, 128]) - matrix[:, 2])[::-1])
    assert zooms == set(scales)
    low, high = np.min(centers, axis=0), np.max(centers, axis=0)
    for axis, border in enumerate(borders):
        span = size[axis] - 2 * border
        assert border - 1e-6 <= low[axis] <= border + 0.05 * span
        assert size[axis] - border - 0.05 * span <= high[axis] <= size[axis] - border + 1e-6


def test_shift_is_clipped_and_no_augmentation_is_the_letterbox(noise: np.ndarray) -> None:
    augmentation = RandomAffine((128, 128), mode="shift", shift=0.1, scale=0.4, flip_prob=0.0)
    for _ in range(200):
        matrix = augmentation.get_transform(noise).matrix
        zoom = (128 / 60) / matrix[0, 0]
        assert 0.6 - 1e-9 <= zoom <= 1.4 + 1e-9
        center = np.linalg.solve(matrix[:, :2], np.array([64, 64]) - matrix[:, 2])
        assert np.abs(center - [30, 20]).max() <= 12 + 1e-9
    for size in ((128, 128), (40, 61)):
        plain = RandomAffine(size, mode="none", flip_prob=0.0).get_transform(noise)
        np.testing.assert_array_equal(plain.matrix, build_letterbox_matrix(noise.shape[:2], size))
        swapped = RandomAffine(size, mode="none", flip_prob=1.0).get_transform(noise)
        np.testing.assert_array_equal(swapped.apply_image(noise)[:, ::-1], plain.apply_image(noise))


def test_rotation_keeps_to_its_probability_and_range(noise: np.ndarray) -> None:
    augmentation = RandomAffine((64, 64), mode="none", flip_prob=0.0, rotation_prob=0.5, rotation=10.0)
    angles = []
    for _ in range(400):
        matrix = augmentation.get_transform(noise).matrix
        angles.append(math.degrees(math.atan2(matrix[0, 1], matrix[0, 0])))
    rotated = np.abs(angles) > 1e-9
    assert 0.4 < rotated.mean() < 0.6
    assert np.abs(angles).max() <= 20 + 1e-9
    assert 7 < np.std(np.array(angles)[rotated]) < 12


@pytest.mark.parametrize("mode", ["crop", "shift", "none"])
def test_a_kept_resolution_is_the_image_itself(noise: np.ndarray, mode: str) -> None:
    kept = RandomAffine((64, 96), mode=mode, flip_prob=0.0, keep_resolution_prob=1.0, keep_resolution_max=60)
    np.testing.assert_array_equal(kept.get_transform(noise).apply_image(noise), noise)
    flipped = RandomAffine((64, 96), mode=mode, flip_prob=1.0, keep_resolution_prob=1.0).get_transform(noise)
    np.testing.assert_array_equal(flipped.apply_image(noise), noise[:, ::-1])
    assert flipped.flips
    too_large = RandomAffine((64, 96), mode=mode, keep_resolution_prob=1.0, keep_resolution_max=59)
    assert too_large.get_transform(noise).apply_image(noise).shape == (64, 96, 3)


def test_a_kept_resolution_may_be_rotated_around_the_center(noise: np.ndarray) -> None:
    kept = RandomAffine((64, 96), rotation_prob=1.0, rotation=10.0, flip_prob=0.0, keep_resolution_prob=1.0)
    transform = kept.get_transform(noise)
    assert transform.rotates and transform.apply_image(noise).shape == noise.shape
    np.testing.assert_allclose(transform.apply_coords(np.array([[30.0, 20.0]])), [[30, 20]])
    assert np.linalg.det(transform.matrix[:, :2]) == pytest.approx(1)


def test_resolution_is_kept_as_often_as_requested(noise: np.ndarray) -> None:
    np.random.seed(0)  # noqa: NPY002
    sometimes = RandomAffine((64, 96), keep_resolution_prob=0.3)
    kept = [sometimes.get_transform(noise).output_size == (40, 60) for _ in range(500)]
    assert 0.24 < np.mean(kept) < 0.36
    assert not any(RandomAffine((64, 96)).get_transform(noise).output_size == (40, 60) for _ in range(50))


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match=r"INPUT\.AFFINE\.KEEP_RESOLUTION_PROB"):
        RandomAffine((64, 64), keep_resolution_prob=1.5)
    with pytest.raises(ValueError, match=r"INPUT\.AFFINE\.MODE"):
        RandomAffine((64, 64), mode="zoom")
    with pytest.raises(ValueError, match=r"INPUT\.AFFINE\.SCALES"):
        RandomAffine((64, 64), scales=[0.0, 1.0])
    with pytest.raises(ValueError, match=r"INPUT\.AFFINE\.SCALE "):
        RandomAffine((64, 64), mode="shift", scale=1.5)


def _jittered(image: np.ndarray, order: list[int], factors: list[float]) -> np.ndarray:
    """Step by step on floats, as the paper's code does: the gray is that of the image before."""
    result, gray = image.astype(float), image @ GRAY
    for kind, factor in zip(order, factors, strict=True):
        other = [np.zeros(()), gray.mean(), gray[:, :, None]][kind]
        result = result * factor + other * (1 - factor)
    return result


@pytest.mark.parametrize("format", ["BGR", "RGB"])
def test_color_equals_the_steps_one_by_one(noise: np.ndarray, monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    values = np.array([[0.2141788, 0.01817699, 0.00341571]])
    vectors = [[-0.58752847, -0.69563484, 0.41340352], [-0.5832747, 0.00994535, -0.81221408]]
    vectors.append([-0.56089297, 0.71832671, 0.41158938])
    noise = noise // 2 + 60
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]):
        factors, alpha = iter([0.9, 1.2, 0.7]), np.array([0.5, -1.0, 2.0])
        monkeypatch.setattr(np.random, "permutation", lambda count, order=order: np.array(order))
        monkeypatch.setattr(np.random, "uniform", lambda low, high, factors=factors: next(factors) - 1)
        monkeypatch.setattr(np.random, "normal", lambda mean, deviation, count, alpha=alpha: alpha)
        image = noise if format == "BGR" else noise[:, :, ::-1].copy()
        changed = RandomColor(0.4, 0.1, format).get_transform(image).apply_image(image)
        changed = changed if format == "BGR" else changed[:, :, ::-1]
        expected = _jittered(noise, order, [0.9, 1.2, 0.7])
        expected += 255 * (np.array(vectors) @ (values[0] * alpha * 0.1))
        assert np.abs(changed - expected.clip(0, 255)).max() <= 0.9  # rounding, and 10-bit factors


def test_color_saturates_and_leaves_coordinates(noise: np.ndarray) -> None:
    transform = ColorTransform(np.hstack([2 * np.eye(3), [[-50.0]] * 3]))
    expected = (2.0 * noise - 50).clip(0, 255)
    np.testing.assert_array_equal(transform.apply_image(noise), expected)
    points = np.array([[1.5, 2.5]])
    np.testing.assert_array_equal(transform.inverse().apply_coords(transform.apply_coords(points)), points)


def test_jitter_stays_in_range_and_nothing_changes_nothing(noise: np.ndarray) -> None:
    gray = cv2.mean(noise)[:3] @ GRAY
    for _ in range(100):
        matrix = RandomColor(0.4, 0.0).get_transform(noise).matrix
        # Gray of the mean brightness is a fixed point of contrast and saturation, so brightness alone moves it.
        changed = matrix @ [gray, gray, gray, 1]
        assert 0.6**3 * gray <= changed.min() and changed.max() <= 1.4**3 * gray
    np.testing.assert_array_equal(RandomColor(0.0, 0.0).get_transform(noise).apply_image(noise), noise)


def test_images_are_letterboxed_where_the_mode_is_not_applied() -> None:
    np.random.seed(0)  # noqa: NPY002
    image = np.zeros((60, 80, 3), np.uint8)
    augmentation = RandomAffine((64, 64), mode="crop", border=20, flip_prob=0.5, prob=0.3)
    whole = np.mean([augmentation.get_transform(image).is_letterbox((60, 80)) for _ in range(1000)])
    assert 0.65 < whole < 0.75
    with pytest.raises(ValueError, match=r"INPUT\.AFFINE\.PROB must be in \[0, 1\], not 1\.5"):
        RandomAffine((64, 64), prob=1.5)


def test_leaning_and_stretching_keep_area_and_center(noise: np.ndarray) -> None:
    np.random.seed(0)  # noqa: NPY002
    augmentation = RandomAffine((128, 128), mode="none", flip_prob=0.0, shear=10.0, aspect_jitter=1.5)
    leans, ratios = [], []
    for _ in range(400):
        transform = augmentation.get_transform(noise)
        np.testing.assert_allclose(transform.apply_coords(np.array([[30.0, 20.0]])), [[64, 64]])
        linear = transform.matrix[:, :2] / (128 / 60)
        assert linear[1, 0] == 0 and np.linalg.det(linear) == pytest.approx(1)
        assert transform.rotates and not transform.is_letterbox((40, 60))
        leans.append(math.degrees(math.atan(linear[0, 1])))
        ratios.append(math.log(linear[0, 0] / linear[1, 1]) / math.log(1.5))
    for drawn, limit in ((np.array(leans), 10), (np.array(ratios), 1)):
        assert np.abs(drawn).max() <= limit and drawn.min() < -0.95 * limit and drawn.max() > 0.95 * limit
        assert drawn.std() == pytest.approx(limit / math.sqrt(3), rel=0.08)
    assert not RandomAffine((128, 128), aspect_jitter=1.5).get_transform(noise).rotates


@pytest.mark.parametrize("seed", range(5))
def test_a_leaning_image_its_points_and_its_box_move_together(seed: int) -> None:
    """All of it at once: spots are found where the points went, and a filled box is enclosed by its own."""
    np.random.seed(seed)  # noqa: NPY002
    image = np.zeros((200, 300, 3), np.uint8)
    image[80:130, 120:190, 0] = 250
    image[95:101, 140:146, 1] = 250
    settings = {"shift": 0.02, "scale": 0.2, "rotation_prob": 0.5, "rotation": 5.0, "shear": 10.0, "aspect_jitter": 1.4}
    transform = RandomAffine((512, 512), mode="shift", **settings).get_transform(image)
    warped = transform.apply_image(image)
    ys, xs = np.mgrid[:512, :512] + 0.5
    spot = warped[:, :, 1] / warped[:, :, 1].sum(dtype=float)
    expected = transform.apply_coords(np.array([[143.0, 98.0]]))[0]
    np.testing.assert_allclose([(spot * xs).sum(), (spot * ys).sum()], expected, atol=0.1)
    rows, columns = np.nonzero(warped[:, :, 0] > 25)
    box = transform.apply_box(np.array([[120.0, 80.0, 190.0, 130.0]]))[0]
    edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(box, edges, atol=3)


@pytest.mark.parametrize(
    "key, value", [("shear", 90.0), ("shear", -1.0), ("aspect_jitter", 0.9), ("aspect_jitter", math.inf)]
)
def test_bad_deformations_are_named(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"INPUT\.AFFINE\.{key.upper()} must be .*{value}"):
        RandomAffine((64, 64), **{key: value})
