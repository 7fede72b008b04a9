"""Whether all predictions lie to one side of the labels."""

from __future__ import annotations

import math

import numpy as np

# Fewer objects say little.
_OBJECTS = 10
# Percent, and standard errors of the mean.
_SMALLEST, _BEYOND_CHANCE = 1.0, 5.0


def describe_shift(shifts: np.ndarray, unit: str) -> str | None:
    """Return a sentence if predictions lie to one side of the labels by 1 percent or more, and not by chance.

    Labels of machines, or read from files with another first pixel, may all be off. A network that learns from flipped
    images cannot learn what is off sideways, since a flip takes it to the other side.

    Args:
        shifts: (P, 2) x and y of an object's mean prediction minus its mean label, in percent of ``unit``.
    """
    if len(shifts) < _OBJECTS:
        return None
    mean, chance = shifts.mean(axis=0), shifts.std(axis=0, ddof=1) / math.sqrt(len(shifts))
    sides = (("left of", "right of"), ("above", "below"))
    places = [
        f"{abs(mean[axis]):.1f} % {sides[axis][int(mean[axis] > 0)]}"
        for axis in (0, 1)
        if abs(mean[axis]) >= max(_SMALLEST, _BEYOND_CHANCE * chance[axis])
    ]
    if not places:
        return None
    return (
        f"on average, predictions lie {' and '.join(places)} the labels (percent of {unit}). Are the labels off? "
        "What is off sideways cannot be learned from flipped images: see INPUT.AFFINE.FLIP_UNTIL"
    )
