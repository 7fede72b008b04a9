"""Training with a compiled network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from tests.helpers.runs import engine_cfg, run

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_it_learns_as_before_and_its_checkpoints_fit(tmp_path):
    opts = ("SOLVER.MAX_ITER", 3, "SOLVER.STEPS", (), "SOLVER.BASE_LR", 0.001, "SOLVER.EMA.DECAY", 0.5)
    opts += ("DATASETS.TEST", ("engine_test_val",))
    plain = run(engine_cfg(tmp_path / "plain", *opts))
    torch._dynamo.reset()
    counters.clear()
    compiled = run(engine_cfg(tmp_path / "compiled", *opts, "SOLVER.COMPILE", True))
    # The average, which is evaluated, is not compiled.
    assert counters["stats"]["unique_graphs"] == 6, "a first try, backbone, three heads, the heatmap loss"
    assert not counters["graph_break"]
    for ours, theirs in zip(compiled.losses, plain.losses, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    for name, expected in plain.gradients[0].items():
        assert torch.allclose(compiled.gradients[0][name], expected, rtol=1e-3, atol=1e-5), name
    assert compiled.state["model"].keys() == plain.state["model"].keys()
    resumed = run(engine_cfg(tmp_path / "compiled", *opts, "SOLVER.MAX_ITER", 4), resume=True)
    assert resumed.error is None and len(resumed.losses) == 1, "compiled weights are weights"


def test_without_a_compiler_one_sentence_says_so(tmp_path):
    """Before any image is read; nothing is compiled that an earlier run left."""
    (tmp_path / "bin").mkdir()
    environment = {**os.environ, "PATH": str(tmp_path / "bin"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    environment.pop("CXX", None)
    config = ROOT / "configs/Synthetic/shapes_1pt.yaml"
    opts = ["SOLVER.COMPILE=True", "MODEL.DEVICE=cpu", f"OUTPUT_DIR={tmp_path / 'out'}"]
    command = [sys.executable, ROOT / "tools/train_net.py", "--config-file", config, *opts]
    done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and not (tmp_path / "out").exists()
    assert done.stderr.strip().splitlines()[-1].startswith("error: SOLVER.COMPILE is True, but torch.compile cannot")
    assert "Traceback" not in done.stderr and "compiler" in done.stderr
