"""From a command line to a configuration; mistakes are named."""

from __future__ import annotations

import json

import pytest

from centernet_d2.cli.options import build_training_parser
from centernet_d2.engine import setup_cfg

TRAIN = ("DATASETS.TRAIN", "('synthetic_shapes_train',)", "DATASETS.TEST", "()")


def test_both_ways_to_write_a_key():
    cfg = setup_cfg("", [*TRAIN, "SOLVER.MAX_ITER=7", "MODEL.DEVICE", "cpu", "OUTPUT_DIR=a=b", "SOLVER.STEPS=(3, 5)"])
    assert (cfg.SOLVER.MAX_ITER, cfg.MODEL.DEVICE, cfg.OUTPUT_DIR, cfg.SOLVER.STEPS) == (7, "cpu", "a=b", (3, 5))
    assert cfg.is_frozen()
    for empty in (["MODEL.WEIGHTS", ""], ["MODEL.WEIGHTS="]):
        assert setup_cfg("", [*TRAIN, *empty]).MODEL.WEIGHTS == ""


def test_the_command_line_wins(tmp_path):
    own = "SOLVER:\n  MAX_ITER: 3\n  BASE_LR: 0.5\nDATASETS:\n  TRAIN: [synthetic_shapes_train]"
    (tmp_path / "a.yaml").write_text(own)
    cfg = setup_cfg(str(tmp_path / "a.yaml"), ["SOLVER.MAX_ITER=4"])
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR) == (4, 0.5)


@pytest.mark.parametrize(
    ("opts", "said"),
    [
        (["SOLVER.MAXITER=7"], r"SOLVER.MAXITER.*did you mean SOLVER.MAX_ITER"),
        (["SOLVER.MAX_ITER.X=7"], "SOLVER.MAX_ITER.X"),
        (["SOLVER.MAX_ITER"], "has no value"),
        (["SOLVER.MAX_ITER=seven"], "Type mismatch|type"),
        (["MODEL.CENTERNET.NUM_CLASSES=80"], "80.*6 classes"),
    ],
)
def test_mistakes_are_named(opts, said):
    with pytest.raises(ValueError, match=said):
        setup_cfg("", [*TRAIN, *opts])


def test_the_class_count_is_the_datasets(tmp_path):
    """Read from a COCO file that only the command line names."""
    categories = [{"id": i, "name": f"class {i}"} for i in (3, 5, 9)]
    images = [{"id": 1, "file_name": "a.jpg", "height": 10, "width": 10}]
    (tmp_path / "a.json").write_text(json.dumps({"images": images, "annotations": [], "categories": categories}))
    entry = ("engine_test_own", "coco", str(tmp_path / "a.json"), str(tmp_path))
    cfg = setup_cfg("", [f"DATASETS.CUSTOM=[{entry}]", "DATASETS.TRAIN=('engine_test_own',)"])
    assert cfg.MODEL.CENTERNET.NUM_CLASSES == 3


def test_a_written_config_reads_the_same(tmp_path):
    cfg = setup_cfg("", [*TRAIN, "MODEL.CENTERNET.GRID_POINTS=[0, 4, 8]"])
    (tmp_path / "config.yaml").write_text(cfg.dump())
    again = setup_cfg(str(tmp_path / "config.yaml"))
    # (Detectron2 itself has a key whose nested tuples come back as lists.)
    assert all(again[part] == cfg[part] for part in cfg if part != "MODEL")
    assert again.MODEL.CENTERNET == cfg.MODEL.CENTERNET and again.MODEL.NECK == cfg.MODEL.NECK


def test_options():
    line = "--config-file a.yaml --num-gpus 2 --resume SEED=1 VIS_PERIOD 3"
    args = build_training_parser("x").parse_args(line.split())
    assert (args.config_file, args.num_gpus, args.resume, args.eval_only) == ("a.yaml", 2, True, False)
    assert args.opts == ["SEED=1", "VIS_PERIOD", "3"]
