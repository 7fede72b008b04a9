"""How each kind of result is drawn and told: a field of ``Instances``, two functions and a line in ``KINDS``."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.structures import Instances
from pycocotools import mask as coco_masks
from torch import Tensor

from centernet_d2.data.schemas import LandmarkScheme
from centernet_d2.structures import Boxes3D
from centernet_d2.visualization.draw_boxes3d import birds_eye_view, draw_boxes_3d
from centernet_d2.visualization.draw_keypoints import draw_landmarks
from centernet_d2.visualization.primitives import Color, draw_dot, draw_line, line_width

# Landmarks of a lower score are guesses: no heatmap confirms them, or (hidden in training) nothing at all.
_LEAST_LANDMARK_SCORE = 0.05
# Frames that a trail goes back.
_TRAIL = 20
# How much of a mask's colour covers the picture.
_COVER = 0.4
_RING: Color = (0, 0, 0)
# Sides of the ground seen from above, metres; the least one that holds every box.
_REACHES = (16.0, 32.0, 64.0, 128.0)


def class_color(index: int) -> tuple[float, float, float]:
    """A colour (RGB, 0..1) that is far from those of neighbouring classes."""
    return colorsys.hsv_to_rgb((index * 0.618034) % 1.0, 0.55 + 0.4 * (index % 2), 1.0)


@dataclass(frozen=True)
class About:
    """What is known of everything that a model finds.

    Attributes:
        names: of the classes.
        scheme: of "pred_keypoints"; they get its lines, and of a class its own landmarks are shown only.
        calibration: (3, 4) of pictures that bring none.
    """

    names: Sequence[str] | None = None
    scheme: LandmarkScheme | None = None
    calibration: Tensor | None = None


@dataclass
class Memory:
    """Of one video, what was seen in it so far.

    Attributes:
        frame: number of the present one.
        trails: of each identity, frames and centres (x, y) of its boxes, picture pixels.
        reach: side of the ground seen from above, metres; it only grows.
    """

    frame: int = 0
    trails: dict[int, list[tuple[int, float, float]]] = field(default_factory=dict)
    reach: float = 0.0


@dataclass
class Sheet:
    """A picture that P objects are drawn on.

    Attributes:
        picture: (H, W, 3) uint8, BGR, ``scale`` times as large as the frame of the objects.
        calibration: (3, 4) of the frame of the objects.
        colors: of each object.
        words: that are written to each object in the end.
        beside: further pictures, to stand at the right.
    """

    picture: np.ndarray
    scale: float
    about: About
    calibration: Tensor | None
    memory: Memory
    colors: list[Color]
    words: list[list[str]]
    beside: list[np.ndarray] = field(default_factory=list)


@dataclass(frozen=True)
class Kind:
    """
    Attributes:
        field: of ``Instances`` that have such a result.
        draw: on a sheet.
        describe: each object's entries in JSON.
    """

    field: str
    draw: Callable[[Sheet, Instances], None]
    describe: Callable[[About, Instances], list[dict[str, Any]]]


def color_of(index: int) -> Color:
    """``class_color`` as OpenCV takes it."""
    red, green, blue = (round(255 * value) for value in class_color(index))
    return blue, green, red


def _draw_tracks(sheet: Sheet, found: Instances) -> None:
    """The identity gives the colour and comes first; where the object's centre was, in the frames before."""
    memory, width = sheet.memory, line_width(sheet.picture)
    memory.trails = {key: trail for key, trail in memory.trails.items() if trail[-1][0] > memory.frame - _TRAIL}
    for i, identity in enumerate(found.pred_track_ids.tolist()):
        sheet.colors[i] = color_of(identity)
        sheet.words[i].append(f"#{identity}")
        x1, y1, x2, y2 = found.pred_boxes.tensor[i].tolist()
        seen = [place for place in memory.trails.get(identity, []) if place[0] > memory.frame - _TRAIL]
        memory.trails[identity] = trail = [*seen, (memory.frame, (x1 + x2) / 2, (y1 + y2) / 2)]
        places = np.array(trail)[:, 1:] * sheet.scale
        for start, end in pairwise(places):
            draw_line(sheet.picture, start, end, sheet.colors[i], width)
        draw_dot(sheet.picture, places[-1], 1.5 * width, sheet.colors[i])


def _describe_tracks(about: About, found: Instances) -> list[dict[str, Any]]:
    return [{"track_id": identity} for identity in found.pred_track_ids.tolist()]


def _draw_masks(sheet: Sheet, found: Instances) -> None:
    """Translucent; of masks that overlap the better one is on top."""
    size = (sheet.picture.shape[1], sheet.picture.shape[0])
    layer = np.full(size[::-1], -1, np.int16)
    for i in reversed(range(len(found))):
        mask = found.pred_masks[i].numpy().astype(np.uint8)
        layer[cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) > 0] = i
    covered = layer >= 0
    if covered.any():
        colors = np.array(sheet.colors)[layer[covered]]
        sheet.picture[covered] = np.rint(sheet.picture[covered] * (1 - _COVER) + colors * _COVER).astype(np.uint8)


def _describe_masks(about: About, found: Instances) -> list[dict[str, Any]]:
    """COCO's run lengths, as its API takes them."""
    entries = []
    for mask in found.pred_masks.numpy():
        code = coco_masks.encode(np.asfortranarray(mask.astype(np.uint8)))
        entries.append({"segmentation": {"size": code["size"], "counts": code["counts"].decode("ascii")}})
    return entries


def _draw_boxes(sheet: Sheet, found: Instances) -> None:
    """The class's name and the score; the box itself where there is none in space."""
    names, scores = sheet.about.names, found.scores.tolist() if found.has("scores") else [None] * len(found)
    for words, category, score in zip(sheet.words, found.pred_classes.tolist(), scores, strict=True):
        words.append(class_name(names, category))
        if score is not None:
            words.append(f"{score:.0%}")
    if found.has("pred_locations"):
        return
    width = line_width(sheet.picture)
    for color, (x1, y1, x2, y2) in zip(sheet.colors, (found.pred_boxes.tensor * sheet.scale).tolist(), strict=True):
        for start, end in pairwise([(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]):
            draw_line(sheet.picture, start, end, color, width)


def _describe_boxes(about: About, found: Instances) -> list[dict[str, Any]]:
    """x1, y1, x2, y2 in pixels of the picture."""
    columns = zip(found.pred_classes.tolist(), found.scores.tolist(), found.pred_boxes.tensor.tolist(), strict=True)
    return [
        {
            "category_id": category,
            "category": about.names[category] if about.names else str(category),
            "score": round(score, 4),
            "box": [round(x, 2) for x in box],
        }
        for category, score, box in columns
    ]


def _draw_boxes_3d(sheet: Sheet, found: Instances) -> None:
    """In the picture, and beside it from above."""
    boxes = Boxes3D(found.pred_dimensions, found.pred_locations, found.pred_rotation_y)
    if sheet.calibration is None:
        raise ValueError("boxes in space need a calibration to be drawn")
    calibration = sheet.calibration * torch.tensor([[sheet.scale], [sheet.scale], [1.0]])
    draw_boxes_3d(sheet.picture, boxes, calibration, sheet.colors)
    for words, depth in zip(sheet.words, boxes.locations[:, 2].tolist(), strict=True):
        words.append(f"{depth:.1f} m")
    x, _, z = boxes.locations.nan_to_num(posinf=0, neginf=0).unbind(dim=1)
    needed = float(torch.maximum(2 * x.abs(), z).max()) if len(boxes.locations) else 0.0
    memory = sheet.memory
    memory.reach = max(memory.reach, next((reach for reach in _REACHES if reach > needed), _REACHES[-1]))
    height, width = sheet.picture.shape[:2]
    focal, middle = calibration[0, [0, 2]].tolist()
    sight = (-middle / focal, (width - middle) / focal)
    sheet.beside.append(birds_eye_view(boxes, sheet.colors, size=height, reach=memory.reach, sight=sight))


def _describe_boxes_3d(about: About, found: Instances) -> list[dict[str, Any]]:
    """Metres and radians, camera coordinates of ``ops.box3d_geometry``: the centre of the bottom; height, width, length."""
    names = ("locations", "dimensions", "rotation_y", "alpha", "depth")
    columns = [found.get(f"pred_{name}").double().numpy().round(4).tolist() for name in names]
    keys = ("location", "dimensions", *names[2:])
    return [dict(zip(keys, values, strict=True)) for values in zip(*columns, strict=True)]


def _draw_keypoints(sheet: Sheet, found: Instances) -> None:
    scheme, radius = sheet.about.scheme, 1.5 * line_width(sheet.picture)
    landmarks = found.pred_keypoints.double().numpy() * [sheet.scale, sheet.scale, 1.0]
    landmarks[..., 2] *= landmarks[..., 2] > _LEAST_LANDMARK_SCORE
    for category, color, points in zip(found.pred_classes.tolist(), sheet.colors, landmarks, strict=True):
        if scheme and scheme.class_names:
            draw_landmarks(sheet.picture, points, scheme, category)
            continue
        # Points that anything may have (extreme points, too) say nothing by lines between them.
        for point in points[points[:, 2] > 0]:
            draw_dot(sheet.picture, point, radius + 1.5, _RING)
            draw_dot(sheet.picture, point, radius, color)


def _describe_keypoints(about: About, found: Instances) -> list[dict[str, Any]]:
    """With a scheme, those of the object's class alone; "first_keypoint" is the first one's number."""
    entries = []
    for category, points in zip(found.pred_classes.tolist(), found.pred_keypoints, strict=True):
        first, end = about.scheme.own(category) if about.scheme else (0, None)
        entries.append({"first_keypoint": first, "keypoints": points[first:end].tolist()})
    return entries


def class_name(names: Sequence[str] | None, index: int) -> str:
    """The name of a class, "class 7" where it has none."""
    return names[index] if names is not None and index < len(names) else f"class {index}"


#: In the order of drawing: later ones are on top, and their words behind those before.
KINDS = (
    Kind("pred_track_ids", _draw_tracks, _describe_tracks),
    Kind("pred_masks", _draw_masks, _describe_masks),
    Kind("pred_boxes", _draw_boxes, _describe_boxes),
    Kind("pred_locations", _draw_boxes_3d, _describe_boxes_3d),
    Kind("pred_keypoints", _draw_keypoints, _describe_keypoints),
)
