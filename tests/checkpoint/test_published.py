"""Published names to ours and back, against the key lists of the published models and our own models' state."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

import centernet_d2
from centernet_d2.checkpoint.naming import count_fitting, match_names
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
    _, converted, left_out = convert_published(pairs)
    assert converted == {ours: ours for ours in pairs.values()}
    assert not left_out
    assert to_published({ours: theirs for theirs, ours in pairs.items()}) == {theirs: theirs for theirs in pairs}
    assert convert_published({f"module.{theirs}": ours for theirs, ours in pairs.items()}).weights == converted


@pytest.mark.parametrize("network", NETWORKS)
def test_whole_networks(network, key_lists):
    """The published state converts to exactly our model's: every name, every shape, nothing left over; and back."""
    published = key_lists[f"{network} ctdet"]
    conversion = convert_published(published)
    cfg = centernet_d2.get_cfg()
    cfg.merge_from_file(str(CONFIGS / f"centernet_{NETWORKS[network]}.yaml"))
    cfg.MODEL.DEVICE = "meta"
    cfg.MODEL.CENTERNET.NUM_CLASSES = 80
    with torch.device("meta"):
        model = build_model(cfg)
    ours = model.state_dict()
    assert conversion.weights == {name: tuple(value.shape) for name, value in ours.items()}
    assert set(conversion.left_out) == (DEAD_DLA if network == "dla34" else set())
    assert to_published(conversion.weights) == {n: s for n, s in published.items() if n not in conversion.left_out}
    # What loading does with such a file, before any value is copied.
    match = match_names({name: torch.empty(shape, device="meta") for name, shape in published.items()}, ours)
    assert match.network == conversion.network and match.left_out == conversion.left_out
    assert count_fitting(match.weights, ours) == len(match.weights) == len(ours)


def our_shapes(config: str, *opts, device: str = "meta") -> dict[str, tuple[int, ...]]:
    """Shape by name of the state of a config's model; no data set has a say."""
    cfg = centernet_d2.get_cfg()
    cfg.merge_from_file(str(CONFIGS.parent / config))
    cfg.merge_from_list(["MODEL.DEVICE", device, "DATASETS.TRAIN", (), "DATASETS.TEST", (), *opts])
    with torch.device(device):
        return {name: tuple(x.shape) for name, x in build_model(cfg).state_dict().items()}


def test_pose(key_lists):
    """The published pose network is exactly that of its config."""
    published = key_lists["dla34 multi_pose"]
    _, converted, left_out = convert_published(published)
    assert converted == our_shapes(
        "COCO-Keypoints/pose_DLA_34.yaml",
        *("MODEL.CENTERNET.NUM_CLASSES", 1, "MODEL.LANDMARK.SCHEME", "pose17"),
        device="cpu",
    )
    assert set(left_out) == DEAD_DLA
    assert to_published(converted) == {n: s for n, s in published.items() if n not in left_out}


def test_boxes_in_space(key_lists):
    """The published network is that of the task without what it adds (the middle of the box in space)."""
    published = key_lists["dla34 ddd"]
    _, converted, left_out = convert_published(published)
    assert converted == our_shapes(
        "COCO-Detection/centernet_DLA_34_1pt.yaml",
        *("MODEL.CENTERNET.TASK", "Boxes3DTask", "MODEL.BOX3D_ON", True, "MODEL.BOX3D.CENTER_OFFSET", False),
        *("MODEL.CENTERNET.NUM_CLASSES", 3),
    )
    assert set(left_out) == DEAD_DLA
    assert to_published(converted) == {n: s for n, s in published.items() if n not in left_out}


def test_a_tracking_network(key_lists):
    """CenterTrack's DLA-34: two more inputs and heads of its own; everything else is the detector's."""
    detector = {name: shape for name, shape in key_lists["dla34 ctdet"].items() if not name.startswith("base.fc.")}
    inputs = [f"base.pre_{what}_layer.{rest}" for what in ("img", "hm") for rest in ("0.weight", *NORM)]
    heads = [f"{head}.{i}.{p}" for head in ("tracking", "ltrb_amodal") for i in (0, 2) for p in ("weight", "bias")]
    conversion = convert_published({**detector, **dict.fromkeys([*inputs, *heads], (1,))})
    assert conversion.weights == convert_published(detector).weights
    assert conversion.left_out.keys() == {*DEAD_DLA, *inputs, *heads} - {"base.fc.weight", "base.fc.bias"}
    assert conversion.describe_left_out() == [
        "left out, no output depends on it: base.level3.project (6), base.level4.project (6)",
        "left out, input of a tracking network (the picture before): base.pre_img_layer (6), base.pre_hm_layer (6)",
        "left out, head of another task: tracking (4), ltrb_amodal (4)",
    ]


EXTREMENET = {"ct_heats": "hm_c", "t_heats": "hm_t", "l_heats": "hm_l", "b_heats": "hm_b", "r_heats": "hm_r"} | {
    f"{side}_regrs": f"reg_{side}" for side in "tlbr"
}


@pytest.mark.parametrize("network", ["dla34", "hourglass"])
def test_extreme_points(network, key_lists):
    """CenterNet's networks for them, and ExtremeNet's hourglass under its own names."""
    detector = key_lists[f"{network} ctdet"]
    published = {name: shape for name, shape in detector.items() if name.partition(".")[0] not in ("hm", "wh", "reg")}
    for head in EXTREMENET.values():
        like = "hm." if head.startswith("hm") else "reg."
        published |= {n.replace(like, f"{head}.", 1): s for n, s in detector.items() if n.startswith(like)}
    _, converted, left_out = convert_published(published)
    config = "HG_104" if network == "hourglass" else "DLA_34"
    assert converted == our_shapes(
        f"COCO-Detection/centernet_{config}_1pt.yaml",
        *("MODEL.CENTERNET.TASK", "ExtremePointTask", "MODEL.LANDMARK.SCHEME", "extreme4"),
        *("MODEL.KEYPOINT_ON", True, "MODEL.CENTERNET.NUM_CLASSES", 80),
    )
    assert to_published(converted) == {n: s for n, s in published.items() if n not in left_out}
    if network == "hourglass":
        own = {f"module.{n}": s for n, s in published.items()}
        for theirs, centernets in EXTREMENET.items():
            own = {n.replace(f"module.{centernets}.", f"module.{theirs}."): s for n, s in own.items()}
        assert "module.t_heats.1.0.conv.weight" in own and "module.hm_t.1.0.conv.weight" not in own
        assert convert_published(own).weights == converted


def test_imagenet_names(key_lists):
    """torchvision's names from torchvision, DLA's from the published detector, which took them over."""
    import torchvision

    for depth, network in ((18, "resdcn_18"), (101, "resdcn_101"), (50, "res_50")):
        with torch.device("meta"):
            weights = getattr(torchvision.models, f"resnet{depth}")().state_dict()
        _, converted, left_out = convert_imagenet(weights)
        assert [*left_out] == ["fc.weight", "fc.bias"]
        expected = convert_published(key_lists[f"{network} ctdet"]).weights
        assert set(converted) == {name for name in expected if name.startswith("backbone.")}
    base = {n.removeprefix("base."): s for n, s in key_lists["dla34 ctdet"].items() if n.startswith("base.")}
    _, converted, left_out = convert_imagenet(base)
    assert {f"base.{name}" for name in left_out} == DEAD_DLA
    expected = convert_published(key_lists["dla34 ctdet"]).weights
    assert converted == {name: shape for name, shape in expected.items() if name.startswith("backbone.")}


def test_other_files_are_refused():
    with pytest.raises(ValueError, match=r"of no known network.*rpn\.conv\.weight"):
        convert_published({"rpn.conv.weight": 0})
    with pytest.raises(ValueError, match="nothing"):
        convert_imagenet({})
    with pytest.raises(ValueError, match=r"CenterNet's DLA-34 has nothing like base\.level9\.conv1\.gain"):
        convert_published({**PAIRS["dla34"], "base.level9.conv1.gain": 0})
    with pytest.raises(ValueError, match=r"nothing like task\.branches\.area"):
        to_published({**dict.fromkeys(PAIRS["res"].values(), 0), "task.branches.area.heads.0.0.bias": 0})
