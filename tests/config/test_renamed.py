"""Old names of config keys and values are translated, wherever a config comes from."""

from __future__ import annotations

import logging
from functools import reduce

import pytest
import yaml

from centernet_d2 import get_cfg
from centernet_d2.config.renamed import RENAMED_KEYS, RENAMED_VALUES
from centernet_d2.engine.setup import setup_cfg


def value_of(key: str, cfg=None):
    return reduce(lambda node, part: node[part], key.split("."), cfg or get_cfg())


@pytest.mark.parametrize(("old", "new"), [pair for pair in RENAMED_KEYS.items() if pair[1]])
def test_an_old_key_sets_the_new_one(old, new, tmp_path, caplog):
    value = value_of(new)
    changed = not value if isinstance(value, bool) else value + 1 if isinstance(value, int | float) else value
    tree = reduce(lambda inner, part: {part: inner}, reversed(old.split(".")), changed)
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(tree))
    from_file, from_list = get_cfg(), get_cfg()
    with caplog.at_level(logging.WARNING):
        from_file.merge_from_file(str(tmp_path / "old.yaml"))
    said = [r.getMessage() for r in caplog.records if r.name == "centernet_d2.config.renamed"]
    assert len(said) == 1 and f"{old} is now {new}" in said[0]
    from_list.merge_from_list([old, changed])
    assert value_of(new, from_file) == value_of(new, from_list) == changed


@pytest.mark.parametrize("old", [old for old, new in RENAMED_KEYS.items() if not new])
def test_a_key_that_is_gone_is_left_out(old, caplog):
    cfg = get_cfg()
    with caplog.at_level(logging.WARNING):
        cfg.merge_from_list([old, True])
    assert cfg == get_cfg() and f"{old} is gone" in caplog.text


@pytest.mark.parametrize(
    ("key", "old", "new"), [(key, old, new) for key, table in RENAMED_VALUES.items() for old, new in table.items()]
)
def test_an_old_value_becomes_the_new_one(key, old, new):
    cfg = get_cfg()
    in_list = isinstance(value_of(key), list)
    cfg.merge_from_list([key, [old] if in_list else old])
    assert value_of(key, cfg) == ([new] if in_list else new)


def test_old_names_on_the_command_line():
    cfg = setup_cfg(
        "", ["MODEL.CENTERNET.NUM_CLASSES=2", "MODEL.INFERENCE.FOLD_BATCH_NORM=False", "MODEL.BOX3D_ON", "True"]
    )
    assert not cfg.MODEL.INFERENCE.FUSE_BATCH_NORM


def test_todays_names_say_nothing(caplog):
    cfg = get_cfg()
    with caplog.at_level(logging.WARNING):
        cfg.merge_from_list(["MODEL.CENTERNET.GRID_POINTS", [0, 4]])
    assert caplog.records == []
