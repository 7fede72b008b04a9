"""The networks of reference checkpoints and the rules that rename their parameters.

A rule is a pair of templates with fields in braces: read from left to right it renames a reference parameter, from
right to left one of ours. The first rule that fits counts. Weights need no change of shape or layout anywhere.

CenterTrack's DLA-34 is CenterNet's with more inputs and heads, ExtremeNet's hourglass is CenterNet's with other heads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

Rule = tuple[str, str]
Reasons = tuple[tuple[str, str], ...]

_SIDES = ("top", "left", "bottom", "right")
# CenterNet's heads and our heads.
HEADS = {
    "hm": "heatmap",
    "wh": "box_size",
    "reg": "offset",
    "hps": "keypoint_regression",
    "hm_hp": "keypoint_heatmap",
    "hp_offset": "keypoint_offset",
    "dep": "depth",
    "rot": "orientation",
    "dim": "dimensions",
    "tracking": "displacement",
    "hm_c": "center_heatmap",
    **{f"hm_{side[0]}": f"{side}_heatmap" for side in _SIDES},
    **{f"reg_{side[0]}": f"{side}_offset" for side in _SIDES},
}
# ExtremeNet's own names for them.
_EXTREMENET_HEADS = {
    "ct_heats": "center_heatmap",
    **{f"{side[0]}_heats": f"{side}_heatmap" for side in _SIDES},
    **{f"{side[0]}_regrs": f"{side}_offset" for side in _SIDES},
}

# {p} is a parameter or buffer, {path} modules inside each other; other fields are numbers.
FIELDS = {"p": "weight|bias|running_mean|running_var|num_batches_tracked", "path": r"\w+(?:\.\w+)*?"}


@dataclass(frozen=True)
class Network:
    """One reference network.

    Attributes:
        name: in words.
        marker: a parameter that only its files (or those of networks later in the list) have.
        rules: see the docstring of this file.
        unused: regular expressions of reference parameters that are left out, and why; they count before the rules.
        others: the same, after the rules.
    """

    name: str
    marker: str
    rules: tuple[Rule, ...]
    unused: Reasons = ()
    others: Reasons = ((r"\w+\.[02]\.(weight|bias)", "head of another task"),)

    def to_ours(self, name: str) -> str | None:
        return _rename(name, self.rules)

    def to_reference(self, name: str) -> str | None:
        return _rename(name, tuple((ours, theirs) for theirs, ours in self.rules))


def _rename(name: str, rules: tuple[Rule, ...]) -> str | None:
    for source, target in rules:
        if found := _compile_rules(source).fullmatch(name):
            return target.format(**found.groupdict())
    return None


@cache
def _compile_rules(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", template)
    fields = [f"(?P<{name}>{FIELDS.get(name, '[0-9]+')})" for name in parts[1::2]]
    return re.compile("".join(a + b for a, b in zip(map(re.escape, parts[::2]), [*fields, ""], strict=True)))


def _make_norm_rules(theirs: str, ours: str) -> tuple[Rule, Rule]:
    """Return the rules of a convolution and its normalization, neighbors in a ``Sequential``."""
    return (f"{theirs}.0.{{p}}", f"{ours}.{{p}}"), (f"{theirs}.1.{{p}}", f"{ours}.norm.{{p}}")


def _make_block_rules(theirs: str, ours: str, shortcut: str = "") -> tuple[Rule, ...]:
    """Return the rules of a residual block; ``shortcut`` is the reference's name of its projection."""
    rules = (
        (f"{theirs}.bn{{n}}.{{p}}", f"{ours}.conv{{n}}.norm.{{p}}"),
        (f"{theirs}.conv{{n}}.{{p}}", f"{ours}.conv{{n}}.{{p}}"),
    )
    return rules + (_make_norm_rules(f"{theirs}.{shortcut}", f"{ours}.shortcut") if shortcut else ())


def _make_conv_bn_rules(theirs: str, ours: str) -> tuple[Rule, Rule]:
    return (f"{theirs}.conv.{{p}}", f"{ours}.{{p}}"), (f"{theirs}.bn.{{p}}", f"{ours}.norm.{{p}}")


def _make_deformable_rules(theirs: str, ours: str) -> tuple[Rule, Rule]:
    return (f"{theirs}.{{p}}", f"{ours}.{{p}}"), (f"{theirs}.conv_offset_mask.{{p}}", f"{ours}.offset_mask.{{p}}")


_HEAD_RULES = tuple((f"{h}.{{i}}.{{p}}", f"task.heads.{b}.layers.0.{{i}}.{{p}}") for h, b in HEADS.items())


def _make_dla_rules(prefix: str) -> tuple[Rule, ...]:
    return (
        *_make_norm_rules(f"{prefix}base_layer", "backbone.stem"),
        *_make_norm_rules(f"{prefix}level0", "backbone.level0"),
        *_make_norm_rules(f"{prefix}level1", "backbone.level1"),
        *_make_conv_bn_rules(f"{prefix}{{path}}.root", "backbone.{path}.root"),
        *_make_norm_rules(f"{prefix}{{path}}.project", "backbone.{path}.project"),
        *_make_block_rules(f"{prefix}{{path}}", "backbone.{path}"),
    )


def _make_fusion_rules(theirs: str, ours: str, i: int) -> tuple[Rule, ...]:
    rules: list[Rule] = [(f"{theirs}.up_{i + 1}.{{p}}", f"{ours}.{i}.up.{{p}}")]
    for part in ("proj", "node"):
        name, own = f"{theirs}.{part}_{i + 1}", f"{ours}.{i}.{part}"
        rules += [(f"{name}.actf.0.{{p}}", f"{own}.norm.{{p}}"), *_make_deformable_rules(f"{name}.conv", own)]
    return tuple(rules)


def _make_dla_up_rules() -> tuple[Rule, ...]:
    ida = [
        rule
        for i in range(3)
        for j in range(i + 1)
        for rule in _make_fusion_rules(f"dla_up.ida_{i}", f"neck.dla_up.{i}", j)
    ]
    return (*ida, *[rule for j in range(2) for rule in _make_fusion_rules("ida_up", "neck.ida_up", j)])


def _make_resnet_rules() -> tuple[Rule, ...]:
    stem = (("conv1.{p}", "backbone.stem.conv1.{p}"), ("bn1.{p}", "backbone.stem.conv1.norm.{p}"))
    stages = [_make_block_rules(f"layer{i}.{{b}}", f"backbone.res{i + 1}.{{b}}", "downsample") for i in range(1, 5)]
    return (*stem, *[rule for stage in stages for rule in stage])


def _make_darknet_rules() -> tuple[Rule, ...]:
    rules = [*_make_conv_bn_rules("conv1", "backbone.stem")]
    for i in range(5):
        theirs, ours = f"conv_res_block{i + 1}", f"backbone.stages.{i}"
        rules += _make_conv_bn_rules(f"{theirs}.conv", f"{ours}.down")
        for n in (1, 2):
            rules += _make_conv_bn_rules(f"{theirs}.res{{b}}.conv{n}", f"{ours}.blocks.{{b}}.conv{n}")
    return tuple(rules)


def _make_deconv_rules(deformable: bool) -> tuple[Rule, ...]:
    rules: list[Rule] = []
    for i in range(3):
        first, ours = (6 if deformable else 3) * i, f"neck.stages.{i}"
        if deformable:
            rules += _make_deformable_rules(f"deconv_layers.{first}", f"{ours}.conv")
            rules.append((f"deconv_layers.{first + 1}.{{p}}", f"{ours}.conv.norm.{{p}}"))
            first += 3
        rules.append((f"deconv_layers.{first}.{{p}}", f"{ours}.up.{{p}}"))
        rules.append((f"deconv_layers.{first + 1}.{{p}}", f"{ours}.norm.{{p}}"))
    return tuple(rules)


def _make_hourglass_rules() -> tuple[Rule, ...]:
    rules: list[Rule] = []
    for h, b in [*HEADS.items(), *_EXTREMENET_HEADS.items()]:
        rules.append((f"{h}.{{s}}.0.conv.{{p}}", f"task.heads.{b}.layers.{{s}}.0.{{p}}"))
        rules.append((f"{h}.{{s}}.1.{{p}}", f"task.heads.{b}.layers.{{s}}.2.{{p}}"))
    return (
        *_make_conv_bn_rules("pre.0", "backbone.stem.0"),
        *_make_block_rules("pre.1", "backbone.stem.2", "skip"),
        *_make_block_rules("kps.{s}.{path}", "backbone.hourglasses.{s}.{path}", "skip"),
        *_make_conv_bn_rules("cnvs.{s}", "backbone.outputs.{s}"),
        *_make_norm_rules("inters_.{s}", "backbone.merge_input.{s}"),
        *_make_norm_rules("cnvs_.{s}", "backbone.merge_output.{s}"),
        *_make_block_rules("inters.{s}", "backbone.merge_block.{s}"),
        *rules,
    )


_DEAD = "no output depends on it"
_DEAD_PROJECTION = r"level[34]\.project\..*"
NETWORKS = (
    Network(
        "CenterNet's DLA-34",
        "ida_up.up_1.weight",
        (
            *_HEAD_RULES,
            *_make_dla_up_rules(),
            *_make_norm_rules("base.pre_img_layer", "previous_frame.image_stem"),
            *_make_norm_rules("base.pre_hm_layer", "previous_frame.heatmap_stem"),
            *_make_dla_rules("base."),
        ),
        ((rf"base\.(fc\.\w+|{_DEAD_PROJECTION})", _DEAD),),
    ),
    Network(
        "CenterNet's Hourglass-104",
        "kps.0.up1.0.conv1.weight",
        _make_hourglass_rules(),
        others=((r"\w+\.\d+\.(0\.conv|1)\.(weight|bias)", "head of another task"),),
    ),
    Network(
        "CenterNet's ResNet with deformable up-sampling",
        "deconv_layers.0.conv_offset_mask.weight",
        _HEAD_RULES + _make_resnet_rules() + _make_deconv_rules(deformable=True),
    ),
    Network(
        "CenterNet's ResNet",
        "deconv_layers.0.weight",
        _HEAD_RULES + _make_resnet_rules() + _make_deconv_rules(deformable=False),
    ),
)
_NOT_BACKBONE = "not of the backbone"
IMAGENET = (
    Network(
        "DLA-34",
        "base_layer.0.weight",
        _make_dla_rules(""),
        ((_DEAD_PROJECTION, _DEAD),),
        ((r"(?!base_layer|level\d).*", _NOT_BACKBONE),),
    ),
    Network(
        "ResNet", "layer1.0.conv1.weight", _make_resnet_rules(), others=((r"(?!conv1|bn1|layer\d).*", _NOT_BACKBONE),)
    ),
    Network("Darknet-53", "conv_res_block1.conv.conv.weight", _make_darknet_rules()),
)
