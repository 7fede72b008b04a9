"""Which keypoints of a dataset's own exchange their roles in a flipped image, from their names and skeleton."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence

Pair = tuple[int, int]
# Words of a name: "left_eye", "eye-L", "LeftEye", "l1", "eyeL".
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")
_OPPOSITE = {"left": "right", "right": "left", "l": "r", "r": "l"}


def infer_flip_pairs(names: Sequence[str], edges: Collection[Pair] = ()) -> tuple[list[Pair], list[int]]:
    """Return the flip pairs, and keypoints that are named for a side without an opposite.

    * A name whose words contain left or right, or the letter l or r, is paired with the name that has the other side
      in each of these places.
    * Two names that differ by their number alone (ear_1, ear_2) are paired only if the skeleton shows the symmetry:
      exchanging all pairs maps its lines ``edges`` onto themselves, and each of the two is joined to a third keypoint.
    """
    words = [tuple(word.lower() for word in _WORD.findall(name)) for name in names]
    places = {key: k for k, key in enumerate(words)}
    pairs, alone = [], []
    for k, key in enumerate(words):
        opposite = tuple(_OPPOSITE.get(word, word) for word in key)
        if opposite == key:
            continue
        other = places.get(opposite)
        if other is None or words.count(key) > 1 or words.count(opposite) > 1:
            alone.append(k)
        elif k < other:
            pairs.append((k, other))
    return [*pairs, *_pair_numbered(words, pairs, edges)], alone


def _pair_numbered(words: Sequence[tuple[str, ...]], pairs: list[Pair], edges: Collection[Pair]) -> list[Pair]:
    by_stem = defaultdict(list)
    for k, key in enumerate(words):
        if key and key[-1].isdigit():
            by_stem[key[:-1]].append(k)
    used = {k for pair in pairs for k in pair}
    twos = [(a, b) for a, b in (x for x in by_stem.values() if len(x) == 2) if not {a, b} & used]
    lines = {frozenset(edge) for edge in edges}
    numbered = [pair for pair in twos if all(_is_joined_elsewhere(k, pair, lines) for k in pair)]
    swap = {a: b for pair in [*pairs, *numbered] for a, b in (pair, pair[::-1])}
    is_symmetric = {frozenset(swap.get(k, k) for k in line) for line in lines} == lines
    return numbered if is_symmetric else []


def _is_joined_elsewhere(k: int, pair: Pair, lines: Collection[frozenset[int]]) -> bool:
    return any(k in line and not line <= set(pair) for line in lines)
