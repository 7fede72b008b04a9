"""The scripts of datasets/: where they look, what they write, their exit status."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.helpers.files import face_points, load, run_script, write_pair


def test_the_folder_is_that_of_the_registered_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    write_pair(tmp_path / "300w/ibug/a.jpg", face_points())
    write_pair(tmp_path / "300vw/401/annot/000001.jpg", face_points())
    (tmp_path / "300vw/401/annot").rename(tmp_path / "300vw/401/imgs")
    (tmp_path / "300vw/401/annot").mkdir()
    (tmp_path / "300vw/401/imgs/000001.pts").rename(tmp_path / "300vw/401/annot/000001.pts")
    assert run_script("prepare_300w") == 0
    assert run_script("prepare_300vw", "--every", "2") == 0
    for name in ("300w/annotations/challenge.json", "300vw/annotations/test_1.json"):
        assert len(load(tmp_path / name, tmp_path / name.split("/")[0], "face68")) == 1


@pytest.mark.parametrize(
    "name",
    ["prepare_300w", "prepare_300vw", "prepare_aflw", "prepare_crowdhuman", "prepare_dlib_faces", "prepare_wider_face"],
)
def test_nothing_there(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_script(name, str(tmp_path / "absent")) == 1
    assert str(tmp_path / "absent") in capsys.readouterr().err


def test_faces_of_dlib(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (shared_data / "dlib_faces").iterdir():
        shutil.copyfile(path, tmp_path / path.name)
    assert run_script("prepare_dlib_faces", str(tmp_path / "training_with_face_landmarks.xml")) == 0
    json_file = tmp_path / "training_with_face_landmarks.json"
    assert capsys.readouterr().out == f"{json_file}: 4 images, 18 objects\n"
    assert len(load(json_file, tmp_path, "face68")) == 4
