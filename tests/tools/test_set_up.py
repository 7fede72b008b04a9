"""The set-up scripts, without a network: repositories and wheels are made on the spot."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import setup_env

from centernet_d2.cli import install_detectron2


def git(*arguments: str, folder: Path) -> str:
    track_id = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    command = ["git", "-C", str(folder), *track_id, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def upstream(tmp_path) -> tuple[Path, str]:
    """A repository with the layout of Detectron2's, and its commit."""
    folder = tmp_path / "upstream"
    (folder / "detectron2" / "model_zoo").mkdir(parents=True)
    (folder / "configs").mkdir()
    (folder / "detectron2" / "__init__.py").write_text('__version__ = "0.6"\n')
    (folder / "configs" / "Base.yaml").write_text("VERSION: 2\n")
    git("init", "--quiet", folder=folder)
    git("add", ".", folder=folder)
    git("commit", "--quiet", "-m", "all", folder=folder)
    return folder, git("rev-parse", "HEAD", folder=folder)


def test_upstream_tree_becomes_an_importable_wheel(upstream, tmp_path):
    repository, commit = upstream
    tree = install_detectron2.from_github(tmp_path, url=repository.as_uri(), commit=commit)
    wheel = install_detectron2.build_wheel(tree, "0.6+gitabc", "a test", tmp_path)
    target = tmp_path / "target"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*pip, str(wheel)], check=True)
    script = "import detectron2, importlib.metadata as m; print(detectron2.__file__, m.version('detectron2'))"
    command = [sys.executable, "-c", script]
    predictions = subprocess.run(
        command, env={"PYTHONPATH": str(target)}, capture_output=True, text=True
    ).stdout.split()
    assert predictions == [str(target / "detectron2" / "__init__.py"), "0.6+gitabc"]
    assert (target / "detectron2" / "model_zoo" / "configs" / "Base.yaml").is_file()


def test_another_commit_than_the_pinned_one_is_not_taken(upstream, tmp_path):
    with pytest.raises(subprocess.CalledProcessError):
        install_detectron2.from_github(tmp_path, url=upstream[0].as_uri(), commit="0" * 40)


def fake_pip_download(folder: Path, common: str):
    """What stands in for ``pip download``: a wheel with the two files that are patched."""

    def run(command, **kwargs):
        with zipfile.ZipFile(folder / "labgym-3.1.2-py3-none-any.whl", "w") as archive:
            archive.writestr("LabGym/detectron2/__init__.py", "from LabGym.detectron2.utils import env\n")
            archive.writestr("LabGym/detectron2/data/common.py", common)
            archive.writestr("LabGym/detectron2/layers/mask_ops.py", "mask = np.array(mask, copy=False)\n")
            archive.writestr("LabGym/other.py", "")

    return run


def test_a_wheel_of_another_content_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(install_detectron2.subprocess, "run", fake_pip_download(tmp_path, ""))
    with pytest.raises(RuntimeError, match="sha256"):
        install_detectron2.from_labgym(tmp_path)


def test_imports_are_renamed_and_exactly_the_two_patches_made(tmp_path, monkeypatch):
    sample = "self._rng.sample(self._fallback_candidates, k=1)[0]\n"
    monkeypatch.setattr(install_detectron2.subprocess, "run", fake_pip_download(tmp_path, sample))
    monkeypatch.setattr(install_detectron2.hashlib, "sha256", lambda _: FixedDigest())
    tree = install_detectron2.from_labgym(tmp_path)
    files = {p.relative_to(tree).as_posix(): p.read_text() for p in tree.rglob("*.py")}
    assert files == {
        "__init__.py": "from detectron2.utils import env\n",
        "data/common.py": "self._rng.sample(list(self._fallback_candidates), k=1)[0]\n",
        "layers/mask_ops.py": "mask = np.asarray(mask)\n",
    }
    monkeypatch.setattr(install_detectron2.subprocess, "run", fake_pip_download(tmp_path, "something else\n"))
    with pytest.raises(RuntimeError, match="cannot patch"):
        install_detectron2.from_labgym(tmp_path)


class FixedDigest:
    def hexdigest(self) -> str:
        return install_detectron2.LABGYM_SHA256


def test_set_up_is_complete_only_with_todays_inputs_and_a_python(tmp_path, monkeypatch):
    assert not setup_env.is_complete(tmp_path)
    (tmp_path / ".complete").write_text(setup_env.compute_fingerprint() + "\n")
    assert not setup_env.is_complete(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    assert setup_env.is_complete(tmp_path)
    monkeypatch.setattr(setup_env, "INPUTS", setup_env.INPUTS[:-1])
    assert not setup_env.is_complete(tmp_path)


def test_a_failing_step_stops_with_a_sentence():
    with pytest.raises(SystemExit, match=r"stopped while trying it\.\nDo this"):
        setup_env.run("trying it", "Do this.", sys.executable, "-c", "raise SystemExit(3)")


def test_an_old_python_and_a_full_disk_are_named(monkeypatch):
    monkeypatch.setattr(setup_env.sys, "version_info", (3, 9, 1))
    with pytest.raises(SystemExit, match=r"Python 3\.11 or newer is needed, this is 3\.9"):
        setup_env.check_machine()
    monkeypatch.undo()
    monkeypatch.setattr(setup_env, "FREE_GIGABYTES", 10**9)
    with pytest.raises(SystemExit, match="GB are free"):
        setup_env.check_machine()


def test_constraints_pin_everything_that_setup_names():
    root = setup_env.ROOT
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in (root / "constraints.txt").open()}
    named = {"torch", "torchvision", "numpy", "opencv-python-headless", "pillow", "fvcore", "iopath", "pycocotools"}
    named |= {"faster-coco-eval", "mypy", "ruff", "pytest", "pytest-xdist", "hypothesis", "setuptools", "pip", "wheel"}
    assert named <= pinned
