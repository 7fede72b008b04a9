"""Configurations by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from centernet_d2 import model_zoo
from centernet_d2.model_zoo import configs

NAME = "COCO-Detection/centernet_R_18_DCN_1pt.yaml"
ROOT = Path(__file__).parents[2] / "configs"


def test_a_name_becomes_the_file_of_the_checkout():
    assert Path(model_zoo.get_config_file(NAME)) == ROOT / NAME
    assert model_zoo.get_config(NAME).MODEL.RESNETS.DEPTH == 18


def test_what_a_user_writes_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text in (NAME, f"configs/{NAME}", f"./configs/{NAME}"):
        assert Path(model_zoo.find_config(text)) == ROOT / NAME
    Path("mine.yaml").touch()
    assert model_zoo.find_config("mine.yaml") == "mine.yaml"


def test_names_lead_nowhere_else():
    with pytest.raises(FileNotFoundError, match=r"did you mean .*COCO-Detection/centernet_R_18_DCN_1pt\.yaml"):
        model_zoo.get_config_file("COCO-Detection/centernet_R_18_DCN.yaml")
    for name in ("../README.md", "/etc/passwd", "", "COCO-Detection"):
        with pytest.raises(FileNotFoundError):
            model_zoo.get_config_file(name)


def test_an_installed_package_has_its_own(tmp_path, monkeypatch):
    (tmp_path / "Synthetic").mkdir()
    (tmp_path / "Synthetic" / "a.yaml").touch()
    (tmp_path / "Base-b.yaml").touch()
    monkeypatch.setattr(configs, "_PACKAGED", tmp_path)
    assert model_zoo.list_configs() == ["Synthetic/a.yaml"]
    assert model_zoo.get_config_file("Synthetic/a.yaml") == str(tmp_path / "Synthetic" / "a.yaml")
