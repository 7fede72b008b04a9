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
from centernet_d2.evaluation.keypoints.metrics import (
    LIMITS,
    NORMALIZERS,
    compute_area_under_curve,
    compute_failure_rate,
    compute_mean_error,
)

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

    def compute_error(self, normalizer: str) -> float:
        """Return the error in percent; infinite if missed, NaN if the normalizer is undefined."""
        length = self.normalizers[normalizer]
        if length is None:
            return math.nan
        return math.inf if self.distance is None else 100 * self.distance / length


def compute_percentages(faces: Iterable[FaceError], normalizer: str) -> np.ndarray:
    """Return (F,) float64 errors of the faces that can be normalized; infinite where missed."""
    errors = np.array([face.compute_error(normalizer) for face in faces], dtype=np.float64)
    return errors[~np.isnan(errors)]


def group_by_subset(faces: Sequence[FaceError]) -> dict[str, list[FaceError]]:
    """Return faces by subset: "" -> all faces and, if there are several subsets, the name of each -> its faces."""
    names = sorted({face.subset for face in faces if face.subset is not None})
    subsets = {name: [face for face in faces if face.subset == name] for name in names} if len(names) > 1 else {}
    return {"": list(faces), **subsets}


def summarize(faces: Sequence[FaceError]) -> dict[str, float]:
    """Return figures in percent. Missed faces count as failures; ``faces`` is a count.

    ``NME_<normalizer>`` is infinite if a face was missed; ``NME_<normalizer>_found`` skips missed faces;
    ``not_normalized_<normalizer>`` faces (percent) count in ``missed`` only. A normalizer that no face has is left out.
    """
    result = {
        "faces": len(faces),
        "missed": 100 * compute_mean_error(np.array([face.distance is None for face in faces])),
    }
    for name in NORMALIZERS:
        errors = compute_percentages(faces, name)
        if not len(errors):
            continue
        result[f"NME_{name}"] = compute_mean_error(errors)
        result[f"NME_{name}_found"] = compute_mean_error(errors[np.isfinite(errors)])
        for limit in LIMITS:
            result[f"FR{limit}_{name}"] = compute_failure_rate(errors, limit)
            result[f"AUC{limit}_{name}"] = compute_area_under_curve(errors, limit)
        result[f"not_normalized_{name}"] = 100 * (1 - len(errors) / len(faces))
    return {**result, **_summarize_like_reference(faces)}


def _summarize_like_reference(faces: Sequence[FaceError]) -> dict[str, float]:
    """Return means over faces detected with a score above 0.3 only, and the percentage of the others."""
    predictions = [face for face in faces if face.score is not None and face.score > _REFERENCE_SCORE]
    result = {"reference_missed": 100 * (1 - len(predictions) / len(faces)) if faces else math.nan}
    for name in _REFERENCE_NORMALIZERS:
        if len(compute_percentages(faces, name)):
            errors = compute_percentages(predictions, name)
            result[f"reference_NME_{name}"] = compute_mean_error(errors)
            result[f"reference_FR10_{name}"] = compute_failure_rate(errors, 10)
    return result


def format_tables(results: Mapping[str, Mapping[str, float]], normalizers: Sequence[str] = NORMALIZERS) -> str:
    """Return two tables of ``summarize``'s figures, ours and the reference's, with a row for each of ``results``."""
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
        _format_pipe_table(rows, ["normalizer", "", "faces", "missed %", "not normalized %", "NME found", *limits]),
    ]
    if reference:
        lines.append(f"\nThe reference's figures: faces found with a score above {_REFERENCE_SCORE} only.")
        lines.append(_format_pipe_table(reference, ["normalizer", "", "missed %", "NME", "FR 10 %"]))
    return "\n".join(lines)


def _format_pipe_table(rows: list[list[Any]], headers: list[str]) -> str:
    return tabulate(rows, headers, tablefmt="pipe", floatfmt=".2f", numalign="right")


def write_errors(path: Path, faces: Iterable[FaceError], **extra: Any) -> None:
    """Write JSON for ``read_errors``; non-finite numbers become null in ``further``."""
    data = {**_replace_special(extra), "faces": [asdict(face) for face in faces]}
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
            face.compute_error(NORMALIZERS[0])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a landmark_errors.json: {error!r}") from None
    return faces


def _replace_special(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _replace_special(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_replace_special(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
