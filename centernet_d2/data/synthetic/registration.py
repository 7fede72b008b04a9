"""The built-in sets, drawn on demand:
``synthetic_{shapes,occluded,extreme,faces,clothing,persons,boxes3d,tracks,pose_videos}_{train,val}``."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from centernet_d2.data.datasets.keypoint_sets import keypoint_metadata
from centernet_d2.data.datasets.kitti import KITTI_METADATA
from centernet_d2.data.image_io import register_image_source
from centernet_d2.data.schemas import CLOTHES294, EXTREME4, FACE68, POSE17
from centernet_d2.data.schemas.extreme4 import extreme_points
from centernet_d2.data.synthetic import (
    clothing as synthetic_garments,
)
from centernet_d2.data.synthetic import (
    faces as synthetic_faces,
)
from centernet_d2.data.synthetic import (
    persons as synthetic_persons,
)
from centernet_d2.data.synthetic import (
    pose_videos as synthetic_pose_videos,
)
from centernet_d2.data.synthetic import (
    shapes as synthetic,
)
from centernet_d2.data.synthetic import (
    street_scenes as synthetic_boxes3d,
)
from centernet_d2.data.synthetic import (
    videos as synthetic_videos,
)
from centernet_d2.data.synthetic.clothing import ClothingConfig
from centernet_d2.data.synthetic.faces import FacesConfig
from centernet_d2.data.synthetic.persons import PersonsConfig
from centernet_d2.data.synthetic.pose_videos import PoseVideosConfig
from centernet_d2.data.synthetic.shapes import CLASS_NAMES, ExtremesConfig, ShapesConfig, SyntheticConfig
from centernet_d2.data.synthetic.street_scenes import StreetScenesConfig
from centernet_d2.data.synthetic.videos import TracksConfig, VideosConfig, place_in_video

SCHEME = "synthetic"
Annotations = list[dict[str, Any]]


@dataclass(frozen=True)
class _Kind:
    """What the images of one type of configuration are.

    Attributes:
        objects: of (config, seed, index), each with class, box and, where there are any, keypoints and identity.
        draw: the image of (config, seed, index), (H, W, 3) uint8, RGB.
        metadata: of a set.
        image: further fields of the record of (config, seed, index).
    """

    objects: Callable[[Any, int, int], Annotations]
    draw: Callable[[Any, int, int], np.ndarray]
    metadata: dict[str, Any]
    image: Callable[[Any, int, int], dict[str, Any]] | None = None


def _shapes(config: ShapesConfig, seed: int, index: int) -> Annotations:
    shapes = synthetic.layout(config, seed, index)
    return [{"bbox": list(shape.box), "category_id": shape.category} for shape in shapes]


def _extremes(config: ExtremesConfig, seed: int, index: int) -> Annotations:
    annotations = _shapes(config, seed, index)
    for shape, annotation in zip(synthetic.layout(config, seed, index), annotations, strict=True):
        outline = shape.outline()
        annotation["segmentation"] = [outline.ravel().tolist()]
        annotation["keypoints"] = [x for point in extreme_points([outline]).tolist() for x in (*point, 2.0)]
    return annotations


def _faces(config: FacesConfig, seed: int, index: int) -> Annotations:
    faces = synthetic_faces.layout(config, seed, index)
    visible = np.full((len(FACE68), 1), 2.0)
    return [
        {
            "bbox": list(face.box),
            "category_id": 0,
            "keypoints": np.hstack([face.landmarks, visible]).ravel().tolist(),
        }
        for face in faces
    ]


def _clothing(config: ClothingConfig, seed: int, index: int) -> Annotations:
    return [
        {"bbox": list(one.box), "category_id": one.category, "keypoints": one.keypoints().ravel().tolist()}
        for one in synthetic_garments.layout(config, seed, index)
    ]


def _persons(config: PersonsConfig, seed: int, index: int) -> Annotations:
    return [
        {"bbox": list(one.box), "category_id": 0, "keypoints": one.keypoints.ravel().tolist()}
        for one in synthetic_persons.layout(config, seed, index)
    ]


def _calibrated(config: StreetScenesConfig, seed: int, index: int) -> dict[str, Any]:
    return {"calib": synthetic_boxes3d.calibration(config, seed, index)}


_SHAPES_METADATA = {"thing_classes": list(CLASS_NAMES), "evaluator_type": "coco"}
_TRACKS_METADATA = {"thing_classes": ["shape"], "evaluator_type": "tracking"}
_POSE_VIDEOS_METADATA = {**keypoint_metadata(POSE17), "evaluator_type": "tracking"}
_KINDS: dict[type, _Kind] = {
    ShapesConfig: _Kind(_shapes, synthetic.draw, _SHAPES_METADATA),
    ExtremesConfig: _Kind(_extremes, synthetic.draw, {**_SHAPES_METADATA, **keypoint_metadata(EXTREME4)}),
    FacesConfig: _Kind(_faces, synthetic_faces.draw, keypoint_metadata(FACE68)),
    ClothingConfig: _Kind(_clothing, synthetic_garments.draw, keypoint_metadata(CLOTHES294)),
    PersonsConfig: _Kind(_persons, synthetic_persons.draw, keypoint_metadata(POSE17)),
    StreetScenesConfig: _Kind(synthetic_boxes3d.annotate, synthetic_boxes3d.draw, KITTI_METADATA, _calibrated),
    TracksConfig: _Kind(synthetic_videos.annotate, synthetic_videos.draw, _TRACKS_METADATA, place_in_video),
    PoseVideosConfig: _Kind(
        synthetic_pose_videos.annotate, synthetic_pose_videos.draw, _POSE_VIDEOS_METADATA, place_in_video
    ),
}
_SETS: dict[str, tuple[SyntheticConfig, int]] = {}


def register_synthetic(name: str, config: SyntheticConfig, num_images: int, seed: int) -> None:
    """Register a set of drawn images; nothing is drawn or laid out before it is asked for.

    Args:
        name: of the dataset; must be new.
        config: its type says what is drawn.
        num_images: images 0 .. num_images - 1; of videos, all their frames.
        seed: sets of different seeds share no image.
    """
    DatasetCatalog.register(name, lambda: synthetic_dataset_dicts(name, num_images))
    _SETS[name] = (config, seed)
    MetadataCatalog.get(name).set(**_KINDS[type(config)].metadata)


def synthetic_dataset_dicts(name: str, num_images: int) -> list[dict[str, Any]]:
    """Detectron2's standard records; boxes and landmarks are exact, in pixels of the image; objects count from 1."""
    config, seed = _SETS[name]
    kind = _KINDS[type(config)]
    dataset_dicts: list[dict[str, Any]] = []
    numbers = itertools.count(1)
    for index in range(num_images):
        annotations = kind.objects(config, seed, index)
        for annotation in annotations:
            annotation.update(id=next(numbers), bbox_mode=BoxMode.XYXY_ABS, iscrowd=0)
        size = {"height": config.height, "width": config.width}
        extra = kind.image(config, seed, index) if kind.image else {}
        file_name = f"{SCHEME}://{name}/{index}"
        dataset_dicts.append({"file_name": file_name, "image_id": index, **size, **extra, "annotations": annotations})
    return dataset_dicts


def draw_dataset_dict(dataset_dict: dict[str, Any]) -> np.ndarray:
    """The image of a record, (H, W, 3) uint8, RGB.

    Raises:
        KeyError: ``file_name`` names a set that is not registered.
        ValueError: its index is not a number.
    """
    name, _, index = dataset_dict["file_name"].removeprefix(f"{SCHEME}://").rpartition("/")
    if name not in _SETS:
        raise KeyError(f"{dataset_dict['file_name']}: no synthetic dataset {name!r}; known: {', '.join(sorted(_SETS))}")
    config, seed = _SETS[name]
    return _KINDS[type(config)].draw(config, seed, int(index))


def _register_all() -> None:
    configs: dict[str, SyntheticConfig] = {
        "shapes": ShapesConfig(),
        "occluded": ShapesConfig(occluded=True),
        "extreme": ExtremesConfig(),
        "faces": FacesConfig(),
        "clothing": ClothingConfig(),
        "persons": PersonsConfig(),
        "boxes3d": StreetScenesConfig(),
        "tracks": TracksConfig(),
        "pose_videos": PoseVideosConfig(),
    }
    for mode, config in configs.items():
        train, num_val = config, 200
        if isinstance(config, VideosConfig):
            # To learn from, many short videos are better than few long ones.
            train, num_val = replace(config, frames=8), 12 * config.frames
        register_synthetic(f"synthetic_{mode}_train", train, num_images=2000, seed=0)
        register_synthetic(f"synthetic_{mode}_val", config, num_images=num_val, seed=1)


register_image_source(SCHEME, draw_dataset_dict)
_register_all()
