"""The extreme points of any object (Papadopoulos et al. 2017): its topmost, leftmost, lowest and rightmost point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from centernet_d2.ops.extreme_points import SIDES
from centernet_d2.structures.keypoint_schema import KeypointSchema, register_schema

EXTREME4 = register_schema(
    KeypointSchema(
        name="extreme4",
        names=SIDES,
        class_names=(),
        flip_pairs=((1, 3),),
        chains=((0, 1, 2, 3, 0),),
        ranges=(),
        evaluator="coco",
    )
)

# Of the object's height or width: an outline that is no farther from the extreme counts as extreme.
_TOLERANCE = 0.02
# Of each side: the coordinate that is extreme, and whether it is the smallest (1) or the largest (-1).
_SIDES = ((1, 1), (0, 1), (1, -1), (0, -1))


def find_extreme_points(outlines: Sequence[np.ndarray], margin: float = 0.0) -> np.ndarray:
    """Return an object's extreme points, (4, 2) x, y, by the rule of ExtremeNet's reference code.

    From the extreme vertex, both ways along its outline, all vertices count that are within 2 % of the object's extent
    of the extreme. The point is in their center, at the extreme coordinate. (Unlike the reference code, whole outlines
    are gone around, an outline does not go on into the object's next one, and nothing is cut to whole pixels.)

    Args:
        outlines: (V, 2) x, y each, closed.
        margin: how far the object reaches beyond its outlines, same unit; half a pixel where these go through the
            centers of pixels.
    """
    vertices = np.concatenate(outlines)
    owner = np.repeat(np.arange(len(outlines)), [len(outline) for outline in outlines])
    first = np.cumsum([0, *map(len, outlines)])
    extent = np.ptp(vertices, axis=0) + 2 * margin
    points = np.empty((4, 2))
    for point, (axis, sign) in zip(points, _SIDES, strict=True):
        depth = sign * vertices[:, axis]
        farthest = int(depth.argmin())
        start = first[owner[farthest]]
        outline = np.roll(outlines[owner[farthest]], start - farthest, axis=0)
        near = sign * outline[:, axis] - depth[farthest] <= _TOLERANCE * extent[axis]
        ahead = np.logical_and.accumulate(near)
        run = outline[ahead | np.logical_and.accumulate(near[::-1])[::-1], 1 - axis]
        point[axis] = vertices[farthest, axis] - sign * margin
        point[1 - axis] = (run.min() + run.max()) / 2
    return points
