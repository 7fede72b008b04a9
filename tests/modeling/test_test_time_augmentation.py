from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from centernet_d2.data.transforms.affine import RandomAffine
from centernet_d2.geometry import build_letterbox_matrix
from centernet_d2.modeling.test_time_augmentation import TestTimeAugmentation


@pytest.mark.parametrize(
    ("size", "plain", "padded"), [((480, 640), (480, 640), (512, 672)), ((481, 639), (512, 640), (512, 640))]
)
def test_kept_sizes(size, plain, padded):
    """CenterNet's own: (side | 31) + 1."""
    assert TestTimeAugmentation(resize="keep").compute_input_size(size, 1.0, 32) == plain
    assert TestTimeAugmentation(resize="keep", pad_always=True).compute_input_size(size, 1.0, 32) == padded
    assert padded == tuple((side | 31) + 1 for side in size)
    assert TestTimeAugmentation(size=(512, 512), pad_always=True).compute_input_size(size, 1.0, 32) == (512, 512)


def test_an_odd_image_is_moved_by_whole_pixels_as_reference():
    """CenterNet centers (w // 2, h // 2), so the odd pixel is at the right and below."""
    matrix = build_letterbox_matrix((97, 101), (128, 128), 1.0)
    assert np.allclose(matrix, [[1, 0, 64 - 101 // 2], [0, 1, 64 - 97 // 2]])


@pytest.mark.parametrize(("height", "width"), [(375, 1242), (370, 1224), (376, 1241), (374, 1238)])
def test_kittis_images_are_fitted_by_their_width_as_reference(height, width):
    """CenterNet maps the center to the center and the width to the width: three points that say where all others go."""
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    there = np.array([[640, 192], [1280, 192], [640, 192 - 640]], np.float32)
    here = np.array([[width / 2, height / 2], [width, height / 2], [width / 2, (height - width) / 2]], np.float32)
    published = cv2.warpAffine(image, cv2.getAffineTransform(here, there), (1280, 384), flags=cv2.INTER_LINEAR)
    settings = TestTimeAugmentation(size=(384, 1280), pixel_center=0.0, fit_width=True)
    (inputs,), scale, shift = settings.letterbox([torch.from_numpy(image).permute(2, 0, 1)], 1.0, 32)
    # OpenCV interpolates at 1/32 of a pixel, so that rounding errors show.
    different = np.abs(inputs.permute(1, 2, 0).numpy().astype(int) - published) > 1
    assert different.mean() < 1e-3
    assert np.allclose(scale[0] * torch.from_numpy(there) + shift[0], here, atol=1e-3)
    # Wholly inside, the image would be smaller by up to a hundredth.
    whole = build_letterbox_matrix((height, width), (384, 1280))[0, 0] * scale[0, 0].item()
    assert 0.990 < whole < 0.994
    # In training it is seen in the same way, and known to be.
    drawn = RandomAffine((384, 1280), mode="none", flip_prob=0.0, fit_width=True).get_transform(image)
    assert np.allclose(drawn.matrix[:, :2] * scale[0, 0].item(), np.eye(2)) and drawn.is_letterbox((height, width))
    assert drawn.matrix[1, 2] == pytest.approx(-(shift / scale)[0, 1].item(), abs=1e-3)


@pytest.mark.parametrize("fit_width", [False, True])
def test_a_flat_image_is_fitted_by_its_width_anyway(fit_width):
    white = torch.full((3, 20, 100), 255.0)
    (inputs,), scale, _ = TestTimeAugmentation(size=(64, 128), fit_width=fit_width).letterbox([white], 1.0, 32)
    assert scale[0].tolist() == pytest.approx([100 / 128] * 2)
    assert inputs[:, 32, 2:-2].min() == 255 and inputs[:, 2].max() == 0


def test_a_stretched_image_fills_its_input():
    """Both sides reach the next multiple, each with a scale of its own, and no border becomes dark."""
    ramp = np.broadcast_to(np.arange(0, 200, 2, dtype=np.uint8)[None, :, None], (50, 100, 3))
    settings = TestTimeAugmentation(resize="stretch")
    (inputs,), scale, shift = settings.letterbox([torch.from_numpy(ramp.copy()).permute(2, 0, 1)], 1.0, 32)
    assert inputs.shape == (3, 64, 128)
    assert scale[0].tolist() == pytest.approx([100 / 128, 50 / 64]) and shift[0].tolist() == [0, 0]
    # Pixel i of the input has its center at (i + 0.5) * 100 / 128 of the image, whose pixel j is 2 j, up to its border.
    position = (np.arange(128) + 0.5) * 100 / 128 - 0.5
    expected = 2 * position.clip(0, 99)
    assert np.abs(inputs.numpy().astype(float) - expected).max() <= 1
    whole = torch.full((3, 64, 96), 255, dtype=torch.uint8)
    (inputs,), scale, _ = settings.letterbox([whole], 1.0, 32)
    assert torch.equal(inputs, whole) and scale[0].tolist() == [1, 1]
    with pytest.raises(ValueError, match=r"must be one of .*'stretch'.*, not 'fill'"):
        TestTimeAugmentation(resize="fill")
