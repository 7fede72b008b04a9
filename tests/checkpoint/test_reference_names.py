"""Reference names to ours and back, against the key lists of the reference models and our own models' state."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

import centernet_d2
from centernet_d2.checkpoint.naming import count_fitting, match_names
from centernet_d2.checkpoint.reference_names import convert_imagenet, convert_reference, to_reference

CONFIGS = Path(__file__).parents[2] / "configs"
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
        "hm.0.weight": "task.heads.heatmap.layers.0.0.weight",
        "wh.2.bias": "task.heads.box_size.layers.0.2.bias",
        "reg.2.weight": "task.heads.offset.layers.0.2.weight",
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
        "hm.1.0.conv.bias": "task.heads.heatmap.layers.1.0.bias",
        "wh.0.1.weight": "task.heads.box_size.layers.0.2.weight",
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
        "reg.0.bias": "task.heads.offset.layers.0.0.bias",
    },
    "res": {
        "deconv_layers.0.weight": "neck.stages.0.up.weight",
        "deconv_layers.7.weight": "neck.stages.2.norm.weight",
        "hm.2.weight": "task.heads.heatmap.layers.0.2.weight",
    },
}


@pytest.mark.parametrize("network", PAIRS)
def test_names(network):
    pairs = PAIRS[network]
    _, converted, left_out = convert_reference(pairs)
    assert converted == {ours: ours for ours in pairs.values()}
    assert not left_out
    assert to_reference({ours: theirs for theirs, ours in pairs.items()}) == {theirs: theirs for theirs in pairs}
    assert convert_reference({f"module.{theirs}": ours for theirs, ours in pairs.items()}).weights == converted


DETECTION = {"hm": 80, "wh": 2, "reg": 2}
PASCAL = {**DETECTION, "hm": 20}
POSE = {"hm": 1, "wh": 2, "hps": 34, "reg": 2, "hm_hp": 17, "hp_offset": 2}
BOXES_IN_SPACE = {"hm": 3, "dep": 1, "rot": 8, "dim": 3, "wh": 2, "reg": 2}
EXTREMES = {f"hm_{part}": 80 for part in "ctlbr"} | {f"reg_{side}": 2 for side in "tlbr"}
# Config -> network and channels by head, of every reference model and of the networks that no reference model has.
MODELS: dict[str, tuple[str, dict[str, int]]] = {
    "COCO-Detection/centernet_R_18_1pt": ("res_18", DETECTION),
    "COCO-Detection/centernet_R_50_1pt": ("res_50", DETECTION),
    "Pretrained/Detection/ctdet_coco_hg": ("hourglass", DETECTION),
    "Pretrained/Detection/ctdet_coco_dla_1x": ("dla34", DETECTION),
    "Pretrained/Detection/ctdet_coco_dla_2x": ("dla34", DETECTION),
    "Pretrained/Detection/ctdet_coco_resdcn101": ("resdcn_101", DETECTION),
    "Pretrained/Detection/ctdet_coco_resdcn18": ("resdcn_18", DETECTION),
    "Pretrained/Extreme/exdet_coco_hg": ("hourglass", EXTREMES),
    "Pretrained/Extreme/exdet_coco_dla": ("dla34", EXTREMES),
    **{f"Pretrained/Detection/ctdet_pascal_dla_{size}": ("dla34", PASCAL) for size in (384, 512)},
    **{
        f"Pretrained/Detection/ctdet_pascal_resdcn{n}_{size}": (f"resdcn_{n}", PASCAL)
        for n in (18, 101)
        for size in (384, 512)
    },
    **{f"Pretrained/Pose/multi_pose_hg_{times}x": ("hourglass", POSE) for times in (1, 3)},
    **{f"Pretrained/Pose/multi_pose_dla_{times}x": ("dla34", POSE) for times in (1, 3)},
    "Pretrained/3D/ddd_3dop": ("dla34", BOXES_IN_SPACE),
    "Pretrained/3D/ddd_sub": ("dla34", BOXES_IN_SPACE),
    "Pretrained/Extreme/extremenet": ("hourglass", EXTREMES),
    "Pretrained/Tracking/coco_tracking": ("dla34", {**DETECTION, "tracking": 2}),
    "Pretrained/Tracking/coco_pose_tracking": ("dla34", {**POSE, "tracking": 2}),
    **{
        f"Pretrained/Tracking/mot17_{part}": ("dla34", {**DETECTION, "hm": 1, "tracking": 2})
        for part in ("half", "fulltrain")
    },
    "Pretrained/Tracking/crowdhuman": ("dla34", {**DETECTION, "hm": 1, "tracking": 2}),
    "Pretrained/Enhanced/enhanced_coco_hg_3pt": ("hourglass", {"hm": 240, "wh": 6, "reg": 6}),
    "Pretrained/Enhanced/enhanced_300w_hg": ("hourglass", {**POSE, "hps": 136, "hm_hp": 68}),
    "Pretrained/Enhanced/enhanced_deepfashion2_hg": ("hourglass", {**POSE, "hm": 13, "hps": 588, "hm_hp": 294}),
}
Shapes = dict[str, tuple[int, ...]]


def reference_state(key_lists: dict[str, Shapes], network: str, heads: dict[str, int]) -> Shapes:
    """Shape by name: the network of a detector with other heads, all of them like its class heatmap's; of a tracker
    with two more stems like its own."""
    detector = key_lists[f"{network} ctdet"]
    state = {name: shape for name, shape in detector.items() if name.partition(".")[0] not in DETECTION}
    for head, channels in heads.items():
        for name, shape in detector.items():
            if name.startswith("hm."):
                last = shape[0] == DETECTION["hm"]
                state[f"{head}{name.removeprefix('hm')}"] = (channels, *shape[1:]) if last else shape
    if "tracking" in heads:
        stem = {rest: state[f"base.base_layer.{rest}"] for rest in ("0.weight", *NORM)}
        state |= {f"base.pre_{what}_layer.{rest}": shape for what in ("img", "hm") for rest, shape in stem.items()}
        state["base.pre_hm_layer.0.weight"] = (16, 1, 7, 7)
    return state


@pytest.mark.parametrize(("task", "heads"), [("ctdet", DETECTION), ("multi_pose", POSE), ("ddd", BOXES_IN_SPACE)])
def test_the_heads_are_as_reference(task, heads, key_lists):
    assert reference_state(key_lists, "dla34", heads) == key_lists[f"dla34 {task}"]


@pytest.mark.parametrize("config", MODELS)
def test_whole_networks(config, key_lists):
    """The published state is exactly that of the config's model, every name and shape, nothing left over; and back."""
    network, heads = MODELS[config]
    published = reference_state(key_lists, network, heads)
    ours = our_state(config)
    # What loading does with such a file, before any value is copied.
    match = match_names({name: torch.empty(shape, device="meta") for name, shape in published.items()}, ours)
    assert set(match.left_out) == (DEAD_DLA if network == "dla34" else set())
    assert shapes_of(match.weights) == shapes_of(ours)
    assert count_fitting(match.weights, ours) == len(published) - len(match.left_out)
    back = to_reference(shapes_of(match.weights))
    assert back == {name: shape for name, shape in published.items() if name not in match.left_out}


def test_every_reference_model_is_among_them():
    configs = {path.stem for path in (CONFIGS / "Pretrained").glob("*/*.yaml")}
    assert configs == {Path(name).name for name in MODELS if name.startswith("Pretrained/")}


def our_state(config: str) -> dict[str, torch.Tensor]:
    cfg = centernet_d2.get_cfg()
    cfg.merge_from_file(str(CONFIGS / f"{config}.yaml"))
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return build_model(cfg).state_dict()


def shapes_of(state: dict[str, torch.Tensor]) -> Shapes:
    return {name: tuple(value.shape) for name, value in state.items()}


def test_a_tracking_network(key_lists):
    """CenterTrack's for MOT17 have one more head, which is named; as a detector, what tracking adds is not needed."""
    published = reference_state(key_lists, "dla34", {**DETECTION, "hm": 1, "tracking": 2, "ltrb_amodal": 4})
    conversion = convert_reference(published)
    assert conversion.describe_left_out() == [
        "left out, no output depends on it: base.level3.project (6), base.level4.project (6), base.fc (2)",
        "left out, head of another task: ltrb_amodal (4)",
    ]
    assert shapes_of(our_state("Pretrained/Tracking/mot17_half")) == conversion.weights
    extra = {
        name.partition(".")[0]
        for name in conversion.weights.keys() - our_state("Pretrained/Detection/ctdet_coco_dla_1x")
    }
    assert extra == {"previous_frame", "task"}


EXTREMENET = {"hm_c": "ct_heats"} | {f"hm_{side}": f"{side}_heats" for side in "tlbr"}
EXTREMENET |= {f"reg_{side}": f"{side}_regrs" for side in "tlbr"}


def test_extremenets_own_names(key_lists):
    published = reference_state(key_lists, "hourglass", EXTREMES)
    own = {}
    for name, shape in published.items():
        head, _, rest = name.partition(".")
        own[f"module.{EXTREMENET.get(head, head)}.{rest}"] = shape
    assert "module.t_heats.1.0.conv.weight" in own and "module.hm_t.1.0.conv.weight" not in own
    assert convert_reference(own).weights == convert_reference(published).weights


def test_imagenet_names(key_lists):
    """torchvision's names from torchvision, DLA's from the published detector, which took them over."""
    import torchvision

    for depth, network in ((18, "resdcn_18"), (101, "resdcn_101"), (50, "res_50")):
        with torch.device("meta"):
            weights = getattr(torchvision.models, f"resnet{depth}")().state_dict()
        _, converted, left_out = convert_imagenet(weights)
        assert [*left_out] == ["fc.weight", "fc.bias"]
        expected = convert_reference(key_lists[f"{network} ctdet"]).weights
        assert set(converted) == {name for name in expected if name.startswith("backbone.")}
    base = {n.removeprefix("base."): s for n, s in key_lists["dla34 ctdet"].items() if n.startswith("base.")}
    _, converted, left_out = convert_imagenet(base)
    assert {f"base.{name}" for name in left_out} == DEAD_DLA
    expected = convert_reference(key_lists["dla34 ctdet"]).weights
    assert converted == {name: shape for name, shape in expected.items() if name.startswith("backbone.")}


@pytest.mark.parametrize("network", PAIRS)
def test_unknown_tensors_are_dropped_kind_by_kind(network):
    """Profilers leave tensors in every module, and counters beside them."""
    pairs = PAIRS[network]
    expected = convert_reference(pairs)
    modules = sorted({name.rpartition(".")[0] for name in pairs})
    extra = {f"{module}.{kind}": 0 for module in modules for kind in ("total_ops", "total_params")}
    found = convert_reference({**extra, **pairs, "iterations": 0, "layer1.0.surplus.scale": 0, "total_ops": 0})
    assert found.weights == expected.weights and found.network == expected.network
    (line,) = [x for x in found.describe_left_out() if "unknown" in x]
    count = len(modules)
    for kind in (f"total_ops ({count + 1})", f"total_params ({count})", "iterations (1)", "scale (1)"):
        assert kind in line and line.startswith("left out, unknown to ")


def test_other_files_are_refused():
    with pytest.raises(ValueError, match=r"of no known network.*rpn\.conv\.weight"):
        convert_reference({"rpn.conv.weight": 0})
    with pytest.raises(ValueError, match="nothing"):
        convert_imagenet({})
    strange = {f"base.tower{i}.weight": 0 for i in range(len(PAIRS["dla34"]) + 1)}
    with pytest.raises(ValueError, match=r"CenterNet's DLA-34 has nothing like base\.tower0\.weight"):
        convert_reference({**PAIRS["dla34"], **strange})
    with pytest.raises(ValueError, match=r"nothing like task\.heads\.area"):
        to_reference({**dict.fromkeys(PAIRS["res"].values(), 0), "task.heads.area.layers.0.0.bias": 0})
