"""The .pts files of 300W and 300VW: a header, and one ``x y`` a line between braces, pixels counted from 1."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from centernet_d2.data.formats.numbers import parse_number
from centernet_d2.data.formats.text import NotTextError, read_text
from centernet_d2.data.validation.issues import AnnotationIssue
from centernet_d2.data.validation.missing import explain_missing


def read_pts(path: Path, count: int) -> tuple[np.ndarray | None, list[AnnotationIssue]]:
    """Return the points, (count, 2) float64 x, y with whole numbers from 0 at pixel
    centers; or None and the problem."""
    try:
        return _parse_points(read_text(path), count) - 1, []
    except FileNotFoundError:
        problem: tuple[str, str] = ("file", explain_missing(path))
    except NotTextError as error:
        problem = ("file", error.reason)
    except OSError as error:
        problem = ("file", f"cannot be read: {error}")
    except _FormatError as error:
        problem = error.args
    return None, [AnnotationIssue(str(path), None, *problem)]


class _FormatError(Exception):
    """Field and problem."""


def _parse_points(text: str, count: int) -> np.ndarray:
    lines = [line.strip() for line in text.split("\n")]
    lines = [line for line in lines if line]
    if not lines or not re.fullmatch(r"version:\s*1(\.0)?", lines[0]):
        raise _FormatError(
            "version", f"the file starts with {_shorten(lines[0] if lines else '')}, not with 'version: 1'"
        )
    match = re.fullmatch(r"n_points:\s*([0-9]{1,9})", lines[1]) if len(lines) > 1 else None
    if not match:
        raise _FormatError("n_points", f"{_shorten(lines[1] if len(lines) > 1 else '')} is not a number of points")
    if lines[2:3] != ["{"] or lines[-1] != "}":
        raise _FormatError("points", "are not between braces")
    points = [_parse_point(line, number) for number, line in enumerate(lines[3:-1], start=1)]
    if int(match[1]) != len(points):
        raise _FormatError("n_points", f"is {int(match[1])}, but there are {len(points)} points")
    if len(points) != count:
        raise _FormatError("n_points", f"is {len(points)}, not {count}")
    return np.array(points)


def _parse_point(line: str, number: int) -> tuple[float, float]:
    numbers = [parse_number(word) for word in line.split()]
    if len(numbers) != 2 or any(map(math.isnan, numbers)):
        raise _FormatError("points", f"number {number} is {_shorten(line)}, not two finite numbers")
    return numbers[0], numbers[1]


def _shorten(line: str) -> str:
    return repr(line[:40])
