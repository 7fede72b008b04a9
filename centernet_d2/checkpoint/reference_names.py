"""Names of parameters in reference checkpoints and in this project.

A rule is a pair of templates with fields in braces: read from left to right it renames a published parameter, from
right to left one of ours. The first rule that fits counts. Weights need no change of shape or layout anywhere.

CenterTrack's DLA-34 is CenterNet's with further inputs and heads, ExtremeNet's hourglass CenterNet's with other heads.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")
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

#: First words of the reason for skipping an unknown tensor.
UNKNOWN = "unknown to"

# {p} is a parameter or buffer, {path} modules inside each other; other fields are numbers.
_FIELDS = {"p": "weight|bias|running_mean|running_var|num_batches_tracked", "path": r"\w+(?:\.\w+)*?"}


class Conversion(NamedTuple, Generic[T]):
    """A file's weights under our names.

    Attributes:
        network: what reference network they are of; "" where the names were ours already.
        weights: what our network has.
        left_out: for every other name of the file, why.
    """

    network: str
    weights: dict[str, T]
    left_out: dict[str, str]

    def describe_left_out(self) -> list[str]:
        """Return a line for each reason, with the heads and modules and how many tensors of each.

        Unknown tensors are listed by the last parts of their names, since profilers leave some in every module.
        """
        modules: dict[str, Counter[str]] = {}
        for name, reason in self.left_out.items():
            unknown = reason.startswith(UNKNOWN)
            kind = name.rpartition(".")[2] if unknown else re.sub(r"(\.\d+|\.conv)*\.\w+$", "", name)
            modules.setdefault(reason, Counter())[kind] += 1
        return [
            f"left out, {reason}: {', '.join(f'{module} ({count})' for module, count in counts.items())}"
            for reason, counts in modules.items()
        ]


@dataclass(frozen=True)
class _Network:
    """One reference network.

    Attributes:
        name: in words.
        marker: a parameter that only its files (or those of networks later in the list) have.
        rules: see the head of this file.
        unused: regular expressions of published parameters that are left out, and why; they count before the rules.
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
    fields = [f"(?P<{name}>{_FIELDS.get(name, '[0-9]+')})" for name in parts[1::2]]
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
_NETWORKS = (
    _Network(
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
    _Network(
        "CenterNet's Hourglass-104",
        "kps.0.up1.0.conv1.weight",
        _make_hourglass_rules(),
        others=((r"\w+\.\d+\.(0\.conv|1)\.(weight|bias)", "head of another task"),),
    ),
    _Network(
        "CenterNet's ResNet with deformable up-sampling",
        "deconv_layers.0.conv_offset_mask.weight",
        _HEAD_RULES + _make_resnet_rules() + _make_deconv_rules(deformable=True),
    ),
    _Network(
        "CenterNet's ResNet",
        "deconv_layers.0.weight",
        _HEAD_RULES + _make_resnet_rules() + _make_deconv_rules(deformable=False),
    ),
)
_NOT_BACKBONE = "not of the backbone"
_IMAGENET = (
    _Network(
        "DLA-34",
        "base_layer.0.weight",
        _make_dla_rules(""),
        ((_DEAD_PROJECTION, _DEAD),),
        ((r"(?!base_layer|level\d).*", _NOT_BACKBONE),),
    ),
    _Network(
        "ResNet", "layer1.0.conv1.weight", _make_resnet_rules(), others=((r"(?!conv1|bn1|layer\d).*", _NOT_BACKBONE),)
    ),
    _Network("Darknet-53", "conv_res_block1.conv.conv.weight", _make_darknet_rules()),
)


def convert_reference(state_dict: Mapping[str, T]) -> Conversion[T]:
    """Convert CenterNet's names (DLA-34, ResNet with and without DCN, Hourglass-104) to ours.

    Left out are parameters that no output depends on, heads that are not in :data:`HEADS`, and what is unknown.

    Args:
        state_dict: the published file's ``["state_dict"]``; a "module." before its names is ignored.

    Raises:
        ValueError: it is none of these networks, or most of its parameters are unknown.
    """
    return _convert(state_dict, _NETWORKS)


def convert_imagenet(state_dict: Mapping[str, T]) -> Conversion[T]:
    """Convert ImageNet weights (torchvision's ResNets, the authors' DLA-34, OpenMMLab's Darknet-53) to our
    ``backbone``.

    They were trained on RGB images, and CenterNet feeds them BGR ones without a change; so does this. Left out are
    the classifier, what nothing depends on, and what is unknown.

    Raises:
        ValueError: as :func:`convert_reference`.
    """
    return _convert(state_dict, _IMAGENET)


def to_reference(state_dict: Mapping[str, T]) -> dict[str, T]:
    """Invert :func:`convert_reference`, without the parameters that it left out.

    Raises:
        ValueError: a parameter has no published counterpart.
    """
    network = _recognize(state_dict, {network: network.to_ours(network.marker) for network in _NETWORKS})
    result = {}
    for name, value in state_dict.items():
        published = network.to_reference(name)
        if published is None:
            raise ValueError(f"{network.name} has nothing like {name}")
        result[published] = value
    return result


def _convert(state_dict: Mapping[str, T], networks: tuple[_Network, ...]) -> Conversion[T]:
    weights = {name.removeprefix("module."): value for name, value in state_dict.items()}
    network = _recognize(weights, {network: network.marker for network in networks})
    converted, left_out = {}, {}
    for name, value in weights.items():
        if reason := _find_reason(name, network.unused):
            left_out[name] = reason
        elif ours := network.to_ours(name):
            converted[ours] = value
        elif reason := _find_reason(name, network.others):
            left_out[name] = reason
        else:
            left_out[name] = f"{UNKNOWN} {network.name}"
    # Of parameters; tensors of other kinds (a profiler's, a counter) may be many and mean nothing.
    strange = [x for x, why in left_out.items() if why.startswith(UNKNOWN) and re.search(rf"\.({_FIELDS['p']})$", x)]
    if len(strange) > len(converted):
        raise ValueError(f"{network.name} has nothing like {strange[0]} and {len(strange) - 1} more")
    return Conversion(network.name, converted, left_out)


def _find_reason(name: str, reasons: Reasons) -> str | None:
    return next((reason for pattern, reason in reasons if re.fullmatch(pattern, name)), None)


def _recognize(weights: Mapping[str, T], markers: Mapping[_Network, str | None]) -> _Network:
    for network, marker in markers.items():
        if marker in weights:
            return network
    wanted = ", ".join(str(marker) for marker in markers.values())
    raise ValueError(f"of no known network: has none of {wanted}, but {next(iter(weights), 'nothing')}")
