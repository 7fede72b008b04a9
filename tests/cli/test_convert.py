"""The command: report, comparison with a config's model, exit status."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from centernet_d2.checkpoint.reference_names import to_reference
from centernet_d2.cli import convert
from centernet_d2.engine import setup_cfg

CONFIG = str(Path(__file__).parents[2] / "configs" / "Synthetic" / "shapes_1pt.yaml")


@pytest.fixture
def published(tmp_path: Path) -> tuple[str, dict[str, torch.Tensor]]:
    """A file as CenterNet would have saved the demo's network, and its weights by our names."""
    ours = build_model(setup_cfg(CONFIG, ["MODEL.DEVICE=cpu"])).state_dict()
    torch.save({"epoch": 3, "state_dict": to_reference(ours)}, tmp_path / "theirs.pth")
    return str(tmp_path / "theirs.pth"), ours


def test_to_ours_and_compared_with_a_config(published, tmp_path, capsys):
    path, ours = published
    target = str(tmp_path / "ours.pth")
    assert convert.main([path, target, "--config-file", CONFIG]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"{path}: {len(ours)} tensors" and printed[-1] == f"every tensor fits {CONFIG}"
    written = torch.load(target)["model"]
    assert written.keys() == ours.keys() and all(torch.equal(x, ours[name]) for name, x in written.items())
    points = "MODEL.CENTERNET.GRID_POINTS=[0,4,8]"
    assert convert.main([path, target, "--config-file", CONFIG, points]) == 1
    assert "checkpoint has 2 channels, the model 6: box_size head is new" in capsys.readouterr().out


def test_errors_are_one_sentence(published, tmp_path, capsys):
    assert convert.main([str(tmp_path / "absent.pth"), str(tmp_path / "x.pth")]) == 1
    assert capsys.readouterr().err == f"there is no checkpoint {tmp_path / 'absent.pth'}\n"
    assert convert.main([published[0], str(tmp_path / "x.pth"), "--to", "published"]) == 1
    assert "of no known network" in capsys.readouterr().err
    assert not (tmp_path / "x.pth").exists()


def test_half_the_size(published, tmp_path):
    path, ours = published
    target = tmp_path / "half.pth"
    assert convert.main([path, str(target), "--half"]) == 0
    written = torch.load(target)["model"]
    floats = [name for name, x in ours.items() if x.is_floating_point()]
    assert floats and all(torch.equal(written[name], ours[name].half()) for name in floats)
    assert target.stat().st_size < 0.6 * Path(path).stat().st_size
