"""The small models of the package, on images that they have not seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from centernet_d2 import Detector
from centernet_d2.evaluation.average_precision import compute_box_iou


def test_cells_are_found(shared_data: Path):
    """Of the labeled white cells of ten validation images, all; they are the large ones, one in each image."""
    from centernet_d2.data.datasets.voc import read_voc

    dataset_dicts, _ = read_voc(str(shared_data / "bccd"), "val", ["Platelets", "RBC", "WBC"])
    detector = Detector("cells")
    assert detector.class_names == ("Platelets", "RBC", "WBC")
    for dataset_dict in dataset_dicts[:10]:
        result = detector(dataset_dict["file_name"])
        true = [one["bbox"] for one in dataset_dict["annotations"] if one["category_id"] == 2]
        found = result.boxes[result.classes == 2]
        assert len(found) and (compute_box_iou(np.array(true), found).max(axis=1) > 0.5).all()


def test_faces_and_their_points_are_found(shared_data: Path):
    """The tip of the nose (point 31) is within a tenth of the face, in ten images of people of the validation."""
    import json

    content = json.loads((shared_data / "faces68" / "val.json").read_text())
    names = {one["id"]: one["file_name"] for one in content["images"]}
    detector = Detector("faces68")
    for annotation in content["annotations"][::24]:
        result = detector(shared_data / "faces68" / "val" / names[annotation["image_id"]])
        assert result.keypoints is not None and result.keypoints.shape[1:] == (68, 3) and len(result) >= 1
        nose = np.array(annotation["keypoints"]).reshape(68, -1)[30, :2]
        assert np.linalg.norm(result.keypoints[0, 30, :2] - nose) < 0.1 * annotation["bbox"][3]
