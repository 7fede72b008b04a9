"""How each field of ``Instances`` is drawn and described: two functions and a line in :data:`RENDERERS` for each.

Fields without a renderer are written into the label, so a new task draws without any change here.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.structures import Instances
from pycocotools import mask as coco_masks
from torch import Tensor

from centernet_d2.ops.rotated_boxes import compute_corners
from centernet_d2.structures import Boxes3D
from centernet_d2.visualization.canvas import Canvas, Renderer, VisMetadata, get_class_name, get_opencv_color
from centernet_d2.visualization.draw_boxes3d import draw_birds_eye_view, draw_boxes_3d
from centernet_d2.visualization.draw_keypoints import draw_keypoints
from centernet_d2.visualization.draw_outlines import draw_contour, draw_extreme_points, draw_polygon
from centernet_d2.visualization.primitives import Color, compute_line_width, draw_dot, draw_line

# Keypoints with a lower score are not drawn: no heatmap peak confirms them.
_MIN_KEYPOINT_SCORE = 0.05
# Length of a trail in frames.
_TRAIL = 20
# Opacity of masks.
_COVER = 0.4
_RING: Color = (0, 0, 0)
# Sides of the bird's eye view in meters; the smallest that holds all boxes is used.
_REACHES = (16.0, 32.0, 64.0, 128.0)


def _draw_tracks(canvas: Canvas, predictions: Instances) -> None:
    """Track id: first in the label, sets the color, and gets a trail of previous centers."""
    memory, width = canvas.memory, compute_line_width(canvas.image)
    memory.trails = {key: trail for key, trail in memory.trails.items() if trail[-1][0] > memory.frame - _TRAIL}
    for i, track_id in enumerate(predictions.pred_track_ids.tolist()):
        canvas.colors[i] = get_opencv_color(track_id)
        canvas.words[i].append(f"#{track_id}")
        x1, y1, x2, y2 = predictions.pred_boxes.tensor[i].tolist()
        seen = [place for place in memory.trails.get(track_id, []) if place[0] > memory.frame - _TRAIL]
        memory.trails[track_id] = trail = [*seen, (memory.frame, (x1 + x2) / 2, (y1 + y2) / 2)]
        positions = np.array(trail)[:, 1:] * canvas.scale
        for start, end in pairwise(positions):
            draw_line(canvas.image, start, end, canvas.colors[i], width)
        draw_dot(canvas.image, positions[-1], 1.5 * width, canvas.colors[i])


def _describe_tracks(metadata: VisMetadata, predictions: Instances) -> list[dict[str, Any]]:
    return [{"track_id": track_id} for track_id in predictions.pred_track_ids.tolist()]


def _draw_masks(canvas: Canvas, predictions: Instances) -> None:
    """Draw translucent masks; the highest-scoring is on top."""
    size = (canvas.image.shape[1], canvas.image.shape[0])
    layer = np.full(size[::-1], -1, np.int16)
    for i in reversed(range(len(predictions))):
        mask = predictions.pred_masks[i].numpy().astype(np.uint8)
        layer[cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) > 0] = i
    covered = layer >= 0
    if covered.any():
        colors = np.array(canvas.colors)[layer[covered]]
        canvas.image[covered] = np.rint(canvas.image[covered] * (1 - _COVER) + colors * _COVER).astype(np.uint8)


def _describe_masks(metadata: VisMetadata, predictions: Instances) -> list[dict[str, Any]]:
    """Return COCO's compressed RLE."""
    entries = []
    for mask in predictions.pred_masks.numpy():
        code = coco_masks.encode(np.asfortranarray(mask.astype(np.uint8)))
        entries.append({"segmentation": {"size": code["size"], "counts": code["counts"].decode("ascii")}})
    return entries


def _draw_boxes(canvas: Canvas, predictions: Instances) -> None:
    """Draw class name and score; the upright box only without a 3D box or a rotated one."""
    names, scores = (
        canvas.metadata.names,
        predictions.scores.tolist() if predictions.has("scores") else [None] * len(predictions),
    )
    for words, category, score in zip(canvas.words, predictions.pred_classes.tolist(), scores, strict=True):
        words.append(get_class_name(names, category))
        if score is not None:
            words.append(f"{score:.0%}")
    if predictions.has("pred_locations") or predictions.has("pred_rotated_boxes"):
        return
    width = compute_line_width(canvas.image)
    for color, (x1, y1, x2, y2) in zip(
        canvas.colors, (predictions.pred_boxes.tensor * canvas.scale).tolist(), strict=True
    ):
        for start, end in pairwise([(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]):
            draw_line(canvas.image, start, end, color, width)


def _describe_boxes(metadata: VisMetadata, predictions: Instances) -> list[dict[str, Any]]:
    """Return x1, y1, x2, y2 in image pixels, and the dataset's category id ("category" is kept for older readers)."""
    columns = zip(
        predictions.pred_classes.tolist(),
        predictions.scores.tolist(),
        predictions.pred_boxes.tensor.tolist(),
        strict=True,
    )
    return [
        {
            "category_id": metadata.category_ids[category] if metadata.category_ids else category,
            "category_name": metadata.names[category] if metadata.names else str(category),
            "category": metadata.names[category] if metadata.names else str(category),
            "score": round(score, 4),
            "box": [round(x, 2) for x in box],
        }
        for category, score, box in columns
    ]


def _draw_rotated_boxes(canvas: Canvas, predictions: Instances) -> None:
    corners = compute_corners(predictions.pred_rotated_boxes.tensor).double().numpy() * canvas.scale
    for color, own in zip(canvas.colors, corners, strict=True):
        draw_polygon(canvas.image, own, color)


def _describe_rotated_boxes(metadata: VisMetadata, predictions: Instances) -> list[dict[str, Any]]:
    """Return x, y of the center, width, height in image pixels, and degrees counterclockwise on the screen."""
    boxes = predictions.pred_rotated_boxes.tensor.double().numpy().round(2).tolist()
    return [{"rotated_box": box} for box in boxes]


def _draw_boxes_3d(canvas: Canvas, predictions: Instances) -> None:
    """Draw 3D boxes into the image and a bird's eye view beside it."""
    boxes = Boxes3D(predictions.pred_dimensions, predictions.pred_locations, predictions.pred_rotation_y)
    if canvas.calibration is None:
        raise ValueError("3D boxes need a calibration to be drawn")
    calibration = canvas.calibration * torch.tensor([[canvas.scale], [canvas.scale], [1.0]])
    draw_boxes_3d(canvas.image, boxes, calibration, canvas.colors)
    for words, depth in zip(canvas.words, boxes.locations[:, 2].tolist(), strict=True):
        words.append(f"{depth:.1f} m")
    x, _, z = boxes.locations.nan_to_num(posinf=0, neginf=0).unbind(dim=1)
    needed = float(torch.maximum(2 * x.abs(), z).max()) if len(boxes.locations) else 0.0
    memory = canvas.memory
    memory.reach = max(memory.reach, next((reach for reach in _REACHES if reach > needed), _REACHES[-1]))
    height, width = canvas.image.shape[:2]
    focal, center = calibration[0, [0, 2]].tolist()
    sight = (-center / focal, (width - center) / focal)
    canvas.beside.append(draw_birds_eye_view(boxes, canvas.colors, size=height, reach=memory.reach, sight=sight))


def _describe_boxes_3d(metadata: VisMetadata, predictions: Instances) -> list[dict[str, Any]]:
    """Return 3D boxes in meters and radians, camera coordinates of ``ops.box3d_geometry``: the center of the bottom;
    height, width, length."""
    names = ("locations", "dimensions", "rotation_y", "alpha", "depth")
    columns = [predictions.get(f"pred_{name}").double().numpy().round(4).tolist() for name in names]
    keys = ("location", "dimensions", *names[2:])
    return [dict(zip(keys, values, strict=True)) for values in zip(*columns, strict=True)]


def _draw_keypoints(canvas: Canvas, predictions: Instances) -> None:
    schema, radius = canvas.metadata.schema, 1.5 * compute_line_width(canvas.image)
    landmarks = predictions.pred_keypoints.double().numpy() * [canvas.scale, canvas.scale, 1.0]
    landmarks[..., 2] *= landmarks[..., 2] > _MIN_KEYPOINT_SCORE
    for category, color, points in zip(predictions.pred_classes.tolist(), canvas.colors, landmarks, strict=True):
        if schema and schema.class_names:
            draw_keypoints(canvas.image, points, schema, category)
            continue
        # Schemas without classes (such as extreme points) get no lines.
        for point in points[points[:, 2] > 0]:
            draw_dot(canvas.image, point, radius + 1.5, _RING)
            draw_dot(canvas.image, point, radius, color)


def _describe_keypoints(metadata: VisMetadata, predictions: Instances) -> list[dict[str, Any]]:
    """Return the keypoints, with a schema only those of the object's class;
    "first_keypoint" is the index of the first."""
    entries = []
    for category, points in zip(predictions.pred_classes.tolist(), predictions.pred_keypoints, strict=True):
        first, end = metadata.schema.get_class_range(category) if metadata.schema else (0, None)
        entries.append({"first_keypoint": first, "keypoints": points[first:end].tolist()})
    return entries


def _build_outline_renderer(name: str, draw_one: Callable[[np.ndarray, np.ndarray, Color], None]) -> Renderer:
    """Return the renderer of ``pred_<name>`` (P, K, 3), x, y, score; JSON has them as they are."""

    def draw(canvas: Canvas, predictions: Instances) -> None:
        points = predictions.get(f"pred_{name}")[..., :2].double().numpy() * canvas.scale
        for color, own in zip(canvas.colors, points, strict=True):
            draw_one(canvas.image, own, color)

    def describe(metadata: VisMetadata, predictions: Instances) -> list[dict[str, Any]]:
        return [{name: points.tolist()} for points in predictions.get(f"pred_{name}")]

    return Renderer(f"pred_{name}", draw, describe)


#: In drawing order: later renderers draw on top, and their text comes later in the label.
RENDERERS: list[Renderer] = [
    Renderer("pred_track_ids", _draw_tracks, _describe_tracks, uses=("pred_displacement",)),
    Renderer("pred_masks", _draw_masks, _describe_masks),
    Renderer("pred_boxes", _draw_boxes, _describe_boxes, uses=("pred_classes",)),
    Renderer("pred_rotated_boxes", _draw_rotated_boxes, _describe_rotated_boxes),
    Renderer(
        "pred_locations",
        _draw_boxes_3d,
        _describe_boxes_3d,
        uses=("pred_dimensions", "pred_rotation_y", "pred_alpha", "pred_depth"),
    ),
    _build_outline_renderer("extreme_points", draw_extreme_points),
    _build_outline_renderer("contour", draw_contour),
    Renderer("pred_keypoints", _draw_keypoints, _describe_keypoints),
]


def find_renderers(predictions: Instances) -> list[Renderer]:
    """Return the renderers for the fields of ``predictions``.

    Any other ``pred_<name>`` (P,) or (P, n) becomes a number or list in the label and in JSON.
    """
    chosen = [renderer for renderer in RENDERERS if predictions.has(renderer.field)]
    known = {name for renderer in RENDERERS for name in (renderer.field, *renderer.uses)}
    others = [
        name
        for name, value in predictions.get_fields().items()
        if name.startswith("pred_") and name not in known and isinstance(value, Tensor) and value.dim() <= 2
    ]
    return chosen + [_make_number_renderer(name) for name in others]


def _make_number_renderer(field: str) -> Renderer:
    title = field.removeprefix("pred_")

    def format_values(predictions: Instances) -> list[Any]:
        columns = predictions.get(field).double()
        columns = columns[:, 0] if columns.dim() == 2 and columns.shape[1] == 1 else columns
        return columns.numpy().round(4).tolist()

    def draw(canvas: Canvas, predictions: Instances) -> None:
        for words, value in zip(canvas.words, format_values(predictions), strict=True):
            numbers = value if isinstance(value, list) else [value]
            words.append(f"{title} {' '.join(f'{x:.3g}' for x in numbers)}")

    def describe(metadata: VisMetadata, predictions: Instances) -> list[dict[str, Any]]:
        return [{title: value} for value in format_values(predictions)]

    return Renderer(field, draw, describe)
