"""Converts values that exporters write with another type than COCO's, with one warning for each kind."""

from __future__ import annotations

import functools
import logging
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from centernet_d2.data.formats.numbers import parse_integer, parse_number

_logger = logging.getLogger(__name__)
# List in the file -> its integer fields.
_INTEGERS = {
    "images": ("id", "height", "width", "video_id", "frame"),
    "categories": ("id",),
    "videos": ("id",),
    "annotations": ("id", "image_id", "category_id", "track_id"),
}
_FLAGS = ("iscrowd", "ignore")
_NUMBERS = ("area",)
_LISTS = ("bbox", "keypoints")
_FLAG_WORDS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
_TEXT, _FLOAT, _NULL, _BOOL = "text, read as a number", "a float, read as an integer", "null, read as 0", "a boolean"


def convert_fields(data: Mapping[str, Any]) -> Counter[str]:
    """Convert unambiguous values of a COCO file in place: ``"64"``, ``64.0``, ``iscrowd: null`` or ``true``.

    Returns:
        Counts by field and kind. The checks report all other wrong values.
    """
    conversions: Counter[str] = Counter()
    for part, names in _INTEGERS.items():
        entries = data.get(part)
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict):
                conversions.update(f"{field} of {part} is {kind}" for field, kind in _convert(entry, names))
                if part == "annotations":
                    conversions.update(f"{field} of {part} is {kind}" for field, kind in _convert_object(entry))
    return conversions


def warn_conversions(where: str, conversions: Mapping[str, int]) -> None:
    """Log one warning for each kind, once per process; ``where`` is a file or a folder."""
    for text, count in conversions.items():
        _warn_once(f"{where}: {text} ({count} times)")


@functools.lru_cache(maxsize=1024)
def _warn_once(message: str) -> None:
    _logger.warning("%s", message)


def _convert(entry: dict[str, Any], names: tuple[str, ...]) -> list[tuple[str, str]]:
    """Convert the fields ``names`` to integers; return field and kind of each conversion."""
    result = []
    for field in names:
        value = entry.get(field)
        if type(value) is float and value.is_integer():
            entry[field] = int(value)
            result.append((field, _FLOAT))
        elif type(value) is str and (number := parse_integer(value)) is not None:
            entry[field] = number
            result.append((field, _TEXT))
    return result


def _convert_object(entry: dict[str, Any]) -> list[tuple[str, str]]:
    """Convert flags and numbers of an annotation; return field and kind of each conversion."""
    result = []
    for field in _FLAGS:
        value = entry.get(field, 0)
        if type(value) is not int:
            flag, kind = _parse_flag(value)
            if flag is not None:
                entry[field] = flag
                result.append((field, kind))
    for field in _NUMBERS:
        if type(entry.get(field)) is str and (number := _parse_number(entry[field])) is not None:
            entry[field] = number
            result.append((field, _TEXT))
    for field in _LISTS:
        values = entry.get(field)
        if isinstance(values, list) and any(type(value) is str for value in values):
            numbers = [_parse_number(value) if type(value) is str else value for value in values]
            entry[field] = [value if number is None else number for value, number in zip(values, numbers, strict=True)]
            result += [(field, _TEXT)] if entry[field] != values else []
    return result


def _parse_flag(value: Any) -> tuple[int | None, str]:
    if value is None:
        return 0, _NULL
    if isinstance(value, bool):
        return int(value), _BOOL
    if isinstance(value, float) and value in (0, 1):
        return int(value), _FLOAT
    return (_FLAG_WORDS.get(value.strip().lower()), _TEXT) if isinstance(value, str) else (None, "")


def _parse_number(text: str) -> float | None:
    number = parse_number(text)
    if math.isnan(number):
        return None
    return int(number) if number.is_integer() else number
