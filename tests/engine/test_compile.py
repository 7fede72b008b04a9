"""Training with a compiled network."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.utils import counters

from tests.helpers.runs import engine_cfg, run


@pytest.mark.slow
def test_it_learns_as_before_and_its_checkpoints_fit(tmp_path):
    opts = ("SOLVER.MAX_ITER", 3, "SOLVER.STEPS", (), "SOLVER.BASE_LR", 0.001, "SOLVER.EMA.DECAY", 0.5)
    opts += ("DATASETS.TEST", ("engine_test_val",))
    plain = run(engine_cfg(tmp_path / "plain", *opts))
    torch._dynamo.reset()
    counters.clear()
    compiled = run(engine_cfg(tmp_path / "compiled", *opts, "SOLVER.COMPILE", True))
    # The average, which is evaluated, is not compiled.
    assert counters["stats"]["unique_graphs"] == 5, "backbone, three heads, the heatmap loss"
    assert not counters["graph_break"]
    for ours, theirs in zip(compiled.losses, plain.losses, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    for name, expected in plain.gradients[0].items():
        assert torch.allclose(compiled.gradients[0][name], expected, rtol=1e-3, atol=1e-5), name
    assert compiled.state["model"].keys() == plain.state["model"].keys()
    resumed = run(engine_cfg(tmp_path / "compiled", *opts, "SOLVER.MAX_ITER", 4), resume=True)
    assert resumed.error is None and len(resumed.losses) == 1, "compiled weights are weights"
