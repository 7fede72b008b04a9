"""The built-in data sets: ``synthetic_shapes_{train,val}`` and ``synthetic_covered_{train,val}``."""

from __future__ import annotations

from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from ..reading import register_image_source
from ..synthetic import CLASS_NAMES, ShapesConfig, draw, layout

SCHEME = "synthetic"
_SETS: dict[str, tuple[ShapesConfig, int]] = {}


def register_synthetic(name: str, config: ShapesConfig, num_images: int, seed: int) -> None:
    """Register a set of drawn pictures; nothing is drawn or laid out before it is asked for.

    Args:
        name: of the data set; must be new.
        num_images: pictures 0 .. num_images - 1.
        seed: sets of different seeds share no picture.
    """
    DatasetCatalog.register(name, lambda: synthetic_records(name, num_images))
    _SETS[name] = (config, seed)
    MetadataCatalog.get(name).set(thing_classes=list(CLASS_NAMES), evaluator_type="coco")


def synthetic_records(name: str, num_images: int) -> list[dict[str, Any]]:
    """Detectron2's standard records; boxes are exact, in pixels of the picture."""
    config, seed = _SETS[name]
    return [
        {
            "file_name": f"{SCHEME}://{name}/{index}",
            "image_id": index,
            "height": config.height,
            "width": config.width,
            "annotations": [
                {"bbox": list(shape.box), "bbox_mode": BoxMode.XYXY_ABS, "category_id": shape.category, "iscrowd": 0}
                for shape in layout(config, seed, index)
            ],
        }
        for index in range(num_images)
    ]


def draw_record(record: dict[str, Any]) -> np.ndarray:
    """The picture of a record, (H, W, 3) uint8, RGB.

    Raises:
        KeyError: ``file_name`` names a set that is not registered.
        ValueError: its index is not a number.
    """
    name, _, index = record["file_name"].removeprefix(f"{SCHEME}://").rpartition("/")
    if name not in _SETS:
        raise KeyError(f"{record['file_name']}: no synthetic data set {name!r}; known: {', '.join(sorted(_SETS))}")
    config, seed = _SETS[name]
    return draw(config, seed, int(index))


def _register_all() -> None:
    for mode, config in (("shapes", ShapesConfig()), ("covered", ShapesConfig(covered=True))):
        register_synthetic(f"synthetic_{mode}_train", config, num_images=2000, seed=0)
        register_synthetic(f"synthetic_{mode}_val", config, num_images=200, seed=1)


register_image_source(SCHEME, draw_record)
_register_all()
