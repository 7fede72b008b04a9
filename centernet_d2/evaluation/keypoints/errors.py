"""Errors per face of an evaluation: results by subset, a table, and a file that stores them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from centernet_d2.data.formats.text import read_text
from centernet_d2.evaluation.keypoints.metrics import LIMITS, NORMALIZERS, area_under_curve, failure_rate, mean_error

# What CenterNet-Multi-Func-Det prints: only faces found with a score above this, and two normalizers.
_REFERENCE_SCORE = 0.3
_REFERENCE_NORMALIZERS = ("inter_ocular", "inter_pupil")


@dataclass
class FaceError:
    """One annotated face.

    Attributes:
        image_id, file_name: of the dataset dict.
        face: its number in the dataset dict's annotations, from 0.
        subset: of the dataset dict; None where the dataset has no subsets.
        normalizers: pixels by name; None where undefined.
        distance: mean of the labeled landmarks, pixels; None where the face was missed.
        score: of the prediction, 0..1; None as above.
        landmarks: predicted, K lists of x, y (image pixels) and score; None as above.
    """

    image_id: int | str
    file_name: str
    face: int
    subset: str | None
    normalizers: dict[str, float | None]
    distance: float | None = None
    score: float | None = None
    landmarks: list[list[float]] | None = None

    def error(self, normalizer: str) -> float:
        """Percent; infinite where missed, NaN where the normalizer is undefined."""
        length = self.normalizers[normalizer]
        if length is None:
            return math.nan
        return math.inf if self.distance is None else 100 * self.distance / length


def percentages(faces: Iterable[FaceError], normalizer: str) -> np.ndarray:
    """(F,) float64 errors of the faces that can be normalized; infinite where missed."""
    errors = np.array([face.error(normalizer) for face in faces], dtype=np.float64)
    return errors[~np.isnan(errors)]


def by_subset(faces: Sequence[FaceError]) -> dict[str, list[FaceError]]:
    """ "" -> all faces, and, where there are several subsets, the name of each -> its faces."""
    names = sorted({face.subset for face in faces if face.subset is not None})
    subsets = {name: [face for face in faces if face.subset == name] for name in names} if len(names) > 1 else {}
    return {"": list(faces), **subsets}


def summary(faces: Sequence[FaceError]) -> dict[str, float]:
    """Figures in percent, missed faces being failures; ``faces`` is a count.

    ``NME_<normalizer>`` is infinite if a face was missed; ``NME_<normalizer>_found`` skips missed faces;
    ``not_normalized_<normalizer>`` faces (percent) count in ``missed`` only. A normalizer that no face has is left out.
    """
    result = {"faces": len(faces), "missed": 100 * mean_error(np.array([face.distance is None for face in faces]))}
    for name in NORMALIZERS:
        errors = percentages(faces, name)
        if not len(errors):
            continue
        result[f"NME_{name}"] = mean_error(errors)
        result[f"NME_{name}_found"] = mean_error(errors[np.isfinite(errors)])
        for limit in LIMITS:
            result[f"FR{limit}_{name}"] = failure_rate(errors, limit)
            result[f"AUC{limit}_{name}"] = area_under_curve(errors, limit)
        result[f"not_normalized_{name}"] = 100 * (1 - len(errors) / len(faces))
    return {**result, **_reference(faces)}


def _reference(faces: Sequence[FaceError]) -> dict[str, float]:
    """Means over the faces found with a score above 0.3 only, and the percent of the others."""
    predictions = [face for face in faces if face.score is not None and face.score > _REFERENCE_SCORE]
    result = {"reference_missed": 100 * (1 - len(predictions) / len(faces)) if faces else math.nan}
    for name in _REFERENCE_NORMALIZERS:
        if len(percentages(faces, name)):
            errors = percentages(predictions, name)
            result[f"reference_NME_{name}"] = mean_error(errors)
            result[f"reference_FR10_{name}"] = failure_rate(errors, 10)
    return result


def table(results: Mapping[str, Mapping[str, float]], normalizers: Sequence[str] = NORMALIZERS) -> str:
    """Two tables of ``summary``'s figures, a row for each of ``results`` by its name: ours, and the reference's."""
    rows, reference = [], []
    for normalizer in normalizers:
        present = [(name, result) for name, result in results.items() if f"NME_{normalizer}" in result]
        for name, result in present:
            figures = (f"NME_{normalizer}_found", *(f"{x}{n}_{normalizer}" for x in ("FR", "AUC") for n in LIMITS))
            counts = [result["faces"], result["missed"], result[f"not_normalized_{normalizer}"]]
            rows.append([normalizer, name, *counts, *(result[key] for key in figures)])
            if normalizer in _REFERENCE_NORMALIZERS:
                keys = ("reference_missed", f"reference_NME_{normalizer}", f"reference_FR10_{normalizer}")
                reference.append([normalizer, name, *(result[key] for key in keys)])
    limits = [f"{x} {n} %" for x in ("FR", "AUC") for n in LIMITS]
    lines = [
        "Errors in percent of the normalizer; a missed face is a failure in FR and AUC, and not in NME found.",
        _pipes(rows, ["normalizer", "", "faces", "missed %", "not normalized %", "NME found", *limits]),
    ]
    if reference:
        lines.append(f"\nThe reference's figures: faces found with a score above {_REFERENCE_SCORE} only.")
        lines.append(_pipes(reference, ["normalizer", "", "missed %", "NME", "FR 10 %"]))
    return "\n".join(lines)


def _pipes(rows: list[list[Any]], headers: list[str]) -> str:
    return tabulate(rows, headers, tablefmt="pipe", floatfmt=".2f", numalign="right")


def write_errors(path: Path, faces: Iterable[FaceError], **extra: Any) -> None:
    """JSON, what ``read_errors`` reads; non-finite numbers become null in ``further``."""
    data = {**_without_special(extra), "faces": [asdict(face) for face in faces]}
    path.write_text(json.dumps(data, allow_nan=False), encoding="utf-8")


def read_errors(path: Path) -> list[FaceError]:
    """
    Raises:
        FileNotFoundError: no such file.
        ValueError: not a file of ``write_errors``.
    """
    try:
        names = [field.name for field in fields(FaceError)]
        entries = json.loads(read_text(path))["faces"]
        faces = [FaceError(**{name: entry[name] for name in names}) for entry in entries]
        for face in faces:
            face.error(NORMALIZERS[0])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a landmark_errors.json: {error!r}") from None
    return faces


def _without_special(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_special(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_without_special(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
