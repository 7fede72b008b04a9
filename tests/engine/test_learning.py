"""Training leads to networks that find things: of each task a few drawn images are learned by overfitting, and half the
demo leads to a network that finds what it has not seen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

import centernet_d2
from centernet_d2.data.build import build_test_loader
from centernet_d2.data.synthetic import generation as synthetic
from centernet_d2.data.synthetic.generation import register_synthetic
from centernet_d2.engine import Trainer

ROOT = Path(__file__).resolve().parents[2]
NAME = "test_learning_images"


@pytest.mark.slow
def test_synthetic_shapes_are_learned(tmp_path):
    """600 iterations, a minute or two, reached an AP50 of 64 when this was written; the demo's 1,200 reach 91."""
    options = {"SOLVER.MAX_ITER": "600", "SOLVER.STEPS": "(450, 550)", "SEED": "1", "OUTPUT_DIR": str(tmp_path)}
    command = [sys.executable, "tools/train_net.py", "--config-file", "configs/Synthetic/shapes_1pt.yaml"]
    command += [f"{key}={value}" for key, value in {**options, "MODEL.DEVICE": "cpu"}.items()]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    last = json.loads((tmp_path / "metrics.json").read_text().splitlines()[-1])
    assert last["bbox/AP50"] > 55


@pytest.fixture
def select_supervised(tmp_path):
    """Trains a config's network on a few images (or frames) of its drawn set, without augmentation; its evaluation
    there, and the trainer."""

    def train(config: str, count: int = 4, iterations: int = 200) -> tuple[dict[str, dict[str, float]], Trainer]:
        cfg = centernet_d2.get_cfg()
        cfg.merge_from_file(str(ROOT / "configs" / f"{config}.yaml"))
        register_synthetic(NAME, synthetic.SETS[cfg.DATASETS.TRAIN[0]][0], count, seed=5)
        cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (NAME,)
        cfg.INPUT.AFFINE.MODE, cfg.INPUT.AFFINE.FLIP_PROB = "none", 0.0
        cfg.INPUT.COLOR.JITTER = cfg.INPUT.COLOR.LIGHTING = 0.0
        cfg.DATALOADER.NUM_WORKERS, cfg.SOLVER.IMS_PER_BATCH = 0, 4
        cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS = iterations, 20
        cfg.SOLVER.STEPS = (160,) if iterations == 200 else (iterations * 6 // 10, iterations * 17 // 20)
        cfg.SEED, cfg.MODEL.DEVICE, cfg.OUTPUT_DIR = 1, "cpu", str(tmp_path)
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=False)
        return trainer.train(), trainer

    yield train
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "metrics"),
    [
        ("Synthetic/shapes_1pt", ["bbox/AP"]),
        ("Synthetic/persons", ["bbox/AP", "keypoints/AP"]),
        ("Synthetic/extreme_points", ["bbox/AP"]),
        ("Synthetic/rotated", ["rotated/AP"]),
        ("Synthetic-LSNet/lsnet_box", ["bbox/AP"]),
    ],
)
def test_a_few_images_are_known_overfit(config, metrics, select_supervised):
    """600 iterations reach an AP, the mean over overlaps from 0.5 to 0.95, of 95 at least (100 when it was written)."""
    results, _ = select_supervised(config, iterations=600)
    for metric in metrics:
        section, _, name = metric.partition("/")
        assert results[section][name] >= 95


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "section", "name", "bound"),
    [
        ("Synthetic/tracks", "tracking", "IDF1", 80),
        ("Synthetic/pose_videos", "tracking", "IDF1", 80),
        ("Synthetic-LSNet/lsnet_contour", "segm", "AP", 60),
    ],
)
def test_a_few_images_are_learned_overfit(config, section, name, bound, select_supervised):
    results, _ = select_supervised(config)
    assert results[section][name] > bound


@pytest.mark.slow
def test_a_few_scenes_are_learned_overfit(select_supervised):
    """Most objects are found within half a meter (KITTI's AP of fewer than forty objects says little)."""
    _, trainer = select_supervised("Synthetic/boxes3d", count=8)
    model, predictions, wanted = trainer.model.eval(), 0, 0
    (batch,) = build_test_loader(trainer.cfg, NAME)
    for record, result in zip(DatasetCatalog.get(NAME), model(batch), strict=True):
        instances = result["instances"][result["instances"].scores > 0.3]
        for annotation in record["annotations"]:
            same = instances[instances.pred_classes == annotation["category_id"]]
            away = (same.pred_locations - torch.tensor(annotation["location"])).norm(dim=1)
            predictions, wanted = predictions + bool((away < 0.5).any()), wanted + 1
    assert wanted > 5 and predictions / wanted > 0.7
