"""Pieces of the page: tables, charts, images, all inside the file."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

#: Of lines and bars: Okabe and Ito's, which color-blind people can tell apart.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000")
_STYLE: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "path"}


def make_axes(width: float = 5.2, height: float = 3.2) -> tuple[Figure, Axes]:
    """Return a figure of ``width`` x ``height`` inches and its axes."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.set_prop_cycle(color=COLORS)
    return figure, axes


def format_chart(figure: Figure, description: str) -> str:
    """Return an image of a figure as SVG in the page; ``description`` is for those who cannot see it."""
    buffer = io.BytesIO()
    with rc_context({**_STYLE, "svg.hashsalt": "centernet_d2"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _format_image(buffer.getvalue(), "image/svg+xml", description, "chart")


def format_photo(path: Path, caption: str) -> str:
    """Return a JPEG file as a figure with a caption; "" where it is not there."""
    if not path.is_file():
        return ""
    image = _format_image(path.read_bytes(), "image/jpeg", caption, "photo")
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def format_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table; numbers are at the right, with up to four digits, and "-" stands for what is not a number."""
    first = rows[0] if rows else [""] * len(header)
    kinds = ["" if isinstance(value, str) else ' class="number"' for value in first]
    head = "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(kinds, header, strict=True))
    body = "".join(f"<tr>{''.join(map(_format_cell, row))}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def format_number(value: Any) -> str:
    """Return a number with one decimal, or more where it is small; "-" for None and NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:,.1f}"


def _format_cell(value: Any) -> str:
    if isinstance(value, str):
        return f"<td>{escape(value)}</td>"
    return f'<td class="number">{format_number(value)}</td>'


def _format_image(data: bytes, kind: str, description: str, group: str) -> str:
    text = base64.b64encode(data).decode()
    return f'<img class="{group}" alt="{escape(description, quote=True)}" src="data:{kind};base64,{text}">'
