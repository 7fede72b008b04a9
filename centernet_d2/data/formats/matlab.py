"""MATLAB's .mat files, which need SciPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def read_mat(path: Path) -> dict[str, Any]:
    """Return the variables by name; cells and structures become arrays, lists and dicts.

    Raises:
        ImportError: SciPy is not installed.
        ValueError: it is not a .mat file.
    """
    try:
        from scipy.io import loadmat
    except ImportError:
        raise ImportError(f"{path} can only be read with SciPy: pip install scipy") from None
    try:
        return loadmat(str(path), simplify_cells=True)
    except Exception as error:  # SciPy raises almost anything on damaged files
        raise ValueError(f"{path} is not a MATLAB file: {error}") from error
