"""One HTML file from the files of a run's folder."""

from __future__ import annotations

import logging
from html import escape
from pathlib import Path

from centernet_d2.checkpoint.writing import write_text
from centernet_d2.report.figures import DATASET_FIGURES, RUN_FIGURES
from centernet_d2.report.run_folder import RunFolder, read_run_folder

FILE = "report.html"
_logger = logging.getLogger(__name__)
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1c; background: #fff; margin: 2rem auto; max-width: 1180px;
       padding: 0 1rem }
h1 { margin-bottom: 0 } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd } h3 { margin-bottom: .3rem }
p.note { color: #555; max-width: 75ch; margin: .3rem 0 .8rem }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-size: 14px }
th, td { padding: .2rem .7rem; text-align: left; vertical-align: top } thead th { border-bottom: 2px solid #999 }
tbody tr:nth-child(even) { background: #f6f6f6 }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
table.matrix th, table.matrix td { text-align: right; border: 1px solid #fff; min-width: 3.2em }
img.chart { max-width: 100%; vertical-align: top } img.photo { max-width: 100% } figure { margin: 0 0 1rem }
figcaption { color: #555; font-size: 13px }
pre { overflow-x: auto; background: #f6f6f6; padding: 1rem; font-size: 12px }
"""


def write_report(folder: str | Path) -> Path:
    """Write ``report.html`` in the folder of a training or an evaluation, from its files; nothing else is read.

    Raises:
        FileNotFoundError, ValueError: see ``run_folder.read_run_folder``.
    """
    folder = Path(folder)
    run = read_run_folder(folder)
    path = folder / FILE
    write_text(path, build_page(run))
    _logger.info("Report: %s", path)
    return path


def build_page(run: RunFolder) -> str:
    """Return the page of a run."""
    sections = [(title, build(run)) for title, build in RUN_FIGURES]
    for dataset in run.evaluated:
        sections += [(f"{title}: {dataset.name}", build(dataset)) for title, build in DATASET_FIGURES]
    if not run.evaluated:
        note = f"centernet-d2 evaluate --model {run.path} --output {run.path}"
        sections.append(("Objects and errors", f'<p class="note">Not evaluated yet: {escape(note)}</p>'))
    if run.config:
        text = f"<details><summary>config.yaml</summary><pre>{escape(run.config)}</pre></details>"
        sections.append(("Configuration", text))
    body = "\n".join(f"<h2>{escape(title)}</h2>\n{content}" for title, content in sections if content)
    title = escape(run.path.resolve().name)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>\n'
        f"<body><h1>{title}</h1>\n{body}\n</body></html>\n"
    )
