"""KITTI's counting written a second time: plain loops over dictionaries, one threshold and one object at a time.

Objects have type, box (x1, y1, x2, y2), alpha, size (h, w, l), place (x, y, z), ry; true ones occluded and truncated,
found ones score.
"""

from __future__ import annotations

import math

LIMITS = {"easy": (40, 0, 0.15), "moderate": (25, 1, 0.3), "hard": (25, 2, 0.5)}
RELATED = {"car": "van", "pedestrian": "person_sitting", "cyclist": None}


def average_precisions(images, kind, name, level, minimum):
    """AP40, AP11, AOS40, AOS11 in percent of [(true objects, found objects), ...]; NaN without anything to find."""
    scores, total = [], 0
    for true, predictions in images:
        scores += hit_scores(true, predictions, kind, name, level, minimum)
        total += sum(status(one, name, level) == "counts" for one in true)
    if not total:
        return [math.nan] * 4
    precision, similarity = [0.0] * 41, [0.0] * 41
    for k, threshold in enumerate(thresholds(scores, total)):
        hits = errors = alike = 0
        for true, predictions in images:
            above = [one for one in predictions if one["score"] >= threshold]
            h, e, a = tally(true, above, kind, name, level, minimum)
            hits, errors, alike = hits + h, errors + e, alike + a
        if hits + errors:
            precision[k], similarity[k] = hits / (hits + errors), alike / (hits + errors)
    results = []
    for curve in (precision, similarity):
        best = [max(curve[k:]) for k in range(41)]
        results += [100 * sum(best[1:]) / 40, 100 * sum(best[k] for k in range(0, 41, 4)) / 11]
    return results


def status(one, name, level):
    """What a true object is to a class: it counts, is ignored, or is not there."""
    height, occlusion, truncation = LIMITS[level]
    if one["type"] == RELATED[name]:
        return "ignored"
    if one["type"] != name:
        return "absent"
    low = one["box"][3] - one["box"][1] < height
    return "ignored" if low or one["occluded"] > occlusion or one["truncated"] > truncation else "counts"


def role(one, name, level):
    """What a found object is to a class."""
    if one["box"][3] - one["box"][1] < LIMITS[level][0]:
        return "small"
    return "counts" if one["type"] == name else "absent"


def hit_scores(true, predictions, kind, name, level, minimum):
    used, scores = set(), []
    for one in true:
        if status(one, name, level) == "absent":
            continue
        best = None
        for j, other in enumerate(predictions):
            if j in used or role(other, name, level) == "absent" or overlap(other, one, kind) <= minimum:
                continue
            if best is None or other["score"] > predictions[best]["score"]:
                best = j
        if best is not None:
            used.add(best)
            if status(one, name, level) == "counts" and role(predictions[best], name, level) == "counts":
                scores.append(predictions[best]["score"])
    return scores


def thresholds(scores, total):
    result, recall = [], 0.0
    scores = sorted(scores, reverse=True)
    for i, score in enumerate(scores):
        here, there = (i + 1) / total, (i + 2) / total
        if i + 1 < len(scores) and there - recall < recall - here:
            continue
        result.append(score)
        recall += 1 / 40
    return result


def tally(true, predictions, kind, name, level, minimum):
    """Hits, errors and the sum of similarities."""
    used, hits, alike = set(), 0, 0.0
    for one in true:
        if status(one, name, level) == "absent":
            continue
        fitting = [
            (j, overlap(other, one, kind))
            for j, other in enumerate(predictions)
            if j not in used and role(other, name, level) != "absent" and overlap(other, one, kind) > minimum
        ]
        tall = [(j, fraction) for j, fraction in fitting if role(predictions[j], name, level) == "counts"]
        if tall:
            largest = max(fraction for _, fraction in tall)
            j = next(j for j, fraction in tall if fraction == largest)
            if status(one, name, level) == "counts":
                hits += 1
                alike += (1 + math.cos(one["alpha"] - predictions[j]["alpha"])) / 2
            used.add(j)
        elif fitting:
            used.add(fitting[0][0])
    errors = 0
    for j, other in enumerate(predictions):
        if j in used or role(other, name, level) != "counts":
            continue
        regions = [one for one in true if one["type"] == "dontcare" and kind == "2d"]
        errors += not any(shared_area(other["box"], one["box"]) > minimum * area(other["box"]) for one in regions)
    return hits, errors, alike


def overlap(a, b, kind):
    if kind == "2d":
        shared = shared_area(a["box"], b["box"])
        return shared / (area(a["box"]) + area(b["box"]) - shared)
    shared = polygon_area(clip(ground(a), ground(b)))
    if kind == "bev":
        return shared / (a["size"][1] * a["size"][2] + b["size"][1] * b["size"][2] - shared)
    bottom = min(a["place"][1], b["place"][1])
    top = max(a["place"][1] - a["size"][0], b["place"][1] - b["size"][0])
    shared *= max(0, bottom - top)
    return shared / (math.prod(a["size"]) + math.prod(b["size"]) - shared)


def area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def shared_area(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0


def ground(one):
    """The four corners from above, counter-clockwise with x to the right and z up."""
    _, width, length = one["size"]
    x, _, z = one["place"]
    cosine, sine = math.cos(one["ry"]), math.sin(one["ry"])
    halves = [(length / 2, width / 2), (-length / 2, width / 2), (-length / 2, -width / 2), (length / 2, -width / 2)]
    return [(x + cosine * u + sine * v, z - sine * u + cosine * v) for u, v in halves]


def clip(polygon, window):
    for (x1, z1), (x2, z2) in zip(window, window[1:] + window[:1], strict=True):
        result = []
        sides = [(x2 - x1) * (z - z1) - (z2 - z1) * (x - x1) for x, z in polygon]
        for k, (x, z) in enumerate(polygon):
            before = polygon[k - 1]
            if (sides[k] > 0) != (sides[k - 1] > 0):
                t = sides[k - 1] / (sides[k - 1] - sides[k])
                result.append((before[0] + t * (x - before[0]), before[1] + t * (z - before[1])))
            if sides[k] > 0:
                result.append((x, z))
        polygon = result
    return polygon


def polygon_area(polygon):
    total = 0.0
    for k, (x, z) in enumerate(polygon):
        total += polygon[k - 1][0] * z - polygon[k - 1][1] * x
    return total / 2
