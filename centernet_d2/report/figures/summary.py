"""What was run: command, data, versions, device, times."""

from __future__ import annotations

import datetime
from typing import Any

from centernet_d2.report.html import format_table
from centernet_d2.report.run_folder import RunFolder


def build_summary(run: RunFolder) -> str:
    """Return a table of each run in the folder, the last one first, and of its datasets."""
    if not run.runs:
        return '<p class="note">There is no run.json in this folder: it was written by an older version.</p>'
    return "\n".join(_format_run(one) for one in reversed(run.runs))


def _format_run(one: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in one.get("versions", {}).items())
    rows = [
        ("task", f"{one.get('task')}{', resumed' * bool(one.get('resumed'))}"),
        ("command", str(one.get("command"))),
        ("config", str(one.get("config_file") or "-")),
        ("initial weights", str(one.get("weights") or "random")),
        ("started", str(one.get("started"))),
        ("duration", _measure_duration(one)),
        ("device", f"{one.get('device')}; processes: {one.get('processes')}"),
        ("seed", str(one.get("seed"))),
        ("versions", versions),
        ("git commit", str(one.get("git_commit") or "-")),
    ]
    datasets = [
        (role, str(x.get("name")), x.get("images"), x.get("objects"), str(x.get("sha256")))
        for role, members in one.get("datasets", {}).items()
        for x in members
    ]
    header = ("data", "dataset", "images", "objects", "SHA-256 of the annotations")
    return format_table(("", ""), rows) + (format_table(header, datasets) if datasets else "")


def _measure_duration(one: dict[str, Any]) -> str:
    if not one.get("finished"):
        return "not finished"
    start, end = (datetime.datetime.fromisoformat(one[name]) for name in ("started", "finished"))
    return str(end - start)
