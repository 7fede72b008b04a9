"""Outputs of our networks and of the reference code of CenterNet and ExtremeNet, with the same weights.

    git clone https://github.com/xingyizhou/CenterNet /tmp/CenterNet
    git clone https://github.com/xingyizhou/ExtremeNet /tmp/ExtremeNet
    python tools/reference/compare_networks.py --reference /tmp/CenterNet
    python tools/reference/compare_networks.py --extremenet /tmp/ExtremeNet

Their networks need a compiled deformable convolution, which present compilers refuse. This script puts a stand-in of
the same interface in its place (:class:`StandInDCN`, on ``torchvision.ops.deform_conv2d``) before their modules are
imported; nothing of theirs is changed and no weights are downloaded. Weights come from a seed, offsets of half a cell
included, and BatchNorm statistics from random images, so that all maps are of the order of one.

Both sides are run in double precision too: there the difference is that of the computations, without rounding.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torchvision
from detectron2.modeling import build_model
from torch import Tensor, nn

import centernet_d2
from centernet_d2.checkpoint.reference_names import convert_reference
from centernet_d2.checkpoint.reference_rules import HEADS

CONFIGS = Path(__file__).parents[2] / "configs"
SIDES = "tlbr"
# Channels of the published tasks' heads.
CTDET = {"hm": 80, "wh": 2, "reg": 2}
MULTI_POSE = {"hm": 1, "wh": 2, "hps": 34, "reg": 2, "hm_hp": 17, "hp_offset": 2}
DDD = {"hm": 3, "dep": 1, "rot": 8, "dim": 3, "wh": 2, "reg": 2}
EXDET = {f"hm_{side}": 80 for side in SIDES + "c"} | {f"reg_{side}": 2 for side in SIDES}
TOLERANCE = {"deformable": 4e-4, "plain": 3e-5}


class StandInDCN(nn.Module):
    """The interface of the published ``DCN``: the same parameters, for one group of offsets."""

    def __init__(self, in_channels, out_channels, kernel_size, stride, padding, dilation=1, deformable_groups=1):
        super().__init__()
        assert deformable_groups == 1 and stride == 1 and dilation == 1
        height, width = kernel_size if isinstance(kernel_size, tuple) else (kernel_size, kernel_size)
        self.padding = padding
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, height, width))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.conv_offset_mask = nn.Conv2d(in_channels, 3 * height * width, (height, width), padding=padding)

    def forward(self, x):
        first, second, mask = self.conv_offset_mask(x).chunk(3, dim=1)
        offset = torch.cat([first, second], dim=1)
        return torchvision.ops.deform_conv2d(
            x, offset, self.weight, self.bias, padding=self.padding, mask=torch.sigmoid(mask)
        )


def import_networks(reference: Path) -> Callable[[str], types.ModuleType]:
    """CenterNet's network modules by file name."""
    library = reference / "src" / "lib"
    if not (library / "models" / "networks" / "pose_dla_dcn.py").is_file():
        sys.exit(f"{reference} is no checkout of CenterNet: it has no src/lib/models/networks/pose_dla_dcn.py")
    sys.path.insert(0, str(library))
    stand_in = types.ModuleType("models.networks.DCNv2.dcn_v2")
    stand_in.DCN = StandInDCN  # type: ignore[attr-defined]
    sys.modules[stand_in.__name__] = stand_in
    return lambda name: importlib.import_module(f"models.networks.{name}")


class Reference(NamedTuple):
    """A reference network.

    Attributes:
        config: ours, below ``configs/``.
        kind: key of ``TOLERANCE``.
        heads: channels by published name.
        build: their network, without the download of ImageNet weights.
    """

    config: str
    kind: str
    heads: dict[str, int]
    build: Callable[[], nn.Module]


def list_centernet_networks(reference: Path) -> dict[str, Reference]:
    load = import_networks(reference)

    def make_dla(config: str, heads: dict[str, int]) -> Reference:
        network = lambda: load("pose_dla_dcn").DLASeg("dla34", dict(heads), False, 4, 1, 5, 256)  # noqa: E731
        return Reference(config, "deformable", heads, network)

    def make_hourglass(config: str, heads: dict[str, int]) -> Reference:
        network = lambda: load("large_hourglass").get_large_hourglass_net(0, dict(heads), 0)  # noqa: E731
        return Reference(config, "plain", heads, network)

    def make_resnet(config: str, kind: str, file: str, depth: int) -> Reference:
        def build_network() -> nn.Module:
            module = load(file)
            return module.PoseResNet(*module.resnet_spec[depth], dict(CTDET), head_conv=64)

        return Reference(config, kind, CTDET, build_network)

    return {
        "ctdet_DLA_34": make_dla("COCO-Detection/centernet_DLA_34_1pt", CTDET),
        "ctdet_R_18_DCN": make_resnet("COCO-Detection/centernet_R_18_DCN_1pt", "deformable", "resnet_dcn", 18),
        "ctdet_R_101_DCN": make_resnet("COCO-Detection/centernet_R_101_DCN_1pt", "deformable", "resnet_dcn", 101),
        "ctdet_R_18": make_resnet("COCO-Detection/centernet_R_18_1pt", "plain", "msra_resnet", 18),
        "ctdet_R_50": make_resnet("COCO-Detection/centernet_R_50_1pt", "plain", "msra_resnet", 50),
        "ctdet_HG_104": make_hourglass("COCO-Detection/centernet_HG_104_1pt", CTDET),
        "multi_pose_DLA_34": make_dla("COCO-Keypoints/pose_DLA_34", MULTI_POSE),
        "multi_pose_HG_104": make_hourglass("COCO-Keypoints/pose_HG_104", MULTI_POSE),
        "ddd_DLA_34": make_dla("KITTI-3D/boxes3d_DLA_34_3dop", DDD),
        "exdet_DLA_34": make_dla("COCO-Extreme/extreme_DLA_34", EXDET),
        "exdet_HG_104": make_hourglass("COCO-Extreme/extreme_HG_104", EXDET),
    }


def list_extremenet_networks(reference: Path) -> dict[str, Reference]:
    """ExtremeNet's own network, with the maps of its last stack in place of what is decoded from them."""
    if not (reference / "models" / "ExtremeNet.py").is_file():
        sys.exit(f"{reference} is no checkout of ExtremeNet: it has no models/ExtremeNet.py")
    sys.path.insert(0, str(reference))

    def build_network() -> nn.Module:
        result = importlib.import_module("models.ExtremeNet").model(None)
        names = [*(f"hm_{side}" for side in SIDES + "c"), *(f"reg_{side}" for side in SIDES)]
        result._decode = lambda *maps: [dict(zip(names, maps, strict=True))]
        result._test = lambda images: type(result)._test(result, images, debug=False)
        return result

    return {"ExtremeNet": Reference("COCO-Extreme/extreme_HG_104", "plain", EXDET, build_network)}


def fill(network: nn.Module, generator: torch.Generator) -> None:
    """Weights of every parameter by a rule, then BatchNorm statistics from random images."""
    for name, p in network.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if "offset_mask" in name:
            # Offsets of half a cell that differ from place to place by a third of one.
            p.data = noise * (0.5 if p.dim() == 1 else (0.1 / p[0].numel()) ** 0.5)
        elif p.dim() == 1:
            p.data = 0.1 * noise + (1 if name.endswith("weight") else 0)
        else:
            p.data = noise * (1 / p[0].numel()) ** 0.5
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        network.train()(sample_images(4, 256, generator))
    network.eval()


def sample_images(count: int, size: int, generator: torch.Generator) -> Tensor:
    """(count, 3, size, size): soft blobs and a little noise, of mean 0 and about unit variance."""
    blobs = torch.randn(count, 3, size // 16, size // 16, generator=generator)
    blobs = nn.functional.interpolate(blobs, scale_factor=16, mode="bicubic")
    return blobs + 0.2 * torch.randn(count, 3, size, size, generator=generator)


def build_our_network(published: Reference, weights: dict[str, Tensor]) -> tuple[nn.Module, str]:
    """Ours with converted weights, and what became of them."""
    cfg = centernet_d2.get_cfg()
    cfg.merge_from_file(str(CONFIGS / f"{published.config}.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.CENTERNET.NUM_CLASSES = next(iter(published.heads.values()))
    model = build_model(cfg).eval()
    conversion = convert_reference(weights)
    model.load_state_dict(conversion.weights, strict=True)
    return model, f"{len(conversion.weights)} tensors converted, {len(conversion.left_out)} left out"


@torch.no_grad()
def run_our_network(model: nn.Module, x: Tensor, names: list[str]) -> list[dict[str, Tensor]]:
    """One dict per stack, by their names."""
    features = model.extract_features(x)
    maps = {name: model.task.heads[HEADS[name]](features) for name in names}
    return [{name: outputs[i] for name, outputs in maps.items()} for i in range(len(features))]


def compare(name: str, published: Reference, sizes: list[int], seed: int) -> bool:
    generator = torch.Generator().manual_seed(seed)
    theirs = published.build()
    fill(theirs, generator)
    ours, converted = build_our_network(published, theirs.state_dict())
    heads = list(published.heads)
    print(f"{name}: {converted}")
    fine = True
    for size in sizes:
        x = sample_images(1, size, generator)
        with torch.no_grad():
            single = theirs.float()(x), run_our_network(ours.float(), x, heads)
            double = theirs.double()(x.double()), run_our_network(ours.double(), x.double(), heads)
        # ExtremeNet's code gives the last stack alone.
        stacks = zip(*(maps[-len(single[0]) :] for maps in (*single, *double)), strict=True)
        for stack, (a, b, c, d) in enumerate(stacks):
            for head in heads:
                difference, rounding, exact = (
                    (x[head] - y[head]).abs().max().item() for x, y in ((a, b), (a, c), (c, d))
                )
                fine &= difference <= TOLERANCE[published.kind] and a[head].shape == b[head].shape
                print(
                    f"{name:18} {size:4} {stack:5} {head:9} {d[head].std():8.3f} {d[head].abs().max():8.2f} "
                    f"{difference:12.1e} {rounding:12.1e} {exact:12.1e}",
                    flush=True,
                )
    return fine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--reference", type=Path, help="a checkout of CenterNet")
    where.add_argument("--extremenet", type=Path, help="a checkout of ExtremeNet: compare its network instead")
    parser.add_argument("--networks", nargs="+", help="only these, such as ctdet_DLA_34")
    parser.add_argument("--sizes", nargs="+", type=int, default=[128, 256], help="input pixels, multiples of 128")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    networks = list_centernet_networks(args.reference) if args.reference else list_extremenet_networks(args.extremenet)
    # The difference of each side in float32, of theirs from itself in float64 (rounding), and of the sides in float64.
    print("network            size stack map            std      max   difference  float32 err    in float64")
    results = [compare(name, networks[name], args.sizes, args.seed) for name in args.networks or networks]
    if not all(results):
        sys.exit(f"some differences are larger than {TOLERANCE}")


if __name__ == "__main__":
    main()
