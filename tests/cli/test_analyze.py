"""The table of costs from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from detectron2.modeling import build_model

from centernet_d2.analysis.model_cost import measure_model_cost
from centernet_d2.cli import analyze
from centernet_d2.engine import setup_cfg
from tests.cli.test_train import SMALL

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "Synthetic"


def test_a_row_for_each_config(capsys):
    configs = [str(CONFIGS / f"shapes_{points}pt.yaml") for points in (1, 9)]
    analyze.main([*configs, "--size", "128", "64", "--seconds", "0.01", "--opts", *SMALL])
    out, progress = capsys.readouterr()
    header, line, *rows = out.splitlines()
    assert header.endswith("| size, MB | ms (1 thread) |") and header.count("|") == line.count("|") == 7
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [(row[0], row[1]) for row in cells] == [("shapes_1pt", "128x64"), ("shapes_9pt", "128x64")]
    for config, (_, _, parameters, operations, size, time) in zip(configs, cells, strict=True):
        cost = measure_model_cost(build_model(setup_cfg(config, SMALL)), (128, 64))
        assert float(parameters) == pytest.approx(cost.parameters / 1e6, abs=0.005)
        assert float(operations) == pytest.approx(cost.flops / 1e9, abs=0.005)
        assert float(size) == pytest.approx(cost.size / 1e6, abs=0.05)
        assert float(time.split()[0]) > 0 and "[" in time
    assert "1/2: " in progress and "2/2: " in progress


def test_without_times(capsys):
    config = CONFIGS / "shapes_1pt.yaml"
    analyze.main([str(config), "--no-latency", "--opts", *SMALL])
    header, _, row = capsys.readouterr().out.splitlines()
    assert "ms" not in header and row.count("|") == 6
    assert row.split(" | ")[1] == "64x64" == "x".join(map(str, setup_cfg(str(config), SMALL).INPUT.SIZE_TEST))
