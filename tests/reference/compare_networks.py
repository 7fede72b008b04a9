"""Outputs of our networks and of CenterNet's published code, with the same weights.

    git clone https://github.com/xingyizhou/CenterNet /tmp/CenterNet
    python tests/reference/compare_networks.py --reference /tmp/CenterNet

Their networks need a compiled deformable convolution, which present compilers refuse. This script puts a stand-in of
the same interface in its place (:class:`StandInDCN`, on ``torchvision.ops.deform_conv2d``) before their modules are
imported; nothing of theirs is changed and no weights are downloaded. Weights come from a seed, offsets of half a cell
included, and BatchNorm statistics from random pictures, so that all maps are of the order of one.

Both sides are run in double precision too: there the difference is that of the computations, without rounding.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import types
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from detectron2.modeling import build_model
from torch import Tensor, nn

import centernet_d2
from centernet_d2.checkpoint.published import HEADS, convert_published

CONFIGS = Path(__file__).parents[2] / "configs" / "COCO-Detection"
CHANNELS = {"hm": 80, "wh": 2, "reg": 2}


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
    """Their network modules by file name."""
    library = reference / "src" / "lib"
    if not (library / "models" / "networks" / "pose_dla_dcn.py").is_file():
        sys.exit(f"{reference} is no checkout of CenterNet: it has no src/lib/models/networks/pose_dla_dcn.py")
    sys.path.insert(0, str(library))
    stand_in = types.ModuleType("models.networks.DCNv2.dcn_v2")
    stand_in.DCN = StandInDCN  # type: ignore[attr-defined]
    sys.modules[stand_in.__name__] = stand_in
    return lambda name: importlib.import_module(f"models.networks.{name}")


def reference_networks(load: Callable[[str], types.ModuleType]) -> dict[str, tuple[str, Callable[[], nn.Module]]]:
    """By our configuration: their network, built without the download of ImageNet weights, and the tolerance's key."""

    def resnet(file: str, depth: int) -> nn.Module:
        module = load(file)
        return module.PoseResNet(*module.resnet_spec[depth], dict(CHANNELS), head_conv=64)

    def dla() -> nn.Module:
        return load("pose_dla_dcn").DLASeg("dla34", dict(CHANNELS), False, 4, 1, 5, 256)

    return {
        "DLA_34": ("deformable", dla),
        "R_18_DCN": ("deformable", lambda: resnet("resnet_dcn", 18)),
        "R_101_DCN": ("deformable", lambda: resnet("resnet_dcn", 101)),
        "R_18": ("plain", lambda: resnet("msra_resnet", 18)),
        "R_50": ("plain", lambda: resnet("msra_resnet", 50)),
        "HG_104": ("plain", lambda: load("large_hourglass").get_large_hourglass_net(0, dict(CHANNELS), 0)),
    }


TOLERANCE = {"deformable": 4e-4, "plain": 3e-5}


def fill(network: nn.Module, generator: torch.Generator) -> None:
    """Weights of every parameter by a rule, then BatchNorm statistics from random pictures."""
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
        network.train()(pictures(4, 256, generator))
    network.eval()


def pictures(count: int, size: int, generator: torch.Generator) -> Tensor:
    """(count, 3, size, size): soft blobs and a little noise, of mean 0 and about unit variance."""
    blobs = torch.randn(count, 3, size // 16, size // 16, generator=generator)
    blobs = nn.functional.interpolate(blobs, scale_factor=16, mode="bicubic")
    return blobs + 0.2 * torch.randn(count, 3, size, size, generator=generator)


def our_network(config: str, weights: dict[str, Tensor]) -> nn.Module:
    cfg = centernet_d2.get_cfg()
    cfg.merge_from_file(str(CONFIGS / f"centernet_{config}_1pt.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.CENTERNET.NUM_CLASSES = CHANNELS["hm"]
    model = build_model(cfg).eval()
    _, converted, dropped = convert_published(weights)
    model.load_state_dict(converted, strict=True)
    print(f"{config}: {len(converted)} tensors converted, {len(dropped)} left out")
    return model


@torch.no_grad()
def our_outputs(model: nn.Module, x: Tensor) -> list[dict[str, Tensor]]:
    """One dict per stack, by their names."""
    features = model.features(x)
    maps = {theirs: model.task.branches[ours](features) for theirs, ours in HEADS.items() if theirs in CHANNELS}
    return [{name: outputs[i] for name, outputs in maps.items()} for i in range(len(features))]


def compare(config: str, kind: str, build: Callable[[], nn.Module], sizes: list[int], seed: int) -> bool:
    generator = torch.Generator().manual_seed(seed)
    theirs = build()
    fill(theirs, generator)
    ours = our_network(config, theirs.state_dict())
    fine = True
    for size in sizes:
        x = pictures(1, size, generator)
        with torch.no_grad():
            single = theirs.float()(x), our_outputs(ours.float(), x)
            double = theirs.double()(x.double()), our_outputs(ours.double(), x.double())
        for stack, (a, b, c, d) in enumerate(zip(*single, *double, strict=True)):
            for name in CHANNELS:
                difference, rounding, exact = (
                    (x[name] - y[name]).abs().max().item() for x, y in ((a, b), (a, c), (c, d))
                )
                fine &= difference <= TOLERANCE[kind] and a[name].shape == b[name].shape
                print(
                    f"{config:10} {size:4} {stack:5} {name:4} {d[name].std():8.3f} {d[name].abs().max():8.2f} "
                    f"{difference:12.1e} {rounding:12.1e} {exact:12.1e}"
                )
    return fine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="a checkout of CenterNet")
    parser.add_argument("--networks", nargs="+", default=["DLA_34", "R_18_DCN", "HG_104"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[128, 512], help="input pixels, multiples of 128")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    networks = reference_networks(import_networks(args.reference))
    # The difference of each side in float32, of theirs from itself in float64 (rounding), and of the sides in float64.
    print("network    size stack map       std      max   difference  float32 err    in float64")
    results = [compare(name, *networks[name], args.sizes, args.seed) for name in args.networks]
    if not all(results):
        sys.exit(f"some differences are larger than {TOLERANCE}")


if __name__ == "__main__":
    main()
