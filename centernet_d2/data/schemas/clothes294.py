"""The 294 landmarks of DeepFashion2 (Ge et al. 2019): 13 categories, each with landmarks of its own, counted from 0."""

from __future__ import annotations

from centernet_d2.structures.keypoint_schema import KeypointSchema, register_schema

Pairs = list[tuple[int, int]]


def _make_nested_pairs(first: int, last: int) -> Pairs:
    """Return (first, last), (first + 1, last - 1), ... as long as they differ."""
    return [(first + k, last - k) for k in range((last - first + 1) // 2)]


# Neckline 1 (center of the back), 2..6 from side to side; the outline follows from one shoulder to the other.
_NECK: Pairs = [(2, 6), (3, 5)]
# Name, number of landmarks, flip pairs; landmarks of a category count from 1, as in the official drawings.
# The flip pairs of 92 (category 4) are 4 and 34; the reference's table has 31 there, which leaves a landmark without a
# flip pair.
_CATEGORIES: tuple[tuple[str, int, Pairs], ...] = (
    ("short_sleeved_shirt", 25, [*_NECK, *_make_nested_pairs(7, 25)]),
    ("long_sleeved_shirt", 33, [*_NECK, *_make_nested_pairs(7, 33)]),
    ("short_sleeved_outwear", 31, [(2, 26), (3, 5), (4, 6), *_make_nested_pairs(7, 25), (16, 29), (27, 30), (28, 31)]),
    ("long_sleeved_outwear", 39, [*_NECK, (4, 34), *_make_nested_pairs(7, 33), (20, 37), (35, 38), (36, 39)]),
    ("vest", 15, [*_NECK, *_make_nested_pairs(7, 15)]),
    ("sling", 15, [*_NECK, *_make_nested_pairs(7, 15)]),
    ("shorts", 10, [(1, 3), *_make_nested_pairs(4, 10)]),
    ("trousers", 14, [(1, 3), *_make_nested_pairs(4, 14)]),
    ("skirt", 8, [(1, 3), *_make_nested_pairs(4, 8)]),
    ("short_sleeved_dress", 29, [*_NECK, *_make_nested_pairs(7, 29)]),
    ("long_sleeved_dress", 37, [*_NECK, *_make_nested_pairs(7, 37)]),
    ("vest_dress", 19, [*_NECK, *_make_nested_pairs(7, 19)]),
    ("sling_dress", 19, [*_NECK, *_make_nested_pairs(7, 19)]),
)
# Of the object keypoint similarity, in 1/10000, a new row for each category (the challenge's own evaluation code).
_SIGMAS = """
120 158 169 165 169 158 298 329 321 323 340 388 452 574 492 352 492 574 452 388 340 323 321 329 298
194 170 185 193 185 170 286 471 547 526 430 392 513 566 509 564 542 604 599 520 599 604 542 564 509
566 513 392 430 526 547 471 286
74 85 165 248 165 85 156 231 296 137 195 250 347 380 257 370 257 380 347 250 195 137 296 231 156 248
469 632 370 469 632
137 153 243 377 243 153 203 366 467 433 393 329 418 477 399 331 420 492 436 478 436 492 420 331 399
477 418 329 393 433 467 366 203 377 645 573 478 645 573
352 158 210 214 210 158 196 500 489 404 401 404 489 500 196
276 548 283 204 283 548 369 726 677 640 251 640 677 726 369
308 216 308 506 494 463 477 463 494 506
275 202 275 651 451 350 280 392 362 392 280 350 451 651
253 195 253 513 543 415 543 513
153 230 167 145 167 230 332 391 391 396 440 452 498 514 585 655 635 602 635 655 585 514 498 452 440
396 391 391 332
121 134 158 162 158 134 246 406 470 404 463 466 435 499 455 440 411 490 576 685 618 483 618 685 576
490 411 440 486 499 435 466 463 404 470 406 246
116 167 160 180 160 167 196 385 421 497 562 528 428 528 562 497 421 385 196
244 297 244 208 244 297 173 616 659 712 707 685 339 685 707 712 659 616 173
"""


def _make_chains(name: str, start: int, count: int) -> list[tuple[int, ...]]:
    """Return the neckline (or waistband), the outline, and the two edges of an open front."""
    if name in ("shorts", "trousers", "skirt"):
        local = [(1, 2, 3), (1, *range(4, count + 1), 3)]
    elif name == "short_sleeved_outwear":
        outline = [(4, *range(7, 17)), (29, *range(17, 26), 6)]
        local = [(1, 4, 3, 2), (1, 6, 5, 26), *outline, (2, 30, 31, 16), (26, 27, 28, 29)]
    elif name == "long_sleeved_outwear":
        outline = [(2, *range(7, 21)), (37, *range(21, 34), 6)]
        local = [(1, 2, 3, 4), (1, 6, 5, 34), *outline, (4, 38, 39, 20), (34, 35, 36, 37)]
    else:
        local = [(1, 2, 3, 4, 5, 6, 1), (2, *range(7, count + 1), 6)]
    return [tuple(start + k - 1 for k in line) for line in local]


def _build_schema() -> KeypointSchema:
    flip_pairs, chains, ranges, start = [], [], [], 0
    for name, count, pairs in _CATEGORIES:
        flip_pairs += [(start + a - 1, start + b - 1) for a, b in pairs]
        chains += _make_chains(name, start, count)
        ranges.append((start, start + count))
        start += count
    schema = KeypointSchema(
        name="clothes294",
        names=tuple(str(k) for k in range(1, start + 1)),
        class_names=tuple(name for name, _, _ in _CATEGORIES),
        flip_pairs=tuple(flip_pairs),
        chains=tuple(chains),
        ranges=tuple(ranges),
        evaluator="clothes_landmarks",
        sigmas=tuple(int(value) / 10000 for value in _SIGMAS.split()),
    )
    return register_schema(schema)


CLOTHES294 = _build_schema()
