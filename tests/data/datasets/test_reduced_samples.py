"""Real samples reduced to a few keypoints of other names train from ``DATASETS.CUSTOM`` alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import centernet_d2
from centernet_d2.data.catalog import load_dataset_dicts
from centernet_d2.data.datasets.keypoint_sets import resolve_schema
from centernet_d2.engine import Trainer
from tests.helpers.reduced_keypoints import FACE9, PERSON5, write_reduced

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT.parent / "shared/data"
#: Name -> annotations, images, keypoints, and the pairs that their names say.
SETS = {
    "person5": ("coco_person/test_coco.json", "coco_person", PERSON5, [(1, 2), (3, 4)]),
    "face9": ("faces68/val.json", "faces68/val", FACE9, [(0, 2), (5, 6), (7, 8)]),
}


@pytest.fixture(params=SETS)
def reduced(request, tmp_path):
    """cfg of the set in ``DATASETS.CUSTOM``, the source's content, and the set's row of ``SETS``."""
    source, images, _, _ = SETS[request.param]
    if not (DATA / source).is_file():
        pytest.skip(f"no {DATA / source}")
    path = write_reduced(DATA / source, tmp_path / "labels.json", SETS[request.param][2])
    cfg = centernet_d2.get_cfg()
    cfg.merge_from_file(str(ROOT / "configs/Synthetic/Base-Synthetic.yaml"))
    name = f"reduced_{request.param}"
    cfg.DATASETS.CUSTOM = [[name, "coco", str(path), str(DATA / images)]]
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (name,)
    cfg.MODEL.CENTERNET.TASK, cfg.MODEL.CENTERNET.NUM_CLASSES, cfg.MODEL.DEVICE = "KeypointRegressionTask", 0, "cpu"
    return cfg, json.loads((DATA / source).read_text()), SETS[request.param]


@pytest.mark.slow
def test_a_few_steps(reduced, tmp_path):
    cfg, source, (_, _, chosen, pairs) = reduced
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS, cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS = 2, (), 2, 0
    cfg.INPUT.SIZE_TRAIN = cfg.INPUT.SIZE_TEST = [64, 64]
    cfg.OUTPUT_DIR = str(tmp_path / "output")
    trainer = Trainer(cfg)
    schema = resolve_schema(trainer.cfg)
    assert list(schema.names) == list(chosen) and [tuple(pair) for pair in schema.flip_pairs] == pairs
    by_id = {one["id"]: one for one in source["annotations"]}
    for dataset_dict in load_dataset_dicts(cfg.DATASETS.TRAIN[0]):
        for one in dataset_dict["annotations"]:
            points = np.array(one["keypoints"]).reshape(-1, 3)
            true = np.array(by_id[one["id"]]["keypoints"], dtype=float).reshape(-1, 3)[list(chosen.values())]
            labeled = true[:, 2] > 0
            np.testing.assert_allclose(points[labeled, :2], true[labeled, :2] + 0.5)
            np.testing.assert_array_equal(points[:, 2], true[:, 2])
    results = trainer.train()
    assert {"PCK10", "error", "missed"} <= set(results["keypoint_errors"])
