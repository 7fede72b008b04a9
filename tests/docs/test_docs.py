"""What the documents name is there: keys of the configuration, files, options of the commands."""

from __future__ import annotations

import re
from functools import reduce
from pathlib import Path

import pytest

from centernet_d2 import get_cfg

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize(
    "name", ["inference.md", "landmarks.md", "migrating.md", "model_zoo.md", "tasks.md", "training.md"]
)
def test_keys_and_files_exist(name):
    text = (DOCS / name).read_text()
    text = text.partition("## Older versions")[0]  # a table of names that are gone
    keys = set(re.findall(r"\b(?:MODEL|INPUT|SOLVER|TEST|DATASETS|DATALOADER)(?:\.[A-Z0-9_]+)+", text))
    assert len(keys) > 5
    for key in keys:
        reduce(lambda node, part: node[part], key.split("."), get_cfg())
    links = re.findall(r"\]\((?!http)([^)]+\.\w+)\)", text)
    commands = re.findall(r"\b((?:configs|tools|datasets)/[\w./-]+\.(?:yaml|py))", re.sub(r"\]\([^)]*\)", "", text))
    theirs = ("convert_hourglass_weight", "calc_coco_overlap", "convert_kitti_to_coco", "gen_coco_extreme", "reval")
    ours = [path for path in commands if not any(word in path for word in theirs)]
    assert links and ours
    missing = [path for path in links if not (DOCS / path).is_file()]
    assert missing + [path for path in ours if not (DOCS.parent / path).is_file()] == []
