"""What run.json says of data and versions."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from centernet_d2.config import get_cfg
from centernet_d2.data.catalog import load_dataset_dicts
from centernet_d2.data.datasets.custom import register_custom_datasets
from centernet_d2.report.run_record import begin_run, describe_dataset, find_git_commit, finish_run, read_runs
from tests.helpers import runs  # noqa: F401  (registers the small datasets)


@pytest.fixture
def dataset(tmp_path) -> str:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((40, 60, 3), dtype=np.uint8))
    boxes = [{"id": i, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 10 + i], "area": 200} for i in (1, 2)]
    image = {"id": 1, "file_name": "a.png", "height": 40, "width": 60}
    content = {"images": [image], "annotations": boxes, "categories": [{"id": 1, "name": "stone"}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    name = f"record_{tmp_path.name}"
    cfg = get_cfg()
    cfg.DATASETS.CUSTOM = [[name, "coco", str(tmp_path / "a.json"), str(tmp_path)]]
    register_custom_datasets(cfg)
    return name


def test_fingerprint_follows_labels_and_not_folders(dataset, tmp_path):
    described = describe_dataset(dataset)
    assert (described["images"], described["objects"]) == (1, 2)
    dataset_dicts = load_dataset_dicts(dataset)
    lines = [json.dumps({**one, "file_name": "a.png"}, sort_keys=True, default=str) for one in dataset_dicts]
    assert str(tmp_path) not in lines[0]
    assert described["sha256"] == hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
    (tmp_path / "a.json").write_text((tmp_path / "a.json").read_text().replace("[5, 5, 20, 12]", "[5, 5, 20, 13]"))
    assert describe_dataset(dataset)["sha256"] != described["sha256"]


def test_fingerprint_of_drawn_data_is_the_same_in_another_process():
    code = (
        "from tests.helpers import runs; from centernet_d2.report.run_record import describe_dataset\n"
        "print(describe_dataset('engine_test_val')['sha256'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    mine = describe_dataset("engine_test_val")
    assert done.stdout.strip() == mine["sha256"] and mine["images"] == 4
    assert describe_dataset("engine_test_train")["sha256"] != done.stdout.strip()


def test_runs_of_a_folder_are_appended(dataset, tmp_path):
    cfg = get_cfg()
    cfg.OUTPUT_DIR, cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = str(tmp_path / "out"), (dataset,), ()
    begin_run(cfg, "train", "my.yaml")
    begin_run(cfg, "train", "my.yaml", resumed=True)
    finish_run(cfg)
    first, second = read_runs(tmp_path / "out")
    assert first["finished"] is None and not first["resumed"]
    assert second["finished"] >= second["started"] and second["resumed"]
    assert second["datasets"]["train"][0]["name"] == dataset and second["config_file"] == "my.yaml"
    (tmp_path / "out" / "run.json").write_text("{")
    assert read_runs(tmp_path / "out") == []


def test_git_commit(tmp_path):
    assert find_git_commit(tmp_path / "package") == ""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "a.py").write_text("1")
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    head = subprocess.run(["git", "-C", str(tmp_path), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert find_git_commit(tmp_path / "package") == head.stdout.strip()
    (tmp_path / "package" / "a.py").write_text("2")
    assert find_git_commit(tmp_path / "package") == f"{head.stdout.strip()}+"
