"""Published names to ours and back, against the key lists of the published models and our own models' state."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

import centernet_d2
from centernet_d2.checkpoint.published import convert_imagenet, convert_published, to_published

CONFIGS = Path(__file__).parents[2] / "configs" / "COCO-Detection"
NETWORKS = {
    "dla34": "DLA_34_1pt",
    "hourglass": "HG_104_1pt",
    "resdcn_18": "R_18_DCN_1pt",
    "resdcn_101": "R_101_DCN_1pt",
    "res_18": "R_18_1pt",
    "res_50": "R_50_1pt",
}
NORM = ("1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked")
DEAD_DLA = {"base.fc.weight", "base.fc.bias"} | {
    f"base.level{i}.project.{rest}" for i in (3, 4) for rest in ("0.weight", *NORM)
}

# One or more of every kind of name, by hand.
PAIRS = {
    "dla34": {
        "base.base_layer.0.weight": "backbone.stem.weight",
        "base.base_layer.1.running_var": "backbone.stem.norm.running_var",
        "base.level0.0.weight": "backbone.level0.weight",
        "base.level1.1.num_batches_tracked": "backbone.level1.norm.num_batches_tracked",
        "base.level2.project.0.weight": "backbone.level2.project.weight",
        "base.level3.tree1.project.1.bias": "backbone.level3.tree1.project.norm.bias",
        "base.level4.tree2.tree1.conv2.weight": "backbone.level4.tree2.tree1.conv2.weight",
        "base.level4.tree2.tree1.bn2.weight": "backbone.level4.tree2.tree1.conv2.norm.weight",
        "base.level5.root.conv.weight": "backbone.level5.root.weight",
        "base.level5.root.bn.bias": "backbone.level5.root.norm.bias",
        "dla_up.ida_2.proj_3.conv.weight": "neck.dla_up.2.2.proj.weight",
        "dla_up.ida_2.proj_3.conv.conv_offset_mask.bias": "neck.dla_up.2.2.proj.offset_mask.bias",
        "dla_up.ida_0.node_1.actf.0.running_mean": "neck.dla_up.0.0.node.norm.running_mean",
        "dla_up.ida_1.up_2.weight": "neck.dla_up.1.1.up.weight",
        "ida_up.up_1.weight": "neck.ida_up.0.up.weight",
        "ida_up.node_2.conv.bias": "neck.ida_up.1.node.bias",
        "hm.0.weight": "task.branches.heatmap.heads.0.0.weight",
        "wh.2.bias": "task.branches.box_size.heads.0.2.bias",
        "reg.2.weight": "task.branches.offset.heads.0.2.weight",
    },
    "hourglass": {
        "pre.0.conv.weight": "backbone.stem.0.weight",
        "pre.0.bn.weight": "backbone.stem.0.norm.weight",
        "pre.1.skip.0.weight": "backbone.stem.2.shortcut.weight",
        "kps.0.up1.0.conv1.weight": "backbone.hourglasses.0.up1.0.conv1.weight",
        "kps.1.low2.low2.low2.2.bn2.bias": "backbone.hourglasses.1.low2.low2.low2.2.conv2.norm.bias",
        "kps.1.low2.low3.1.skip.1.running_var": "backbone.hourglasses.1.low2.low3.1.shortcut.norm.running_var",
        "cnvs.1.conv.weight": "backbone.outputs.1.weight",
        "cnvs.0.bn.bias": "backbone.outputs.0.norm.bias",
        "inters_.0.0.weight": "backbone.merge_input.0.weight",
        "cnvs_.0.1.weight": "backbone.merge_output.0.norm.weight",
        "inters.0.bn1.weight": "backbone.merge_block.0.conv1.norm.weight",
        "hm.1.0.conv.bias": "task.branches.heatmap.heads.1.0.bias",
        "wh.0.1.weight": "task.branches.box_size.heads.0.2.weight",
    },
    "resdcn": {
        "conv1.weight": "backbone.stem.conv1.weight",
        "bn1.running_mean": "backbone.stem.conv1.norm.running_mean",
        "layer1.0.conv1.weight": "backbone.res2.0.conv1.weight",
        "layer3.22.bn3.weight": "backbone.res4.22.conv3.norm.weight",
        "layer4.0.downsample.0.weight": "backbone.res5.0.shortcut.weight",
        "layer4.0.downsample.1.bias": "backbone.res5.0.shortcut.norm.bias",
        "deconv_layers.0.weight": "neck.stages.0.conv.weight",
        "deconv_layers.0.conv_offset_mask.weight": "neck.stages.0.conv.offset_mask.weight",
        "deconv_layers.7.bias": "neck.stages.1.conv.norm.bias",
        "deconv_layers.15.weight": "neck.stages.2.up.weight",
        "deconv_layers.16.running_var": "neck.stages.2.norm.running_var",
        "reg.0.bias": "task.branches.offset.heads.0.0.bias",
    },
    "res": {
        "deconv_layers.0.weight": "neck.stages.0.up.weight",
        "deconv_layers.7.weight": "neck.stages.2.norm.weight",
        "hm.2.weight": "task.branches.heatmap.heads.0.2.weight",
    },
}


@pytest.mark.parametrize("network", PAIRS)
def test_names(network):
    pairs = PAIRS[network]
    converted, dropped = convert_published(pairs)
    assert converted == {ours: ours for ours in pairs.values()}
    assert not dropped
    assert to_published({ours: theirs for theirs, ours in pairs.items()}) == {theirs: theirs for theirs in pairs}
    assert convert_published({f"module.{theirs}": ours for theirs, ours in pairs.items()})[0] == converted


@pytest.fixture(scope="module")
def key_lists(shared_data) -> dict[str, dict[str, tuple[int, ...]]]:
    """Shape by name of the published networks' state."""
    path = shared_data.parent / "spec" / "centernet_state_dict_keys.txt"
    if not path.is_file():
        pytest.skip(f"no list of published names at {path}")
    lists: dict[str, dict[str, tuple[int, ...]]] = {}
    for line in path.read_text().splitlines():
        if line.startswith("####"):
            shapes = lists.setdefault(" ".join(line.split()[1:3]), {})
        elif line:
            name, shape = line.split("\t")
            shapes[name] = ast.literal_eval(shape)
    return lists


@pytest.mark.parametrize("network", NETWORKS)
def test_whole_networks(network, key_lists):
    """The published state converts to exactly our model's: every name, every shape, nothing left over; and back."""
    published = key_lists[f"{network} ctdet"]
    converted, dropped = convert_published(published)
    cfg = centernet_d2.get_cfg()
    cfg.merge_from_file(str(CONFIGS / f"centernet_{NETWORKS[network]}.yaml"))
    cfg.MODEL.DEVICE = "meta"
    cfg.MODEL.CENTERNET.NUM_CLASSES = 80
    with torch.device("meta"):
        model = build_model(cfg)
    assert converted == {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert set(dropped) == (DEAD_DLA if network == "dla34" else set())
    assert to_published(converted) == {name: shape for name, shape in published.items() if name not in dropped}


def test_heads_of_other_tasks_are_left_out(key_lists):
    converted, dropped = convert_published(key_lists["dla34 ddd"])
    left_out = {name.partition(".")[0] for name in dropped} - {"base"}
    assert left_out == {"dep", "rot", "dim"}
    assert converted["task.branches.heatmap.heads.0.2.weight"] == (3, 256, 1, 1)


def test_heads_of_landmarks(key_lists):
    converted, dropped = convert_published(key_lists["dla34 multi_pose"])
    assert set(dropped) == DEAD_DLA
    assert converted["task.branches.landmark_offsets.heads.0.2.weight"] == (34, 256, 1, 1)
    assert converted["task.branches.landmark_heatmap.heads.0.2.bias"] == (17,)
    assert converted["task.branches.landmark_subcell.heads.0.2.bias"] == (2,)
    assert to_published(converted).keys() == key_lists["dla34 multi_pose"].keys() - DEAD_DLA


def test_imagenet_names(key_lists):
    """torchvision's names from torchvision, DLA's from the published detector, which took them over."""
    import torchvision

    for depth, network in ((18, "resdcn_18"), (101, "resdcn_101"), (50, "res_50")):
        with torch.device("meta"):
            weights = getattr(torchvision.models, f"resnet{depth}")().state_dict()
        converted, dropped = convert_imagenet(weights)
        assert dropped == ["fc.weight", "fc.bias"]
        expected, _ = convert_published(key_lists[f"{network} ctdet"])
        assert set(converted) == {name for name in expected if name.startswith("backbone.")}
    base = {n.removeprefix("base."): s for n, s in key_lists["dla34 ctdet"].items() if n.startswith("base.")}
    converted, dropped = convert_imagenet(base)
    assert {f"base.{name}" for name in dropped} == DEAD_DLA
    expected, _ = convert_published(key_lists["dla34 ctdet"])
    assert converted == {name: shape for name, shape in expected.items() if name.startswith("backbone.")}


def test_other_files_are_refused():
    with pytest.raises(ValueError, match=r"of no known network.*rpn\.conv\.weight"):
        convert_published({"rpn.conv.weight": 0})
    with pytest.raises(ValueError, match="nothing"):
        convert_imagenet({})
    with pytest.raises(ValueError, match=r"base\.level9\.conv1\.gain is in none"):
        convert_published({**PAIRS["dla34"], "base.level9.conv1.gain": 0})
    with pytest.raises(ValueError, match=r"nothing like task\.branches\.depth"):
        to_published({**dict.fromkeys(PAIRS["res"].values(), 0), "task.branches.depth.heads.0.0.bias": 0})
