"""What training objects have where 3D boxes are learned, against a street that is itself flipped."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from detectron2.structures import BoxMode

from centernet_d2.data.dataset_mapper import CenterNetDatasetMapper
from centernet_d2.data.fields_3d import list_ignored_regions
from tests.helpers.boxes3d import CLASSES, P2, STREET, box3d_cfg, dataset_dict_of, map_training_sample

SCALE = 416 / 1242
TOP = (128 - 375 * SCALE) / 2


def test_fields_of_a_image_that_is_fitted_in():
    instances = map_training_sample(dataset_dict_of())
    h, w, length, x, y, z, _ = STREET.unbind(1)
    assert torch.allclose(instances.gt_dimensions.double(), torch.stack([h, w, length], dim=1))
    assert torch.allclose(instances.gt_depth.double(), z + P2[2, 3])
    u = (P2[0, 0] * x + P2[0, 2] * z + P2[0, 3]) / (z + P2[2, 3])
    v = (P2[1, 1] * (y - h / 2) + P2[1, 2] * z + P2[1, 3]) / (z + P2[2, 3])
    expected = torch.stack([u * SCALE, v * SCALE + TOP, torch.full_like(u, 2)], dim=1)
    assert torch.allclose(instances.gt_center_3d.tensor[:, 0].double(), expected, atol=1e-4)
    assert instances.gt_metric.all() and not instances.gt_ignored.any()
    assert {name for name in instances.get_fields() if name.startswith("gt_")} == {
        *("gt_boxes", "gt_classes", "gt_ignored", "gt_dimensions", "gt_depth", "gt_metric", "gt_alpha"),
        "gt_center_3d",
    }


def test_a_flipped_image_is_that_of_the_flipped_scene():
    """Left and right of world, camera and image exchanged: every field is the same as by flipping the image."""
    table, camera = STREET.clone(), P2.clone()
    table[:, 3] *= -1
    table[:, 6] = math.pi - table[:, 6]
    camera[0, 2] = 1242 - P2[0, 2]
    # u = (f x + cx z + tx) / (z + tz) becomes 1242 - u.
    camera[0, 3] = 1242 * P2[2, 3] - P2[0, 3]
    expected = map_training_sample(dataset_dict_of(table, calibration=camera))
    found = map_training_sample(dataset_dict_of(), box3d_cfg("INPUT.AFFINE.FLIP_PROB", 1.0))
    assert torch.allclose(found.gt_boxes.tensor, expected.gt_boxes.tensor, atol=1e-3)
    for name in ("gt_depth", "gt_dimensions", "gt_metric"):
        assert torch.allclose(found.get(name).float(), expected.get(name).float()), name
    assert torch.allclose(found.gt_center_3d.tensor, expected.gt_center_3d.tensor, atol=1e-3)
    turn = found.gt_alpha - expected.gt_alpha
    assert torch.atan2(turn.sin(), turn.cos()).abs().max() < 1e-5
    assert (found.gt_alpha.abs() <= math.pi).all()


@pytest.mark.parametrize(
    ("opts", "expected"),
    [
        ((), True),
        (("INPUT.AFFINE.FLIP_PROB", 1.0), True),
        (("INPUT.AFFINE.KEEP_RESOLUTION_PROB", 1.0, "INPUT.AFFINE.KEEP_RESOLUTION_MAX", 2000), True),
        (("INPUT.AFFINE.MODE", "crop", "INPUT.AFFINE.SCALES", [1.2]), False),
        (("INPUT.AFFINE.MODE", "crop", "INPUT.AFFINE.SCALES", [1.2], "INPUT.AFFINE.PROB", 0.0), True),
        (("INPUT.AFFINE.MODE", "shift", "INPUT.AFFINE.SHIFT", 0.02, "INPUT.AFFINE.FLIP_PROB", 1.0), False),
        (("INPUT.AFFINE.ROTATION_PROB", 1.0, "INPUT.AFFINE.ROTATION", 5.0), False),
    ],
)
def test_meters_are_learned_where_the_image_is_seen_as_in_prediction(opts, expected):
    np.random.seed(3)  # noqa: NPY002
    instances = map_training_sample(dataset_dict_of(), box3d_cfg(*opts))
    assert len(instances) > 2
    assert instances.gt_metric.tolist() == [expected] * len(instances)


def test_objects_behind_the_camera_have_no_meters():
    dataset_dict = dataset_dict_of()
    dataset_dict["annotations"][1]["location"] = [1.0, 1.5, -2.0]
    instances = map_training_sample(dataset_dict)
    assert instances.gt_metric.tolist() == [i != 1 for i in range(len(CLASSES))]
    assert instances.gt_center_3d.tensor[:, 0, 2].tolist() == [2.0 * (i != 1) for i in range(len(CLASSES))]
    assert all(torch.isfinite(instances.get(name)).all() for name in ("gt_depth", "gt_alpha", "gt_dimensions"))


def test_ignored_regions_are_those_of_neighbouring_classes():
    kinds = ("Van", "Truck", "Person_sitting", "DontCare", "Tram", "Misc")
    ignored = [{"type": kind, "bbox": [9, 9, 20, 20], "bbox_mode": BoxMode.XYWH_ABS} for kind in kinds]
    assert [a["category_id"] for a in list_ignored_regions({"ignored": ignored})] == [1, 1, 0, 0, 1, 2]
    assert list_ignored_regions({}) == []
    dataset_dict = dataset_dict_of(STREET[:1], [0], ignored=ignored[:1])
    instances = map_training_sample(dataset_dict)
    assert instances.gt_ignored.tolist() == [False, True] and instances.gt_metric.tolist() == [True, False]
    expected = [9 * SCALE, 9 * SCALE + TOP, 29 * SCALE, 29 * SCALE + TOP]
    assert instances.gt_boxes.tensor[1].tolist() == pytest.approx(expected, rel=1e-5)
    assert len(dataset_dict["annotations"]) == 1, "the dataset dict stays as it is"


@pytest.mark.parametrize(
    ("name", "value", "count"),
    [("dim", None, 3), ("location", [1, 2], 3), ("alpha", math.nan, 1), ("dim", ["a", 2, 3], 3)],
)
def test_what_is_missing_is_named(name, value, count):
    dataset_dict = dataset_dict_of()
    dataset_dict["annotations"][2][name] = value
    if value is None:
        del dataset_dict["annotations"][2][name]
    with pytest.raises(ValueError, match=rf"test-black://0, annotation 2, {name}: is .*, not {count} finite numbers"):
        map_training_sample(dataset_dict)


def test_a_image_without_a_calibration_is_named():
    with pytest.raises(ValueError, match="test-black://0: calib is None, not 3x4 finite numbers"):
        map_training_sample(dataset_dict_of(calib=None))


def test_prediction_keeps_the_calibration_and_asks_for_no_object():
    sample = CenterNetDatasetMapper(box3d_cfg(), is_train=False)(dataset_dict_of())
    assert np.array_equal(sample["calib"], P2.numpy()) and "instances" not in sample
