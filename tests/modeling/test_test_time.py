from __future__ import annotations

import numpy as np
import pytest

from centernet_d2.geometry import letterbox_matrix
from centernet_d2.modeling.test_time import TestTime


@pytest.mark.parametrize(
    ("size", "plain", "padded"), [((480, 640), (480, 640), (512, 672)), ((481, 639), (512, 640), (512, 640))]
)
def test_kept_sizes(size, plain, padded):
    """CenterNet's own: (side | 31) + 1."""
    assert TestTime(resize="keep").input_size(size, 1.0, 32) == plain
    assert TestTime(resize="keep", pad_always=True).input_size(size, 1.0, 32) == padded
    assert padded == tuple((side | 31) + 1 for side in size)
    assert TestTime(size=(512, 512), pad_always=True).input_size(size, 1.0, 32) == (512, 512)


def test_an_odd_picture_is_moved_by_whole_pixels_as_published():
    """CenterNet centres (w // 2, h // 2), so the odd pixel is at the right and below."""
    matrix = letterbox_matrix((97, 101), (128, 128), 1.0)
    assert np.allclose(matrix, [[1, 0, 64 - 101 // 2], [0, 1, 64 - 97 // 2]])
