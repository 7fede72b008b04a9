"""Reading numbers in text files: every reader of the project parses its numbers here.

Plain ASCII decimals only. Python's ``float`` and ``int`` also take ``1_0``, digits of other scripts, ``nan`` and
``inf``; in a label file those are mistakes.
"""

from __future__ import annotations

import math
import re

_NUMBER = re.compile(r"[ \t\n]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t\n]*")
# Longer ones fit no integer of NumPy.
_INTEGER = re.compile(r"[ \t\n]*([+-]?[0-9]{1,18})(?:\.0*)?[ \t\n]*")
_DIGITS = re.compile(r"[0-9]{1,18}")


def parse_number(text: str) -> float:
    """Return a finite number; NaN if the text is none."""
    number = float(text) if _NUMBER.fullmatch(text) else math.nan
    return number if math.isfinite(number) else math.nan


def parse_integer(text: str) -> int | None:
    """Return an integer, also of ``64.0``; None if the text is none."""
    match = _INTEGER.fullmatch(text)
    return int(match[1]) if match else None


def parse_digits(text: str) -> int | None:
    """Return an integer from 0 that is written in digits alone, as in file names; None if the text is none."""
    return int(text) if _DIGITS.fullmatch(text) else None
