"""Marks of parametrized tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def mark_slow(values: Iterable[Any], is_slow: Callable[[Any], bool], name: Callable[[Any], str] | None = None) -> list:
    """Return ``values`` as parameters, with the mark "slow" where ``is_slow``; ``name`` gives their ids."""
    return [
        pytest.param(x, id=name(x) if name else None, marks=[pytest.mark.slow] if is_slow(x) else []) for x in values
    ]
