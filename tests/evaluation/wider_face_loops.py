"""WIDER FACE's counting written a second time: plain loops, one threshold, image and detection at a time.

An image is (faces, detections): faces are (x, y, width, height, whether it counts), detections (x, y, width, height,
score).
"""

from __future__ import annotations

import math


def average_precision(images):
    """Percent; NaN without a face that counts."""
    total = sum(face[4] for faces, _ in images for face in faces)
    scores = [one[4] for _, predictions in images for one in predictions]
    if not total:
        return math.nan
    precisions, recalls = [], []
    for step in range(1, 1001):
        hits = shown = 0
        for faces, predictions in images:
            above = [one for one in predictions if normalize_score(one[4], scores) >= 1 - step / 1000]
            h, s = tally(faces, above)
            hits, shown = hits + h, shown + s
        precisions.append(hits / shown if shown else 0.0)
        recalls.append(hits / total)
    area = before = 0.0
    for k, recall in enumerate(recalls):
        area += (recall - before) * max(precisions[k:])
        before = recall
    return 100 * area


def normalize_score(score, scores):
    low, high = min(scores), max(scores)
    return (score - low) / (high - low) if high > low else 1.0


def tally(faces, predictions):
    """Hits, and the detections that are hits or errors."""
    if not faces:
        return 0, 0
    taken, shown = set(), 0
    for one in sorted(predictions, key=lambda x: -x[4]):
        fractions = [overlap(one, face) for face in faces]
        best = fractions.index(max(fractions))
        if fractions[best] < 0.5:
            shown += 1
        elif faces[best][4]:
            taken.add(best)
            shown += 1
    return len(taken), shown


def overlap(a, b):
    """Pixels from x to x + width, both inside."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]) + 1
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / ((a[2] + 1) * (a[3] + 1) + (b[2] + 1) * (b[3] + 1) - width * height)
