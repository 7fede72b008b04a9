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
    found, text = run(tmp_path / "report", "--minutes", "0", "--networks", "R_18_DCN", "--tasks", "shapes_1pt")
    assert found["equality"] == found["speed"] == []
    assert "training, R_18_DCN, 1, float32" in found["left_out"] and "equality, shapes_1pt" in found["left_out"]
    assert found["machine"]["peaks"]["float32"] > 0
    assert "Left out" in text


@pytest.mark.slow
def test_a_network_and_a_task(tmp_path):
    """A CPU equals itself; a share of the peak is one."""
    found, text = run(tmp_path / "report", "--minutes", "4", "--networks", "R_18_DCN", "--tasks", "shapes_1pt")
    (row,) = found["equality"]
    assert row["equal"] and row["maps"] == row["losses"] == 0
    assert len(found["speed"]) == 4
    assert all(x["images_per_second"] > 0 and x["share_of_peak"] > 0 for x in found["speed"])
    assert "Synthetic/shapes_1pt" in text
