"""What prediction takes for an image: the same on every path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data.transforms import NoOpTransform
from detectron2.engine import DefaultPredictor
from PIL import Image

from centernet_d2.engine.predictor import Predictor
from centernet_d2.modeling.test_time_augmentation import check_tensor
from centernet_d2.runtime.images import check_image
from tests.helpers.tiny import tiny_cfg

BGR = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
GRAY = BGR[:, :, 0]
THREE = np.dstack([GRAY] * 3)
TAKEN = {
    "uint8": (BGR, BGR),
    "gray": (GRAY, THREE),
    "gray, one channel": (GRAY[..., None], THREE),
    "with alpha": (np.dstack([BGR, GRAY]), BGR),
    "a view": (BGR[::-1, ::-1], BGR[::-1, ::-1]),
    "black floats": (np.zeros((4, 5, 3)), np.zeros((4, 5, 3))),
    "floats with fractions": (BGR * np.float32(0.5), np.rint(BGR * np.float32(0.5))),
    **{str(np.dtype(t)): (BGR.astype(t), BGR) for t in ("i4", "i8", ">i4", "u4", "f2", "f4", "f8")},
}
REFUSED = {
    "None": (None, TypeError, "image is missing"),
    "str": ("a.jpg", TypeError, "path 'a.jpg': read it"),
    "Path": (Path("a.jpg"), TypeError, "path 'a.jpg': read it"),
    "bytes": (b"\xff\xd8", TypeError, "decode"),
    "PIL": (Image.fromarray(BGR), TypeError, r"PIL image: use np\.asarray"),
    "list": (BGR.tolist(), TypeError, "list"),
    "tensor": (torch.from_numpy(BGR), TypeError, "permute"),
    "number": (3, TypeError, "a int"),
    "empty": (BGR[:0, :0], ValueError, "empty, as a crop outside of the image"),
    "no width": (BGR[:, :0], ValueError, r"\(20, 0, 3\) uint8: it is empty"),
    "channels first": (BGR.transpose(2, 0, 1), ValueError, r"transpose\(1, 2, 0\)"),
    "a batch": (BGR[None], ValueError, "4 dimensions"),
    "one row": (BGR[0, :, 0], ValueError, "1 dimensions"),
    "two channels": (BGR[..., :2], ValueError, "2 channels"),
    "five channels": (np.dstack([BGR, BGR[..., :2]]), ValueError, "5 channels"),
    "bool": (BGR > 100, ValueError, "mask"),
    "16 bits": (BGR.astype(np.uint16) * 257, ValueError, r"uint16 with values 0 to 65535: .*257"),
    "dark 16 bits": (BGR.astype(np.uint16), ValueError, "uint16"),
    "0..1": (BGR / np.float32(255), ValueError, r"float32 with values 0 to 1: .*\* 255"),
    "0..1, two values": ((BGR > 100).astype(np.float32), ValueError, r"\* 255"),
    "0..1, overshot": (BGR / 250 - 0.01, ValueError, r"\* 255"),
    "-1..1": (BGR / 127.5 - 1, ValueError, r"float64 with values -1 to 1: .*normalization"),
    "negative": (BGR.astype(np.int16) - 50, ValueError, "int16 with values -50 to 205"),
    "int32 too large": (BGR.astype(np.int32) + 50, ValueError, "int32 with values 50 to 305"),
    "NaN": (np.where(BGR > 250, np.nan, BGR), ValueError, "NaN"),
    "infinite": (np.where(BGR > 250, np.inf, BGR), ValueError, "infinite"),
    "complex": (BGR.astype(complex), ValueError, "complex128: these are no numbers"),
    "objects": (BGR.astype(object), ValueError, "object"),
}


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    result = Predictor(tiny_cfg("DATASETS.TEST", ()))
    with torch.no_grad():
        result.model.task.heads["box_size"].layers[0][-1].bias.fill_(4.0)  # every box has an area
    return result


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_unambiguous_is_converted(name, predictor):
    image, expected = TAKEN[name]
    converted = check_image(image)
    assert converted.dtype == np.uint8 and np.array_equal(converted, expected)
    found, same = predictor(image)["instances"], predictor(expected.astype(np.uint8))["instances"]
    assert len(found) > 0 and torch.equal(found.scores, same.scores)


@pytest.mark.parametrize("name", REFUSED)
def test_the_rest_is_refused_in_words(name, predictor):
    image, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        predictor(image)
    with pytest.raises(error, match=rf"image 1 of the batch: .*{words}"):
        predictor.predict_batch([BGR, image])


def test_a_batch_is_a_list(predictor):
    for batch in (None, "a.jpg", BGR, GRAY):
        with pytest.raises((TypeError, ValueError), match="list of images"):
            predictor.predict_batch(batch)
    assert len(predictor.predict_batch(np.stack([BGR, BGR]))) == 2


def test_uint8_is_not_copied():
    assert check_image(BGR) is BGR or np.shares_memory(check_image(BGR), BGR)
    tensor = torch.from_numpy(BGR).permute(2, 0, 1)
    assert check_tensor(tensor).data_ptr() == tensor.data_ptr()


def test_detectron2s_predictor(predictor):
    """It casts to float32 and needs three dimensions, but for models of this project the same check comes first."""
    theirs = DefaultPredictor(tiny_cfg("DATASETS.TEST", ()))
    theirs.model.load_state_dict(predictor.model.state_dict())
    expected = theirs(BGR)["instances"].scores
    bgra = np.dstack([BGR, BGR[..., :1]])
    for same in (BGR.astype(np.int64), BGR.astype(np.float32), bgra, np.asfortranarray(BGR)):
        assert len(expected) > 0 and torch.equal(theirs(same)["instances"].scores, expected)
    for gray in (GRAY, GRAY[..., None]):
        assert torch.equal(theirs(gray)["instances"].scores, theirs(THREE)["instances"].scores)
    for image, error, words in REFUSED.values():
        with pytest.raises(error, match=words):
            theirs(image)
    # A nearly black frame of a video is an image.
    assert len(theirs((BGR > 100).astype(np.uint8))["instances"]) > 0


def test_detectron2s_predictor_of_other_models_is_its_own():
    """A model of Detectron2's gets what it is given."""
    seen = []
    theirs = DefaultPredictor.__new__(DefaultPredictor)
    theirs.cfg, theirs.aug, theirs.input_format = tiny_cfg(), NoOpTransform(), "BGR"
    theirs.aug.get_transform = lambda image: theirs.aug
    theirs.model = lambda inputs: seen.extend(inputs) or [{}]
    theirs(BGR > 100)
    assert seen[0]["image"].dtype == torch.float32 and float(seen[0]["image"].max()) == 1


def test_the_model_takes_tensors(predictor):
    with pytest.raises(TypeError, match="not a ndarray"):
        predictor.model([{"image": BGR}])
    with pytest.raises(ValueError, match=r"\(20, 30, 3\) torch\.uint8"):
        predictor.model([{"image": torch.from_numpy(BGR)}])
    with pytest.raises(ValueError, match="mask"):
        predictor.model([{"image": torch.from_numpy(BGR > 100).permute(2, 0, 1)}])
