"""Generation of the synthetic datasets: dataset dicts with exact labels, and the images when they are requested."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from centernet_d2.data.schemas.extreme4 import find_extreme_points
from centernet_d2.data.schemas.face5 import from_face68
from centernet_d2.data.synthetic import clothing, faces, persons, pose_videos, rotated, shapes, street_scenes, videos
from centernet_d2.data.synthetic.clothing import ClothingConfig
from centernet_d2.data.synthetic.faces import Faces5Config, FacesConfig
from centernet_d2.data.synthetic.persons import PersonsConfig
from centernet_d2.data.synthetic.pose_videos import PoseVideosConfig
from centernet_d2.data.synthetic.registration import METADATA, SCHEME, SHAPE_NAMES
from centernet_d2.data.synthetic.rotated import RotatedConfig
from centernet_d2.data.synthetic.shapes import ExtremesConfig, ShapesConfig, SyntheticConfig
from centernet_d2.data.synthetic.street_scenes import StreetScenesConfig
from centernet_d2.data.synthetic.videos import TracksConfig, VideosConfig, place_in_video

Annotations = list[dict[str, Any]]


@dataclass(frozen=True)
class _Kind:
    """What the images of one type of configuration are.

    Attributes:
        objects: of (config, seed, index), each with class, box and, where there are any, keypoints and identity.
        draw: the image of (config, seed, index), (H, W, 3) uint8, RGB.
        metadata: of a set.
        image: extra fields of the dataset dict of (config, seed, index).
    """

    objects: Callable[[Any, int, int], Annotations]
    draw: Callable[[Any, int, int], np.ndarray]
    metadata: dict[str, Any]
    image: Callable[[Any, int, int], dict[str, Any]] | None = None


def _annotate_shapes(config: ShapesConfig, seed: int, index: int) -> Annotations:
    layout = shapes.sample_layout(config, seed, index)
    is_crowd = np.random.default_rng([seed, index, 2]).random(len(layout)) < config.crowds
    return [
        {"bbox": list(shape.box), "category_id": shape.category, "iscrowd": int(crowd)}
        for shape, crowd in zip(layout, is_crowd, strict=True)
    ]


def _annotate_extremes(config: ExtremesConfig, seed: int, index: int) -> Annotations:
    annotations = _annotate_shapes(config, seed, index)
    for shape, annotation in zip(shapes.sample_layout(config, seed, index), annotations, strict=True):
        outline = shape.compute_outline()
        annotation["segmentation"] = [outline.ravel().tolist()]
        annotation["keypoints"] = [x for point in find_extreme_points([outline]).tolist() for x in (*point, 2.0)]
    return annotations


def _annotate_faces(config: FacesConfig, seed: int, index: int) -> Annotations:
    annotations: Annotations = []
    for face in faces.sample_layout(config, seed, index):
        points = from_face68(face.landmarks) if isinstance(config, Faces5Config) else face.landmarks
        keypoints = [x for point in points.tolist() for x in (*point, 2.0)]
        annotations.append({"bbox": list(face.box), "category_id": 0, "keypoints": keypoints})
    return annotations


def _annotate_clothing(config: ClothingConfig, seed: int, index: int) -> Annotations:
    return [
        {"bbox": list(one.box), "category_id": one.category, "keypoints": one.make_keypoints().ravel().tolist()}
        for one in clothing.sample_layout(config, seed, index)
    ]


def _annotate_persons(config: PersonsConfig, seed: int, index: int) -> Annotations:
    return [
        {"bbox": list(one.box), "category_id": 0, "keypoints": one.keypoints.ravel().tolist()}
        for one in persons.sample_layout(config, seed, index)
    ]


def _add_calibration(config: StreetScenesConfig, seed: int, index: int) -> dict[str, Any]:
    return {"calib": street_scenes.sample_calibration(config, seed, index)}


_KINDS: dict[type, _Kind] = {
    ShapesConfig: _Kind(_annotate_shapes, shapes.draw, METADATA["shapes"]),
    ExtremesConfig: _Kind(_annotate_extremes, shapes.draw, METADATA["extreme"]),
    FacesConfig: _Kind(_annotate_faces, faces.draw, METADATA["faces"]),
    Faces5Config: _Kind(_annotate_faces, faces.draw, METADATA["faces5"]),
    ClothingConfig: _Kind(_annotate_clothing, clothing.draw, METADATA["clothing"]),
    PersonsConfig: _Kind(_annotate_persons, persons.draw, METADATA["persons"]),
    StreetScenesConfig: _Kind(street_scenes.annotate, street_scenes.draw, METADATA["boxes3d"], _add_calibration),
    RotatedConfig: _Kind(rotated.annotate, rotated.draw, METADATA["rotated"]),
    TracksConfig: _Kind(videos.annotate, videos.draw, METADATA["tracks"], place_in_video),
    PoseVideosConfig: _Kind(pose_videos.annotate, pose_videos.draw, METADATA["pose_videos"], place_in_video),
}
#: Dataset name -> config and seed.
SETS: dict[str, tuple[SyntheticConfig, int]] = {}
assert tuple(shapes.OUTLINES) == SHAPE_NAMES
assert list(rotated.ROTATED_OUTLINES) == METADATA["rotated"]["thing_classes"]


def register_synthetic(name: str, config: SyntheticConfig, num_images: int, seed: int) -> None:
    """Register a set of drawn images; nothing is drawn or laid out before it is requested.

    Args:
        name: of the dataset; must be new.
        config: its type says what is drawn.
        num_images: images 0 .. num_images - 1; of videos, all their frames.
        seed: sets of different seeds share no image.
    """
    DatasetCatalog.register(name, lambda: generate_dataset_dicts(name, num_images))
    SETS[name] = (config, seed)
    MetadataCatalog.get(name).set(**_KINDS[type(config)].metadata)


def generate_dataset_dicts(name: str, num_images: int) -> list[dict[str, Any]]:
    """Return Detectron2's standard dataset dicts; boxes and landmarks are exact, in image
    pixels; objects count from 1."""
    config, seed = SETS[name]
    kind = _KINDS[type(config)]
    dataset_dicts: list[dict[str, Any]] = []
    numbers = itertools.count(1)
    for index in range(num_images):
        annotations = kind.objects(config, seed, index)
        for annotation in annotations:
            annotation.update(id=next(numbers), bbox_mode=BoxMode.XYXY_ABS)
            annotation.setdefault("iscrowd", 0)
        size = {"height": config.height, "width": config.width}
        extra = kind.image(config, seed, index) if kind.image else {}
        file_name = f"{SCHEME}://{name}/{index}"
        dataset_dicts.append({"file_name": file_name, "image_id": index, **size, **extra, "annotations": annotations})
    return dataset_dicts


def draw_dataset_dict(dataset_dict: dict[str, Any]) -> np.ndarray:
    """Return the image of a dataset dict, (H, W, 3) uint8, RGB.

    Raises:
        KeyError: ``file_name`` names a set that is not registered.
        ValueError: its index is not a number.
    """
    name, _, index = dataset_dict["file_name"].removeprefix(f"{SCHEME}://").rpartition("/")
    if name not in SETS:
        raise KeyError(f"{dataset_dict['file_name']}: no synthetic dataset {name!r}; known: {', '.join(sorted(SETS))}")
    config, seed = SETS[name]
    return _KINDS[type(config)].draw(config, seed, int(index))


def load_builtin(mode: str, split: str) -> list[dict[str, Any]]:
    """Return the dataset dicts of ``synthetic_<mode>_<split>``."""
    config, count = BUILTIN[mode], 2000 if split == "train" else 200
    if isinstance(config, VideosConfig) and split == "val":
        count = 12 * config.frames
    return generate_dataset_dicts(f"synthetic_{mode}_{split}", count)


BUILTIN: dict[str, SyntheticConfig] = {
    "shapes": ShapesConfig(),
    "occluded": ShapesConfig(occluded=True),
    "extreme": ExtremesConfig(),
    "crowds": ExtremesConfig(crowds=0.5),
    "faces": FacesConfig(),
    "faces5": Faces5Config(),
    "clothing": ClothingConfig(),
    "persons": PersonsConfig(),
    "boxes3d": StreetScenesConfig(),
    "rotated": RotatedConfig(),
    "tracks": TracksConfig(),
    "pose_videos": PoseVideosConfig(),
}
for _mode, _config in BUILTIN.items():
    # To learn from, many short videos are better than few long ones.
    _train = replace(_config, frames=8) if isinstance(_config, VideosConfig) else _config
    SETS[f"synthetic_{_mode}_train"], SETS[f"synthetic_{_mode}_val"] = (_train, 0), (_config, 1)
