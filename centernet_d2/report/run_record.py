"""``run.json`` in a run's folder: what was run, with which versions, on which data, when and where."""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm

import centernet_d2
from centernet_d2.checkpoint.writing import write_text
from centernet_d2.data.catalog import load_dataset_dicts

_logger = logging.getLogger(__name__)
FILE = "run.json"
_PACKAGES = ("centernet_d2", "detectron2", "torch", "torchvision", "numpy", "pycocotools")


def begin_run(
    cfg: CfgNode, task: str, config_file: str = "", resumed: bool = False, described: Sequence[dict[str, Any]] = ()
) -> None:
    """Append a run to ``OUTPUT_DIR/run.json``.

    Args:
        task: "train" or "evaluate", which decides what datasets are described.
        config_file: that it was started with.
        resumed: whether it goes on from a checkpoint in OUTPUT_DIR.
        described: :func:`describe_dataset` of datasets, as far as it is known.

    Raises:
        FileNotFoundError, ValueError: those of ``load_dataset_dicts``.
    """
    names = {"test": cfg.DATASETS.TEST} | ({"train": cfg.DATASETS.TRAIN} if task == "train" else {})
    known = {one["name"]: one for one in described}
    run = {
        "task": task,
        "command": shlex.join(sys.argv),
        "config_file": config_file,
        "weights": cfg.MODEL.WEIGHTS,
        "resumed": resumed,
        "seed": cfg.SEED,
        "started": _now(),
        "finished": None,
        "device": describe_device(cfg.MODEL.DEVICE),
        "processes": comm.get_world_size(),
        "versions": find_versions(),
        "git_commit": find_git_commit(Path(centernet_d2.__file__).parent),
        "datasets": {
            role: [known.get(name) or describe_dataset(name) for name in names[role]] for role in sorted(names)
        },
    }
    _write(cfg, [*read_runs(Path(cfg.OUTPUT_DIR)), run])


def finish_run(cfg: CfgNode) -> None:
    """Note that the last run of ``OUTPUT_DIR/run.json`` has come to its end."""
    runs = read_runs(Path(cfg.OUTPUT_DIR))
    if runs:
        runs[-1]["finished"] = _now()
        _write(cfg, runs)


def read_runs(folder: Path) -> list[dict[str, Any]]:
    """Return the runs of a folder, the last one last; [] where there is no ``run.json``, or none that can be read."""
    try:
        return list(json.loads((folder / FILE).read_text(encoding="utf-8"))["runs"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return []


def describe_dataset(name: str) -> dict[str, Any]:
    """Return the name, numbers of images and objects, and a fingerprint of a registered dataset.

    "sha256" is that of the dataset dicts as JSON, a line each, with file names without folders: of the names and sizes
    of the images and their annotations as they are used, whatever file they came from.
    """
    dataset_dicts = load_dataset_dicts(name)
    digest = hashlib.sha256()
    for one in dataset_dicts:
        plain = {**one, "file_name": Path(str(one["file_name"])).name}
        digest.update(json.dumps(plain, sort_keys=True, default=str).encode() + b"\n")
    objects = sum(len(one.get("annotations", ())) for one in dataset_dicts)
    return {"name": name, "images": len(dataset_dicts), "objects": objects, "sha256": digest.hexdigest()}


def warn_changed(saved: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]]) -> None:
    """Warn of each dataset whose images or annotations are not those that a checkpoint was trained on.

    Args:
        saved: :func:`describe_dataset` of its datasets; none for checkpoints of older versions.
        now: of those that its training goes on with.
    """
    before = {one["name"]: one for one in saved}
    for one in now if saved else ():
        old = before.get(one["name"])
        if old != one:
            was = f"it had {old['images']} images with {old['objects']} objects" if old else "it was not among them"
            _logger.warning(
                "Dataset %s is not what the checkpoint was trained on: %s, now there are %d with %d. Training goes on "
                "with what is there now; it will not be as if it had not stopped",
                *(one["name"], was, one["images"], one["objects"]),
            )


def find_versions() -> dict[str, str]:
    """Return the versions of Python, CUDA and the packages that decide results."""
    versions = {"python": platform.python_version(), "system": platform.platform()}
    for package in _PACKAGES:
        # The module's own says more, such as 2.11.0+cu130.
        versions[package] = getattr(sys.modules.get(package), "__version__", None) or _find_installed(package)
    return versions | ({"cuda": torch.version.cuda} if torch.version.cuda else {})


def _find_installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def find_git_commit(folder: Path) -> str:
    """Return the commit of a checkout, with "+" where its files were changed; "" where it is none."""
    try:
        if not (folder.parent / ".git").exists():
            return ""
        commit, changes = (
            subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True).stdout
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit.strip() + "+" * bool(changes.strip())


def describe_device(device: str) -> str:
    """Return the name of the device that ``MODEL.DEVICE`` means."""
    if device.startswith("cuda") and torch.cuda.is_available():
        return f"{device}: {torch.cuda.get_device_name(device)}"
    return f"{device}: {os.cpu_count()} cores, {torch.get_num_threads()} threads"


def _write(cfg: CfgNode, runs: list[dict[str, Any]]) -> None:
    path = Path(cfg.OUTPUT_DIR, FILE)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"runs": runs}, indent=1))


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
