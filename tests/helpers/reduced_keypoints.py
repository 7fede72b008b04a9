"""Real samples with a few of their keypoints under other names, as a user would bring them."""

from __future__ import annotations

import json
from pathlib import Path

#: Own name -> index in COCO's 17 keypoints, and in 300W's 68.
PERSON5 = {"head": 0, "left_hand": 9, "right_hand": 10, "left_foot": 15, "right_foot": 16}
FACE9 = {
    "right_jaw": 0,
    "chin": 8,
    "left_jaw": 16,
    "bridge": 27,
    "tip": 30,
    "right_eye": 36,
    "left_eye": 45,
    "right_mouth": 48,
    "left_mouth": 54,
}


def write_reduced(source: Path, target: Path, chosen: dict[str, int]) -> Path:
    """Write the COCO file ``source`` with the ``chosen`` keypoints of its only class; return ``target``.

    Boxes are those of the source; objects without any of these keypoints stay, with none labeled.
    """
    data = json.loads(source.read_text())
    (category,) = (one for one in data["categories"] if one.get("keypoints"))
    data["categories"] = [{"id": category["id"], "name": "own", "keypoints": list(chosen), "skeleton": []}]
    for one in data["annotations"]:
        triples = [one["keypoints"][3 * k : 3 * k + 3] for k in chosen.values()]
        one["keypoints"] = [value for triple in triples for value in triple]
        one["num_keypoints"] = sum(triple[2] > 0 for triple in triples)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(data))
    return target
