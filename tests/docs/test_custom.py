"""The pages on datasets and tasks of one's own: their code runs, or is the code of the example that runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from tests.helpers.tiny import tiny_cfg

ROOT = Path(__file__).resolve().parents[2]


def read_blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.M | re.S)


def test_the_dataset_trains(tmp_path, monkeypatch):
    register, train = read_blocks("custom_dataset.md", "python")
    monkeypatch.chdir(ROOT)
    cfg = tiny_cfg("SOLVER.MAX_ITER", 1, "DATALOADER.NUM_WORKERS", 0, "MODEL.CENTERNET.NUM_CLASSES", 0)
    monkeypatch.setattr("centernet_d2.get_cfg", lambda: cfg)
    train = train.replace("cfg.merge_from_file", "str").replace("output/plates", str(tmp_path))
    names: dict[str, object] = {}
    try:
        exec(register + train, names)
        results = names["trainer"].test(cfg, names["trainer"].model)
        assert "AP" in results["bbox"] and (tmp_path / "model_final.pth").is_file()
    finally:
        DatasetCatalog.remove("plates_train")
        MetadataCatalog.remove("plates_train")


@pytest.mark.parametrize("block", read_blocks("custom_task.md", "python"), ids=lambda text: text.split("(")[0].strip())
def test_the_task_is_the_one_that_is_tested(block):
    extension = ROOT / "tests" / "extension"
    assert any(block in (extension / name).read_text() for name in ("weight_task.py", "test_one_file.py"))
