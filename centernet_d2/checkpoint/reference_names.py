"""Conversion of parameter names between reference checkpoints and this project, by ``reference_rules``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Generic, NamedTuple, TypeVar

from centernet_d2.checkpoint.reference_rules import FIELDS, IMAGENET, NETWORKS, Network, Reasons

T = TypeVar("T")

#: First words of the reason for skipping an unknown tensor.
UNKNOWN = "unknown to"


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


def convert_reference(state_dict: Mapping[str, T]) -> Conversion[T]:
    """Convert CenterNet's names (DLA-34, ResNet with and without DCN, Hourglass-104) to ours.

    Left out are parameters that no output depends on, heads that are not in ``reference_rules.HEADS``, and unknown
    ones.

    Args:
        state_dict: the reference file's ``["state_dict"]``; a "module." before its names is ignored.

    Raises:
        ValueError: it is none of these networks, or most of its parameters are unknown.
    """
    return _convert(state_dict, NETWORKS)


def convert_imagenet(state_dict: Mapping[str, T]) -> Conversion[T]:
    """Convert ImageNet weights (torchvision's ResNets, the authors' DLA-34, OpenMMLab's Darknet-53) to our
    ``backbone``.

    They were trained on RGB images, and CenterNet feeds them BGR ones without a change; so does this. Left out are
    the classifier, what nothing depends on, and what is unknown.

    Raises:
        ValueError: as :func:`convert_reference`.
    """
    return _convert(state_dict, IMAGENET)


def to_reference(state_dict: Mapping[str, T]) -> dict[str, T]:
    """Invert :func:`convert_reference`, without the parameters that it left out.

    Raises:
        ValueError: a parameter has no counterpart there.
    """
    network = _recognize(state_dict, {network: network.to_ours(network.marker) for network in NETWORKS})
    result = {}
    for name, value in state_dict.items():
        published = network.to_reference(name)
        if published is None:
            raise ValueError(f"{network.name} has nothing like {name}")
        result[published] = value
    return result


def _convert(state_dict: Mapping[str, T], networks: tuple[Network, ...]) -> Conversion[T]:
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
    strange = [x for x, why in left_out.items() if why.startswith(UNKNOWN) and re.search(rf"\.({FIELDS['p']})$", x)]
    if len(strange) > len(converted):
        raise ValueError(f"{network.name} has nothing like {strange[0]} and {len(strange) - 1} more")
    return Conversion(network.name, converted, left_out)


def _find_reason(name: str, reasons: Reasons) -> str | None:
    return next((reason for pattern, reason in reasons if re.fullmatch(pattern, name)), None)


def _recognize(weights: Mapping[str, T], markers: Mapping[Network, str | None]) -> Network:
    for network, marker in markers.items():
        if marker in weights:
            return network
    wanted = ", ".join(str(marker) for marker in markers.values())
    raise ValueError(f"of no known network: has none of {wanted}, but {next(iter(weights), 'nothing')}")
