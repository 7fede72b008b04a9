"""The command: files, what the check prints, exit status."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from centernet_d2.cli import export
from centernet_d2.engine import setup_cfg

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

CONFIG = str(Path(__file__).parents[2] / "configs" / "Synthetic" / "shapes_9pt.yaml")
SMALL = [
    "MODEL.DEVICE=cpu",
    "MODEL.HOURGLASS.CHANNELS=[8,8]",
    "MODEL.HOURGLASS.BLOCKS=[1,1]",
    "INPUT.SIZE_TEST=[64,96]",
]


@pytest.mark.parametrize("name", ["model.onnx", "model.pt"])
def test_a_checkpoint_becomes_a_file_that_is_checked(name, tmp_path, capsys):
    torch.save({"model": build_model(setup_cfg(CONFIG, SMALL)).state_dict()}, tmp_path / "model.pth")
    dynamic = ["--dynamic"] if name.endswith(".onnx") else []
    arguments = ["--config-file", CONFIG, "--output", str(tmp_path / name), *dynamic, "--check", *SMALL]
    assert export.main([*arguments, f"MODEL.WEIGHTS={tmp_path / 'model.pth'}"]) == 0
    printed = capsys.readouterr().out
    assert f"{name}: " in printed
    assert all(f"{output}: differs by" in printed for output in ("boxes", "scores", "classes"))


def test_what_goes_wrong_is_said_in_a_sentence(tmp_path, capsys):
    arguments = ["--config-file", CONFIG, "--output", str(tmp_path / "model.onnx"), *SMALL]
    assert export.main([*arguments, "MODEL.WEIGHTS="]) == 1
    assert "no weights to predict with" in capsys.readouterr().err
    random = ["MODEL.WEIGHTS=", "MODEL.ALLOW_INCOMPLETE_WEIGHTS=True"]
    assert export.main([*arguments, *random, "TEST.AUG.ENABLED=True", "TEST.AUG.FLIP=True"]) == 1
    assert "set TEST.AUG.ENABLED to False" in capsys.readouterr().err
    assert export.main([*arguments, f"MODEL.WEIGHTS={tmp_path / 'none.pth'}"]) == 1
    assert "none.pth" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        export.main(["--config-file", CONFIG, "--output", "model.tflite"])
    with pytest.raises(SystemExit):
        export.main(["--config-file", CONFIG, "--output", "model.pt", "--dynamic"])
