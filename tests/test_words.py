"""Words that this project replaced by the field's own stay out of code, configs and docs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: Old word (a regular expression, whole words, parts of identifiers too) -> the field's word.
WORDS = {
    "pictures?": "image",
    "data sets?|data_sets?": "dataset",
    "boxes in space|box in space": "3D boxes",
    "frame before|frames before": "previous frame",
    "learnt": "learned, select_supervised",
    "by heart": "overfit",
    "garments?": "clothing item",
    "surest": "highest-scoring",
    "subcells?|sub-cell": "sub-pixel offset",
    "snap|snaps|snapped": "match to peak",
    "twins?": "flip pairs",
    "mirrored|mirrors|mirror images?": "flipped, flip",
    "findings|(?:one|every|any|each|a|the) finding": "issue",
    "ghosts": "ghost boxes",
    "landmark_schemes?|schemes": "keypoint schema",
    "branch|branches": "head",
    "artist": "visualizer",
    "walkers?": "walking person",
    "films?|filmed": "video",
    "turned": "rotated",
    "folded|fold_batch_norm": "fused",
    "asked": "requested",
    "identity switch|identities": "track ids",
    "metres?": "meter",
    "labelled": "labeled",
    "neighbours?|neighbourhoods?": "neighbor",
    "colours?": "color",
    "centres?|centred": "center",
    "grey": "gray",
    "faults?": "error, problem",
}
#: The tables of old names and their tests, and words of others.
ALLOWED = {
    "centernet_d2/config/renamed.py",
    "centernet_d2/checkpoint/renamed.py",
    "tests/config/test_renamed.py",
    "tests/checkpoint/test_renamed.py",
    "docs/migrating.md",
    "tests/test_words.py",
}
_PART = r"(?<![A-Za-z]){}(?![A-Za-z])"


def text_files() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    return [name for name in listed if name.endswith((".py", ".md", ".yaml", ".toml")) and (ROOT / name).is_file()]


@pytest.mark.parametrize("word", WORDS)
def test_private_words_stay_out(word):
    pattern = re.compile(_PART.format(f"(?:{word})"), re.IGNORECASE)
    found = []
    for name in text_files():
        if name in ALLOWED:
            continue
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1):
            if pattern.search(re.sub(r"https?://\S+", "", line)):
                found.append(f"{name}:{number}: {line.strip()[:100]}")
    assert not found, f"say {WORDS[word]!r}:\n" + "\n".join(found)


def test_the_allow_list_is_short_and_used():
    assert len(ALLOWED) <= 10
    assert all((ROOT / name).is_file() for name in ALLOWED)
