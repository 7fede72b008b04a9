"""tools/device_report.py on a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(output: Path, *options: str) -> tuple[dict, str]:
    command = [sys.executable, str(ROOT / "tools/device_report.py"), "--device", "cpu", "--output", str(output)]
    subprocess.run([*command, *options], cwd=ROOT, check=True, capture_output=True)
    return json.loads(output.with_suffix(".json").read_text()), output.with_suffix(".md").read_text()


def test_what_there_is_no_time_for_is_listed(tmp_path):
    report, text = run(tmp_path / "report", "--minutes", "0", "--networks", "R_18_DCN", "--tasks", "shapes_1pt")
    assert report["equality"] == report["speed"] == []
    assert "training, R_18_DCN, 2, float32" in report["left_out"] and "equality, shapes_1pt" in report["left_out"]
    assert report["machine"]["peaks"]["float32"] > 0
    assert "Left out" in text


@pytest.mark.slow
def test_a_network_and_a_task(tmp_path):
    """A CPU equals itself; a share of the peak is one."""
    report, text = run(tmp_path / "report", "--minutes", "4", "--networks", "R_18_DCN", "--tasks", "shapes_1pt")
    (row,) = report["equality"]
    assert row["equal"] and row["maps"] == row["losses"] == 0
    labels = [row["what"] for row in report["speed"]]
    assert len([x for x in labels if x.endswith("R_18_DCN")]) == 4
    for kernel in ("torchvision", "gather"):
        assert len([x for x in labels if x.startswith("deformable") and x.endswith(kernel)]) == 4
    assert all(x["images_per_second"] > 0 and x["share_of_peak"] > 0 for x in report["speed"])
    assert "Synthetic/shapes_1pt" in text
