"""Clothing items of DeepFashion2's 13 categories as points: its landmarks, in its order.

Places in a clothing item's own frame: x to the right of the image, 0 in the center; y down, from the neck (or the
waist); half the width at the armpits is about 1. Each side has an arm or leg of its own, so a clothing item is
symmetric only where both do the same. An open front has two edges, each with points from top to bottom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from centernet_d2.data.schemas import CLOTHES294

# Kind of sleeve, points between armpit and hem, height from armpit to hem, usual half width of the hem.
_TOPS: dict[str, tuple[str, int, float, float]] = {
    "short_sleeved_shirt": ("short", 2, 1.9, 0.95),
    "long_sleeved_shirt": ("long", 2, 1.9, 0.95),
    "short_sleeved_outwear": ("short", 2, 2.1, 1.05),
    "long_sleeved_outwear": ("long", 2, 2.4, 1.05),
    "vest": ("none", 1, 1.7, 0.95),
    "sling": ("strap", 1, 1.5, 0.95),
    "short_sleeved_dress": ("short", 4, 3.5, 1.5),
    "long_sleeved_dress": ("long", 4, 3.5, 1.5),
    "vest_dress": ("none", 3, 3.3, 1.5),
    "sling_dress": ("strap", 3, 3.2, 1.5),
}
_OPEN = ("short_sleeved_outwear", "long_sleeved_outwear")
_ARMPIT = np.array([-0.9, 0.85])


@dataclass(frozen=True)
class ClothingShape:
    """How a clothing item is cut and worn; the sides are those of the image.

    Attributes:
        length: of the body, or of skirts and trouser legs, relative to the usual one.
        hem: width of the hem, relative to the usual one.
        waist: half the width at the waist, 1 is that at the armpits.
        neck_width, neck_depth: half the width and the depth of the neckline.
        sleeve: length of the sleeves, relative to the usual one.
        gap: half the opening of an open front.
        left, right: degrees by which a sleeve hangs down from level, in units of which a leg is half as sensitive.
        left_bend, right_bend: degrees by which the lower half of a long sleeve turns on towards the body.
    """

    length: float = 1.0
    hem: float = 1.0
    waist: float = 0.85
    neck_width: float = 0.4
    neck_depth: float = 0.4
    sleeve: float = 1.0
    gap: float = 0.22
    left: float = 55.0
    right: float = 55.0
    left_bend: float = 5.0
    right_bend: float = 5.0

    def flip(self) -> ClothingShape:
        """Return the clothing item flipped left to right."""
        sides = {"left": self.right, "right": self.left, "left_bend": self.right_bend, "right_bend": self.left_bend}
        return ClothingShape(**{**vars(self), **sides})


_MEAN = np.array([field.default for field in fields(ClothingShape)], dtype=float)
# Half the range of each field of ClothingShape, in their order.
_VARIATION = np.array([0.15, 0.2, 0.12, 0.1, 0.18, 0.15, 0.14, 25.0, 25.0, 15.0, 15.0])


@dataclass(frozen=True)
class Parts:
    """Indices of a category's own landmarks, from 0: polygons to draw.

    Attributes:
        lining: what shows of the inside; empty for trousers and the like.
        panels: the outside.
        seams: lines.
    """

    lining: list[int]
    panels: list[list[int]]
    seams: list[list[int]]


def sample_shape(rng: np.random.Generator) -> ClothingShape:
    """Return a random clothing item."""
    return ClothingShape(*(_MEAN + _VARIATION * rng.uniform(-1, 1, size=len(_MEAN))).tolist())


def place_landmarks(category: str, shape: ClothingShape) -> np.ndarray:
    """Return the landmarks of the category, (n, 2), in its order."""
    if category not in _TOPS:
        return _place_lower(category, shape)
    sleeve, count, height, hem = _TOPS[category]
    bottom = _ARMPIT[1] + height * shape.length
    left, right = (
        np.concatenate([_place_arm(sleeve, shape, angle, bend), _place_body(count, bottom, hem * shape.hem, shape)])
        for angle, bend in ((shape.left, shape.left_bend), (shape.right, shape.right_bend))
    )
    neck_side, neck_middle, front, back = _place_neckline(sleeve, shape)
    if category not in _OPEN:
        neck = [back, neck_side, neck_middle, front, _flip(neck_middle), _flip(neck_side)]
        return np.vstack([neck, left, (0, bottom + 0.06), _flip(right)[::-1]])
    top = np.array([-shape.gap, front[1] + 0.3])
    foot = np.array([-1.4 * shape.gap, bottom + 0.03])
    edge = [top + (foot - top) * fraction for fraction in (1 / 3, 2 / 3)]
    # The short-sleeved one counts its left neckline from the front, the long-sleeved one from the shoulder; the points
    # added for the front are counted right side first in both, the left hem's between the sides.
    neck_left = [top, neck_middle, neck_side] if sleeve == "short" else [neck_side, neck_middle, top]
    neck = [back, *neck_left, _flip(neck_middle), _flip(neck_side)]
    right_front = [_flip(point) for point in (top, *edge, foot)]
    return np.vstack([neck, left, foot, _flip(right)[::-1], right_front, edge])


def list_parts(category: str) -> Parts:
    """Return the parts of a category in drawing order."""
    first, end = CLOTHES294.ranges[CLOTHES294.class_names.index(category)]
    count = end - first
    if category not in _TOPS:
        # From the center of the waist to the crotch.
        seams = [[1, (count + 2) // 2]] if category != "skirt" else []
        return Parts([], [[0, 1, 2, *range(count - 1, 2, -1)]], seams)
    arm = {"short": 5, "long": 9, "none": 0, "strap": 0}[_TOPS[category][0]]
    if category not in _OPEN:
        armholes = [[6, 6 + arm], [count - 1, count - 1 - arm]] if arm else []
        # Dresses have a seam at the waist.
        waist = [[6 + arm + 2, count - 1 - arm - 2]] if "dress" in category else []
        return Parts([1, 0, 5, 4, 3, 2], [[1, *range(6, count), 5, 4, 3, 2]], armholes + waist)
    side = arm + 4
    left, foot, right = list(range(6, 6 + side)), 6 + side, list(range(7 + side, 7 + 2 * side))
    top_left, neck_left = (1, 3) if arm == 5 else (3, 1)
    end_right = 7 + 2 * side
    edges = [end_right + 5, end_right + 4]
    panels = [
        [neck_left, *left, foot, *edges, top_left, 2],
        [5, *right[::-1], end_right + 3, end_right + 2, end_right + 1, end_right, 4],
    ]
    lining = [neck_left, 0, 5, 4, *range(end_right, end_right + 4), foot, *edges, top_left, 2]
    return Parts(lining, panels, [[left[0], left[arm]], [right[-1], right[-1 - arm]]])


def _flip(points: np.ndarray) -> np.ndarray:
    return points * np.array([-1, 1])


def _place_neckline(sleeve: str, shape: ClothingShape) -> Sequence[np.ndarray]:
    """Return the left end, the points between, and the center of the front and of the back."""
    width, depth = shape.neck_width, shape.neck_depth
    if sleeve == "strap":
        positions = [
            (-width - 0.12, -0.15),
            (-width, 0.3 + 0.7 * depth),
            (0, 0.5 + 0.7 * depth),
            (0, 0.3 + 0.2 * depth),
        ]
    else:
        positions = [(-width, -0.12), (-0.62 * width, 0.62 * depth), (0, depth), (0, -0.02)]
    return [np.array(place) for place in positions]


def _place_arm(sleeve: str, shape: ClothingShape, angle: float, bend: float) -> np.ndarray:
    """Return the left arm: from the shoulder along the sleeve, if there is one, and back, to the armpit (included)."""
    if sleeve == "strap":
        return np.array([(-shape.neck_width - 0.22, -0.13), _ARMPIT])
    if sleeve == "none":
        return np.array([(-shape.neck_width - 0.32, -0.04), _ARMPIT])
    shoulder = np.array([-1.0, 0.12])
    upper, lower = (np.array([-np.cos(a), np.sin(a)]) for a in np.radians([angle, angle + bend]))
    if sleeve == "short":
        cuff = shoulder + 0.95 * shape.sleeve * upper
        inner = cuff + 0.62 * np.array([upper[1], -upper[0]])
        return np.array([shoulder, (shoulder + cuff) / 2, cuff, inner, (inner + _ARMPIT) / 2, _ARMPIT])
    half = 1.25 * shape.sleeve
    elbow = shoulder + half * upper
    cuff = elbow + half * lower
    inner_elbow = elbow + 0.5 * np.array([upper[1], -upper[0]])
    inner = cuff + 0.36 * np.array([lower[1], -lower[0]])
    outside = [shoulder, (shoulder + elbow) / 2, elbow, (elbow + cuff) / 2, cuff]
    return np.array([*outside, inner, (inner + inner_elbow) / 2, inner_elbow, (inner_elbow + _ARMPIT) / 2, _ARMPIT])


def _place_body(count: int, bottom: float, hem: float, shape: ClothingShape) -> np.ndarray:
    """Return the left side: ``count`` points below the armpit, and the corner of the hem."""
    fraction = np.linspace(0, 1, count + 2)[1:]
    half_width = np.interp(fraction, [0, 0.4, 1], [-_ARMPIT[0], shape.waist, hem])
    return np.stack([-half_width, _ARMPIT[1] + fraction * (bottom - _ARMPIT[1])], axis=1)


def _place_lower(category: str, shape: ClothingShape) -> np.ndarray:
    """Return the landmarks of shorts, trousers or skirt; the sides differ by how far the legs are apart."""
    waist = 0.75 * shape.waist
    rows = {"shorts": _place_shorts, "trousers": _place_trousers, "skirt": _place_skirt}[category]
    left, right = (np.array(rows(shape, (75 - angle) / 100)) for angle in (shape.left, shape.right))
    center = {"shorts": 0.95, "trousers": 0.95, "skirt": 2.06 * shape.length}[category]
    ends = np.array([[-waist, 0.0], [0.0, 0.06], [waist, 0.0]])
    return np.vstack([ends, left, (0, center), _flip(right)[::-1]])


def _place_shorts(shape: ClothingShape, spread: float) -> list[tuple[float, float]]:
    """Return the left hip, and the outer and inner end of the leg."""
    foot, width = 0.75 + 0.95 * shape.length, 0.72 * shape.hem
    return [(-0.92, 0.7), (-0.92 - spread, foot - 0.1 * spread), (-0.92 - spread + width, foot)]


def _place_trousers(shape: ClothingShape, spread: float) -> list[tuple[float, float]]:
    """Return the left hip, outer knee, outer and inner end of the leg, and inner knee."""
    foot, width = 3.9 * shape.length, 0.45 * shape.hem
    knee = (0.95 + foot) / 2
    return [
        (-0.88, 0.7),
        (-0.8 - 0.5 * spread, knee),
        (-0.75 - spread, foot),
        (-0.75 - spread + width, foot + 0.04),
        (-0.26 - 0.5 * spread, knee + 0.02),
    ]


def _place_skirt(shape: ClothingShape, spread: float) -> list[tuple[float, float]]:
    """Return the left hip and the corner of the hem."""
    return [(-0.88 - 0.2 * spread, 0.85), (-1.0 * shape.hem - spread, 2 * shape.length)]
