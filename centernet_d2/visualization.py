"""What the network sees, what it should answer and what it answers, drawn.

Pictures are (H, W, 3) uint8, BGR, as OpenCV has them.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np
from detectron2.structures import Instances
from detectron2.utils.visualizer import Visualizer
from torch import Tensor

from centernet_d2.data.landmarks import LandmarkScheme
from centernet_d2.landmark_pictures import draw_landmarks
from centernet_d2.ops.grid_points import grid_points

# Small pictures are drawn enlarged to this shorter side, so that names can be read.
_LEAST_SIDE = 400
_LEAST_LANDMARK_SCORE = 0.05


def class_color(index: int) -> tuple[float, float, float]:
    """A colour (RGB, 0..1) that is far from those of neighbouring classes."""
    return colorsys.hsv_to_rgb((index * 0.618034) % 1.0, 0.55 + 0.4 * (index % 2), 1.0)


def draw_objects(
    image: np.ndarray,
    boxes: Tensor,
    classes: Tensor,
    names: Sequence[str] | None = None,
    *,
    scores: Tensor | None = None,
    keypoints: Tensor | None = None,
    point_flags: Sequence[int] = (),
    scheme: LandmarkScheme | None = None,
) -> np.ndarray:
    """Boxes with names, scores and points; small pictures come back enlarged.

    Args:
        boxes: (P, 4) x1, y1, x2, y2, pixels of ``image``.
        classes: (P,) int64, indices into ``names``.
        scores: (P,) in 0..1.
        keypoints: (P, K, 3) x, y and score or visibility; those of 0 are not drawn.
        point_flags: points of the 3x3 grid to mark in each box.
        scheme: what the keypoints are; they get their lines, and of a class its own landmarks are drawn only.
    """
    scale = max(1.0, _LEAST_SIDE / min(image.shape[:2]))
    visualizer = Visualizer(np.ascontiguousarray(image[:, :, ::-1]), scale=scale)
    labels = [_label(i, names) for i in classes.tolist()]
    if scores is not None:
        labels = [f"{label} {score:.0%}" for label, score in zip(labels, scores.tolist(), strict=True)]
    colors = [class_color(i) for i in classes.tolist()]
    if len(boxes):
        visualizer.overlay_instances(boxes=boxes.cpu().numpy(), labels=labels, assigned_colors=colors)
    marked = grid_points(boxes.cpu(), point_flags) if len(point_flags) else boxes.new_zeros((len(boxes), 0, 2)).cpu()
    for color, points in zip(colors, marked.tolist(), strict=True):
        for point in points:
            visualizer.draw_circle(point, color, radius=2)
    for color, points in zip(colors, keypoints.tolist() if keypoints is not None and not scheme else [], strict=False):
        for x, y, seen in points:
            if seen > 0:
                visualizer.draw_circle((x, y), color, radius=2)
    drawn = np.ascontiguousarray(visualizer.get_output().get_image()[:, :, ::-1])
    if scheme and keypoints is not None:
        enlarged = keypoints.detach().cpu().double().numpy() * [scale, scale, 1.0]
        for label, landmarks in zip(classes.tolist(), enlarged, strict=True):
            draw_landmarks(drawn, landmarks, scheme, label)
    return drawn


def draw_predictions(
    image: np.ndarray,
    instances: Instances,
    names: Sequence[str] | None = None,
    threshold: float = 0.3,
    scheme: LandmarkScheme | None = None,
) -> np.ndarray:
    """A model's ``instances`` whose score is above ``threshold``; ``instances`` are in pixels of ``image``.

    Args:
        scheme: as for ``draw_objects``.
    """
    shown = instances[instances.scores > threshold].to("cpu")
    keypoints = shown.pred_keypoints if shown.has("pred_keypoints") else None
    if keypoints is not None and scheme:
        # Where no heatmap confirms a landmark it is a guess, or (hidden in training) nothing at all.
        confirmed = keypoints[..., 2:] > _LEAST_LANDMARK_SCORE
        keypoints = keypoints * confirmed
    boxes, classes = shown.pred_boxes.tensor, shown.pred_classes
    return draw_objects(image, boxes, classes, names, scores=shown.scores, keypoints=keypoints, scheme=scheme)


def blend_heatmap(image: np.ndarray, heatmap: np.ndarray, strength: float = 0.7) -> np.ndarray:
    """Lay class heatmaps over a picture, each cell in the colour of its strongest class.

    Args:
        heatmap: (C, h, w) float in 0..1, covering the whole of ``image``.
        strength: share of the colour where the heatmap is 1.
    """
    size = (image.shape[1], image.shape[0])
    palette = np.array([class_color(i)[::-1] for i in range(len(heatmap))], dtype=np.float32) * 255
    share = strength * heatmap.max(axis=0)[..., None].astype(np.float32)
    color = cv2.resize(palette[heatmap.argmax(axis=0)] * share, size, interpolation=cv2.INTER_LINEAR)
    share = cv2.resize(share, size, interpolation=cv2.INTER_LINEAR)[..., None]
    return np.rint(image * (1 - share) + color).astype(np.uint8)


def side_by_side(images: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures in a row, resized to the height of the first."""
    height = images[0].shape[0]
    return np.hstack([cv2.resize(x, (round(x.shape[1] * height / x.shape[0]), height)) for x in images])


def _label(index: int, names: Sequence[str] | None) -> str:
    return names[index] if names is not None and index < len(names) else f"class {index}"
