"""Files under other names: what is in them, that nothing goes unsaid, and that they come back the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from centernet_d2.checkpoint.conversion import convert_file, describe_fit
from centernet_d2.checkpoint.reading import load_file
from centernet_d2.checkpoint.reference_names import convert_reference
from tests.helpers.tiny import tiny_cfg, tiny_model

HOURGLASS = ("MODEL.BACKBONE.NAME", "build_hourglass_backbone", "MODEL.HOURGLASS.CHANNELS", [8, 8])
SMALL = (*HOURGLASS, "MODEL.HOURGLASS.BLOCKS", [1, 1])


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(x, b[name]) for name, x in a.items())


def test_there_and_back(tmp_path):
    ours = tiny_model(*SMALL).state_dict()
    first, theirs, again = (tmp_path / name for name in ("model_final.pth", "theirs.pth", "again.pth"))
    torch.save({"model": ours, "iteration": 7, "optimizer": {"state": {}}}, first)
    weights, report = convert_file(first, theirs, "published")
    assert equal(weights, ours)
    assert report == [
        f"{first}: {len(ours)} tensors",
        "left out, not weights: iteration, optimizer",
        f"{theirs}: {len(ours)} tensors",
    ]
    published = load_file(theirs)
    assert [*published] == ["epoch", "state_dict"] and published["epoch"] == 0
    assert {"pre.0.conv.weight", "hm.1.1.bias"} <= published["state_dict"].keys()
    weights, report = convert_file(theirs, again)
    assert equal(weights, ours) and equal(load_file(again)["model"], ours)
    assert report[1:3] == ["weights of CenterNet's Hourglass-104", "left out, not weights: epoch"]


def test_every_tensor_of_a_reference_file_is_taken_or_named(tmp_path, key_lists):
    published = {name: torch.zeros(shape[:1]) for name, shape in key_lists["dla34 multi_pose"].items()}
    published["ltrb_amodal.0.bias"] = torch.zeros(1)
    torch.save(published, tmp_path / "raw.pth")
    weights, report = convert_file(tmp_path / "raw.pth", tmp_path / "ours.pth")
    assert equal(weights, convert_reference(published).weights)
    dead = "left out, no output depends on it: base.level3.project (6), base.level4.project (6), base.fc (2)"
    assert report[2:-1] == [dead, "left out, head of another task: ltrb_amodal (1)"]
    assert len(published) == len(weights) + 6 + 6 + 2 + 1


def test_fit():
    model = tiny_model(*SMALL)
    weights = dict(model.state_dict())
    # Files of torch before 0.4.1 have no such counters.
    weights = {name: x for name, x in weights.items() if not name.endswith("num_batches_tracked")}
    assert describe_fit(weights, tiny_cfg(*SMALL)) == []
    assert describe_fit(weights, tiny_cfg(*SMALL, "MODEL.CENTERNET.NUM_CLASSES", 20)) == [
        "checkpoint has 3 classes, the model 20: heatmap head is new"
    ]
    heads = [name for name in weights if ".offset." in name]
    weights["task.heads.depth.layers.0.2.bias"] = weights.pop(heads[0])
    for name in heads[1:]:
        del weights[name]
    weights["backbone.stem.0.weight"] = torch.zeros(1)
    del weights["backbone.stem.0.norm.bias"]
    size = sum(name.startswith("backbone.") for name in model.state_dict())
    assert describe_fit(weights, tiny_cfg(*SMALL)) == [
        "backbone.stem.0.weight is (1,) in the checkpoint and (4, 3, 7, 7) in the model: it starts new",
        f"checkpoint lacks 1 of the {size} tensors of the backbone: they start new (such as backbone.stem.0.norm.bias)",
        f"checkpoint lacks 8 of the 8 tensors of the offset head: they start new (such as {heads[0]})",
        "the model has no use for 1 tensors of the depth head (such as task.heads.depth.layers.0.2.bias)",
    ]


def test_what_cannot_be_converted(tmp_path):
    source, target = tmp_path / "a.pth", tmp_path / "b.pth"
    torch.save({"model": tiny_model().state_dict()}, source)
    for names in ("ours", "published"):
        with pytest.raises(ValueError, match=r"a\.pth: of no known network"):
            convert_file(source, target, names)
    torch.save({"model": tiny_model(*SMALL).state_dict() | {"ema.decay": torch.ones(1)}}, source)
    with pytest.raises(ValueError, match=r"a\.pth: CenterNet's Hourglass-104 has nothing like ema\.decay"):
        convert_file(source, target, "published")
    assert not target.exists()
    before = source.read_bytes()
    with pytest.raises(ValueError, match="would be overwritten"):
        convert_file(source, source, "published")
    assert source.read_bytes() == before
