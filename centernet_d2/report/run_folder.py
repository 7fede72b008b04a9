"""The files of a run's folder, read."""

from __future__ import annotations

import io
import json
import math
import sys
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from centernet_d2.report.matching import ClassMatches, match_classes
from centernet_d2.report.objects import EvaluatedObjects
from centernet_d2.report.recorder import IMAGES_FILE, OBJECTS_FILE
from centernet_d2.report.run_record import read_runs
from centernet_d2.report.training_images import FOLDER as TRAIN_IMAGES

RESULTS_FILE = "results.json"
#: Below OUTPUT_DIR, where evaluations write.
INFERENCE = "inference"
#: Of a curve.
MOST_POINTS = 20_000
_LONGEST_LINE = 2**20


@dataclass(frozen=True)
class EvaluatedDataset:
    """What an evaluation wrote for one dataset.

    Attributes:
        folder: of its images.
        images: entries of ``images.json``: "group" ("best" or "worst"), "file", "image" and "quality".
    """

    name: str
    objects: EvaluatedObjects
    folder: Path
    images: list[dict[str, Any]]

    @cached_property
    def matches(self) -> list[ClassMatches]:
        """Return the matched detections of each class at ``matching.COCO_IOUS``, of which the first is 0.5."""
        return match_classes(self.objects)


@dataclass(frozen=True)
class RunFolder:
    """
    Attributes:
        runs: of ``run.json``, the last one last.
        metrics: name -> iteration -> value, of ``metrics.json``; what a resumed run did again counts once.
        results: dataset -> task -> metric -> value, of the last evaluation.
        evaluated: the datasets of the last evaluation.
        train_images: files of sheets.
        config: text of ``config.yaml``.
    """

    path: Path
    runs: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, dict[int, float]] = field(default_factory=dict)
    results: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    evaluated: list[EvaluatedDataset] = field(default_factory=list)
    train_images: list[Path] = field(default_factory=list)
    config: str = ""


def read_run_folder(path: Path) -> RunFolder:
    """Read what is there; files that cannot be read count as absent, except the objects of an evaluation.

    Raises:
        FileNotFoundError: it is no folder of a run: there is neither config.yaml nor metrics.json.
        ValueError: the objects of an evaluation cannot be read.
    """
    config = path / "config.yaml"
    if not config.is_file() and not (path / "metrics.json").is_file():
        raise FileNotFoundError(f"{path} is no folder of a run: it has neither config.yaml nor metrics.json")
    results = _read_json(path / INFERENCE / RESULTS_FILE, {})
    return RunFolder(
        path=path,
        runs=read_runs(path),
        metrics=read_metrics(path / "metrics.json"),
        results=results,
        evaluated=[one for name in results if (one := _read_dataset(path / INFERENCE / name, name))],
        train_images=sorted((path / TRAIN_IMAGES).glob("*.jpg")),
        config=config.read_text(encoding="utf-8") if config.is_file() else "",
    )


class _Curve:
    """Values by iteration: every one of few, every second, fourth, ... of many, and the last."""

    def __init__(self) -> None:
        self.values: dict[int, float] = {}
        self.count, self.step, self.last = 0, 1, (0, 0.0)

    def add(self, iteration: int, value: float) -> None:
        self.last = iteration, value
        if self.count % self.step == 0 or iteration in self.values:
            self.values[iteration] = value
        if len(self.values) > MOST_POINTS:
            self.values, self.step = dict(islice(self.values.items(), 0, None, 2)), 2 * self.step
        self.count += 1

    def sort(self) -> dict[int, float]:
        return dict(sorted([*self.values.items(), self.last]))


def read_metrics(path: Path) -> dict[str, dict[int, float]]:
    """Return name -> iteration -> value of Detectron2's ``metrics.json``, iterations ascending.

    Lines that an interruption cut short are left out. Of an iteration written twice, by a resumed run, the last counts.
    Of more than ``MOST_POINTS`` values of a name an even part is returned, with the last, so that a file of any length
    needs the same memory.
    """
    curves: dict[str, _Curve] = {}
    with path.open(encoding="utf-8", errors="replace") if path.is_file() else io.StringIO() as file:
        while line := file.readline(_LONGEST_LINE):
            try:
                entry = json.loads(line)
                iteration = int(entry.pop("iteration"))
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
                continue
            for name, value in entry.items():
                if isinstance(value, int | float) and abs(value) <= sys.float_info.max:
                    curves.setdefault(name, _Curve()).add(iteration, float(value))
    return {name: curve.sort() for name, curve in curves.items()}


def write_results(folder: Path, results: dict[str, Any]) -> None:
    """Write dataset -> task -> metric -> value for :class:`RunFolder`; what is no finite number becomes null."""
    path = folder / INFERENCE / RESULTS_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_make_plain(results), indent=1), encoding="utf-8")


def _make_plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _make_plain(one) for key, one in value.items()}
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    return number if math.isfinite(number) else None


def _read_dataset(folder: Path, name: str) -> EvaluatedDataset | None:
    if not (folder / OBJECTS_FILE).is_file():
        return None
    return EvaluatedDataset(
        name, EvaluatedObjects.load(folder / OBJECTS_FILE), folder, _read_json(folder / IMAGES_FILE, [])
    )


def _read_json(path: Path, default: Any) -> Any:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return default
    return value if isinstance(value, type(default)) else default
