"""SAHI's own slicing, with a detector as its model."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from centernet_d2.api import Detector

predict = pytest.importorskip("sahi.predict", reason="SAHI is not installed (pip install sahi)")


def list_boxes(result) -> np.ndarray:
    return np.array([one.bbox.to_xyxy() for one in result.object_prediction_list])


def test_an_image(trained, photo):
    """SAHI cuts boxes at the image's sides and reads files as RGB."""
    from centernet_d2.api.sahi_model import SahiModel

    detector = Detector(trained, threshold=0.05)
    expected = detector(photo)
    result = predict.get_prediction(str(photo), SahiModel(detector))
    height, width = expected.image.shape[:2]
    assert len(expected) > 0
    assert np.allclose(list_boxes(result), expected.boxes.clip(0, [width, height] * 2))
    assert [one.score.value for one in result.object_prediction_list] == pytest.approx(expected.scores.tolist())
    assert [one.category.name for one in result.object_prediction_list] == expected.names
    ids = [expected.category_ids[k] for k in expected.classes]
    assert [one.category.id for one in result.object_prediction_list] == ids


def test_slices(trained, photo):
    """Every box is that of a tile, moved to the tile's place."""
    from centernet_d2.api.sahi_model import SahiModel

    detector, image = Detector(trained, threshold=0.05), cv2.imread(str(photo))
    result = predict.get_sliced_prediction(
        image[:, :, ::-1].copy(), SahiModel(detector), slice_height=64, slice_width=64, overlap_height_ratio=0.25,
        overlap_width_ratio=0.25, perform_standard_pred=False, postprocess_type="NMS", verbose=0,
    )  # fmt: skip
    known = []
    for y in (0, 16):
        for x in (0, 36):
            boxes = detector(image[y : y + 64, x : x + 64]).boxes.clip(0, 64)
            known.append(boxes + np.array([x, y, x, y]))
    boxes = list_boxes(result)
    assert len(boxes) > 0
    assert np.abs(boxes[:, None] - np.concatenate(known)).max(axis=2).min(axis=1).max() < 1e-3


def test_masks():
    """A box comes from its mask, as SAHI does it; the ring of pixels that it counts is the mask's own."""
    from centernet_d2.api import Result
    from centernet_d2.api.sahi_model import SahiModel
    from centernet_d2.runtime.objects import Objects

    image, masks = np.zeros((40, 50, 3), np.uint8), np.zeros((1, 40, 50), bool)
    masks[0, 10:20, 5:30] = True
    fields = {"scores": np.array([0.9]), "pred_classes": np.array([0]), "pred_masks": masks}
    objects = Objects((40, 50), {"pred_boxes": np.array([[5.0, 10.0, 30.0, 20.0]]), **fields})

    class MaskDetector:
        threshold, class_names = 0.3, ("cat",)
        model = type("Model", (), {"category_ids": (4,)})

        def __call__(self, image: np.ndarray) -> Result:
            return Result(image, objects, ("cat",), (4,))

    (prediction,) = predict.get_prediction(image, SahiModel(MaskDetector())).object_prediction_list
    assert np.array_equal(prediction.mask.bool_mask, masks[0])
    assert (prediction.category.id, prediction.category.name) == (4, "cat")
