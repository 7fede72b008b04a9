"""Boxes and joints in pixels of the picture, ours and CenterNet's published detectors, from the same maps of the heads.

    git clone https://github.com/xingyizhou/CenterNet /tmp/CenterNet
    python tests/reference/compare_detections.py --reference /tmp/CenterNet

Both sides do all they do with a picture: pre-processing, decoding, flip test, the way back to the picture. Only the
network is replaced, by random maps. Theirs is run as it is, with stand-ins for what needs a compiler or is not used
here. It neither cuts boxes to the picture nor leaves out empty ones; that is done to its answer before comparing.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from compare_networks import import_networks
from compare_targets_decode import load
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import Tensor

import centernet_d2
from centernet_d2.checkpoint.published import HEADS
from centernet_d2.modeling.meta_arch.centernet import CenterNet
from centernet_d2.modeling.task import build_task
from centernet_d2.modeling.task.landmarks import LandmarkTask
from centernet_d2.modeling.test_time import TestTime

CONFIGS = Path(__file__).parents[2] / "configs"
TASKS = {
    "ctdet": ("COCO-Detection/centernet_DLA_34_1pt.yaml", "detectors.ctdet", "CtdetDetector"),
    "multi_pose": ("COCO-Keypoints/pose_DLA_34.yaml", "detectors.multi_pose", "MultiPoseDetector"),
}
# Channels, standard deviation and mean of the random maps. Sizes are positive: ours reads a negative one as zero.
MAPS = {
    "ctdet": {"hm": (80, 2, -2), "wh": (2, 0, 20), "reg": (2, 0.3, 0.5)},
    "multi_pose": {
        "hm": (1, 2, -2), "wh": (2, 0, 20), "reg": (2, 0.3, 0.5),
        "hps": (34, 5, 0), "hm_hp": (17, 2, -2), "hp_offset": (2, 0.3, 0.5),
    },
}  # fmt: skip
# Kept resolution or not, height and width. None is a multiple of 32: theirs would pad such a side by 32 more pixels.
PICTURES = ((False, (480, 640)), (False, (300, 200)), (True, (200, 300)), (True, (201, 301)))
# Pixels, and of scores.
TOLERANCE = 1e-3


class NoBackbone(Backbone):
    """Stands for DLA-34: stride and divisibility alone."""

    size_divisibility = 32

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        raise AssertionError("maps are given")

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {"out": ShapeSpec(channels=1, stride=4)}


def random_maps(task: str, size: tuple[int, int], generator: torch.Generator) -> dict[str, Tensor]:
    """Of one picture whose grid has ``size`` (height, width), by published names."""
    maps = {
        name: mean + std * torch.randn(1, channels, *size, generator=generator)
        for name, (channels, std, mean) in MAPS[task].items()
    }
    maps["wh"] += 20 * torch.rand(maps["wh"].shape, generator=generator)
    return maps


def our_config(task: str, keep: bool, flip: bool) -> CfgNode:
    cfg = centernet_d2.get_cfg()
    cfg.merge_from_file(str(CONFIGS / TASKS[task][0]))
    cfg.MODEL.CENTERNET.NUM_CLASSES = MAPS[task]["hm"][0]
    cfg.MODEL.CENTERNET.HEAD_CHANNELS = 1
    cfg.MODEL.CENTERNET.PIXEL_CENTER = 0.0
    cfg.INPUT.RESIZE_TEST = "keep" if keep else "fixed"
    cfg.TEST.AUG.ENABLED = cfg.TEST.AUG.FLIP = flip
    return cfg


def ours(cfg: CfgNode, picture: np.ndarray, maps: list[dict[str, Tensor]]) -> tuple[Tensor, np.ndarray]:
    """The network's input, and rows of box, score, class and joints."""
    task = build_task(cfg, [1])
    if isinstance(task, LandmarkTask):
        task.num_peaks = 100  # as theirs, which are as many as its objects
    model = CenterNet(
        backbone=NoBackbone(), neck=None, task=task, test_time=TestTime.from_config(cfg),
        pixel_mean=cfg.MODEL.PIXEL_MEAN, pixel_std=cfg.MODEL.PIXEL_STD,
    ).eval()  # fmt: skip
    inputs, left = [], iter(maps)

    def outputs(images: Tensor) -> dict[str, Tensor]:
        inputs.append(images)
        return {HEADS[name]: x for name, x in next(left).items()}

    model.outputs = outputs  # type: ignore[method-assign]
    found = model([{"image": torch.from_numpy(picture.transpose(2, 0, 1).copy())}])[0]["instances"]
    columns = [found.pred_boxes.tensor, found.scores[:, None], found.pred_classes[:, None].float()]
    if found.has("pred_keypoints"):
        columns.append(found.pred_keypoints[..., :2].flatten(1))
    return inputs[0], torch.cat(columns, dim=1).numpy()


def theirs(cfg: CfgNode, task: str, picture: np.ndarray, maps: list[dict[str, Tensor]]) -> tuple[Tensor, np.ndarray]:
    """As :func:`ours`."""
    _, module, name = TASKS[task]
    options = [task, "--load_model", "none", *["--keep_res"] * (cfg.INPUT.RESIZE_TEST == "keep")]
    options += ["--flip_test"] * cfg.TEST.AUG.ENABLED
    opt = sys.modules["opts"].opts().init(options)
    detector = object.__new__(getattr(sys.modules[module], name))
    vars(detector).update(
        opt=opt, num_classes=opt.num_classes, max_per_image=100, scales=opt.test_scales,
        mean=np.array(cfg.MODEL.PIXEL_MEAN, np.float32) / 255, std=np.array(cfg.MODEL.PIXEL_STD, np.float32) / 255,
        flip_idx=getattr(opt, "flip_idx", None),
    )  # fmt: skip
    detector.model = lambda images: [{name: torch.cat([x[name] for x in maps]) for name in maps[0]}]
    images, meta = detector.pre_process(picture, 1)
    _, decoded = detector.process(images)
    found = detector.merge_outputs([detector.post_process(decoded, meta)])
    rows = [np.asarray(rows).reshape(-1, 5 if task == "ctdet" else 39) for rows in found.values()]
    rows = [np.insert(part, 5, c, axis=1) for c, part in enumerate(rows)]
    result = np.concatenate(rows)
    height, width = picture.shape[:2]
    result[:, :4] = result[:, :4].clip(0, [width, height, width, height])
    return images, result[(result[:, 2] > result[:, 0]) & (result[:, 3] > result[:, 1])]


def differences(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[str, float]]:
    """Of rows, each with the nearest one of its class."""
    yield "rows", abs(len(a) - len(b))
    away = np.abs(a[:, None, :6] - b[None, :, :6]).max(axis=-1)
    partner = away.argmin(axis=1)
    yield "rows without a partner", len(a) - len(set(partner))
    yield "boxes", np.abs(a[:, :4] - b[partner, :4]).max()
    yield "scores", np.abs(a[:, 4] - b[partner, 4]).max()
    if a.shape[1] > 6:
        joints = np.abs(a[:, 6:] - b[partner, 6:]).reshape(len(a), -1, 2).max(axis=-1)
        yield "joints", joints.max()
        yield "share of other joints", float((joints > TOLERANCE).mean())


def import_detectors(reference: Path) -> None:
    """Their detectors, with stand-ins for a progress bar, for drawing, and for waiting for a GPU."""
    load_network = import_networks(reference)
    for network in ("msra_resnet", "dlav0", "pose_dla_dcn", "resnet_dcn", "large_hourglass"):
        load_network(network)
    for module, attribute in (("progress", ""), ("progress.bar", "Bar"), ("utils.debugger", "Debugger")):
        sys.modules[module] = types.ModuleType(module)
        setattr(sys.modules[module], attribute, object)
    torch.cuda.synchronize = lambda *_: None  # type: ignore[assignment]
    load(reference, "opts")
    for _, module, _ in TASKS.values():
        load(reference, module.replace(".", "/"))


def compare(task: str, size: tuple[int, int], keep: bool, flip: bool, seed: int) -> dict[str, float]:
    """Largest differences of one random picture of ``size`` (height, width) and random maps."""
    generator = torch.Generator().manual_seed(seed)
    picture = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    height, width = (((side | 31) + 1) // 4 if keep else 128 for side in size)
    maps = [random_maps(task, (height, width), generator) for _ in range(1 + flip)]
    cfg = our_config(task, keep, flip)
    our_input, a = ours(cfg, picture, maps)
    # Theirs changes the maps in place.
    their_input, b = theirs(cfg, task, picture, [{name: x.clone() for name, x in part.items()} for part in maps])
    levels = (our_input - their_input[:1]).abs().max().item() * max(cfg.MODEL.PIXEL_STD)
    return {"input (of 255)": levels, **dict(differences(a, b))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="a checkout of CenterNet")
    parser.add_argument("--pictures", type=int, default=3)
    args = parser.parse_args()
    import_detectors(args.reference)
    fine = True
    for task in TASKS:
        for (keep, size), flip in itertools.product(PICTURES, (False, True)):
            worst: dict[str, float] = {}
            for seed in range(args.pictures):
                with contextlib.redirect_stdout(io.StringIO()):  # theirs prints its options
                    found = compare(task, size, keep, flip, seed)
                worst |= {name: max(value, worst.get(name, 0.0)) for name, value in found.items()}
            fine &= max(worst.values()) <= TOLERANCE
            shown = ", ".join(f"{name} {value:.1e}" for name, value in worst.items())
            print(f"{task:10} {size} {'keep' if keep else 'fixed':5} {'flip' if flip else '':4}: {shown}")
    if not fine:
        sys.exit(f"some differences are larger than {TOLERANCE}")


if __name__ == "__main__":
    main()
