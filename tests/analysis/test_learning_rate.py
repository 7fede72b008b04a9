"""The range test of the learning rate."""

from __future__ import annotations

import json

import numpy as np
import pytest

from centernet_d2.analysis import learning_rate
from centernet_d2.analysis.learning_rate import find_learning_rate, smooth_losses, suggest_rate
from tests.helpers.runs import engine_cfg


def test_averages_have_no_bias_to_the_start():
    assert smooth_losses([3.0] * 50) == pytest.approx([3.0] * 50)
    # Weights 0.9 and 1 of two losses.
    assert smooth_losses([4.0, 2.0])[1] == pytest.approx((0.9 * 4 + 2) / 1.9)


def test_a_third_of_the_rate_where_the_loss_is_nearly_lowest():
    rates = np.geomspace(1e-5, 1.0, 51).tolist()
    # A valley: 2 at 0.1, 5 % more from 0.012 on.
    losses = [2 + 0.1 * abs(np.log(rate / 0.1)) / abs(np.log(0.012 / 0.1)) for rate in rates]
    assert suggest_rate(rates, losses) == pytest.approx(0.004)


def test_a_loss_that_only_grows_has_no_rate():
    with pytest.raises(ValueError, match="never fell"):
        suggest_rate([1e-3, 1e-2, 1e-1], [1.0, 2.0, 3.0])


def test_a_run_ends_when_the_loss_has_grown(tmp_path, monkeypatch):
    """Rates up to 1e6 ruin any network; the test ends before, without a checkpoint."""
    monkeypatch.setattr(learning_rate, "HIGHEST", 1e6)
    cfg = engine_cfg(tmp_path)
    result = find_learning_rate(cfg, steps=30)
    assert 6 <= len(result.rates) < 30 and len(result.losses) == len(result.rates)
    assert result.rates[0] == pytest.approx(1e-5) and result.rates == sorted(result.rates)
    assert 1e-5 < result.suggestion < result.rates[-1]
    assert json.loads((tmp_path / "learning_rates.json").read_text())["suggestion"] == result.suggestion
    assert (tmp_path / "learning_rates.png").stat().st_size > 5000
    assert not list(tmp_path.glob("*.pth"))
