"""CenterNet's published detectors beside our model, both without a network: maps of the heads are given to them.

Both sides do all they do with an image: pre-processing, decoding, flip and scale test, the way back to the image.
Theirs are run as they are, with stand-ins for what is not used here; their soft-NMS is read as the Python it nearly is.
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
import sys
import types
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from compare_networks import CONFIGS, import_networks
from compare_targets_decode import load
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import Tensor

import centernet_d2
from centernet_d2.checkpoint.reference_rules import HEADS
from centernet_d2.modeling.meta_arch.centernet import CenterNet
from centernet_d2.modeling.tasks import build_task
from centernet_d2.modeling.test_time_augmentation import TestTimeAugmentation

# Their classes by task; each is in the file of the task's name.
DETECTORS = {
    "ctdet": "CtdetDetector",
    "multi_pose": "MultiPoseDetector",
    "exdet": "ExdetDetector",
    "ddd": "DddDetector",
}
# What is wrong with theirs, and can be mended: soft-NMS leaves rows behind ("stale") and adds a pixel to sides and
# overlaps, as if coordinates were those of whole pixels ("pixel"); extreme points flip the worse half of an image's
# own groups where there is no flip test ("flip").
DEFECTS = ("stale", "pixel", "flip")
Maps = dict[str, Tensor]


class Model(NamedTuple):
    """A reference model.

    Attributes:
        task, arch: their options.
        config: ours, below ``configs/``.
    """

    task: str
    arch: str
    config: str

    @property
    def divisibility(self) -> int:
        return 128 if self.arch == "hourglass" else 32


class NoBackbone(Backbone):
    """Stands for a backbone: stride and divisibility alone."""

    def __init__(self, divisibility: int) -> None:
        super().__init__()
        self.divisibility = divisibility

    @property
    def size_divisibility(self) -> int:
        return self.divisibility

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        raise AssertionError("maps are given")

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {"out": ShapeSpec(channels=1, stride=4)}


def make_our_config(model: Model, classes: int, keep: bool, flip: bool, scales: Collection[float] = (1.0,)) -> CfgNode:
    cfg = centernet_d2.get_cfg()
    cfg.merge_from_file(str(CONFIGS / f"{model.config}.yaml"))
    cfg.MODEL.CENTERNET.NUM_CLASSES = classes
    cfg.MODEL.CENTERNET.HEAD_CHANNELS = 1
    cfg.MODEL.CENTERNET.PIXEL_CENTER = 0.0
    cfg.INPUT.RESIZE_TEST = "keep" if keep else "fixed"
    cfg.INPUT.PAD_ALWAYS = True
    cfg.TEST.AUG.ENABLED, cfg.TEST.AUG.FLIP, cfg.TEST.AUG.SCALES = flip or list(scales) != [1.0], flip, list(scales)
    return cfg


def run_ours(
    model: Model, cfg: CfgNode, image: np.ndarray, maps: list[Maps], **sample: Any
) -> tuple[list[Tensor], np.ndarray]:
    """The network's inputs, and rows of box, score, class, and what else the task gives.

    Args:
        image: (h, w, 3) uint8.
        maps: of each pass by reference names: scales in order, of each the image and, in a flip test, its flip
            image.
        sample: what the model is given beside the image.
    """
    network = CenterNet(
        backbone=NoBackbone(model.divisibility), neck=None, task=build_task(cfg, [1]),
        test_time_augmentation=TestTimeAugmentation.from_config(cfg),
        pixel_mean=cfg.MODEL.PIXEL_MEAN, pixel_std=cfg.MODEL.PIXEL_STD,
        detections_per_image=cfg.TEST.DETECTIONS_PER_IMAGE,
    ).eval()  # fmt: skip
    inputs, left = [], iter(maps)

    def make_outputs(images: Tensor) -> Maps:
        inputs.append(images)
        return {HEADS[name]: x for name, x in next(left).items()}

    network.run_network = make_outputs
    predictions = network([{"image": torch.from_numpy(image.transpose(2, 0, 1).copy()), **sample}])[0]["instances"]
    columns = [predictions.pred_boxes.tensor, predictions.scores, predictions.pred_classes]
    if predictions.has("pred_keypoints"):
        columns.append(predictions.pred_keypoints[..., :2])
    names = ("pred_alpha", "pred_dimensions", "pred_locations", "pred_rotation_y")
    columns += [predictions.get(name) for name in names if predictions.has(name)]
    return inputs, torch.cat([x.reshape(len(predictions), -1).float() for x in columns], dim=1).numpy()


def run_theirs(
    model: Model, cfg: CfgNode, image: np.ndarray, maps: list[Maps], mended: Collection[str] = (), calib: Any = None
) -> tuple[list[Tensor], np.ndarray]:
    """Run the reference detector; returns the same as :func:`run_ours`.

    Boxes are cut to the image and empty ones are left out, except those of ddd. The reference does neither.

    Args:
        mended: some of ``DEFECTS``.
    """
    flip, scales = cfg.TEST.AUG.ENABLED and cfg.TEST.AUG.FLIP, _get_scales(cfg)
    detector = make_reference_detector(model, cfg, flip, scales)
    module = sys.modules[type(detector).__module__]
    for name in ("soft_nms", "soft_nms_39"):
        setattr(module, name, functools.partial(_run_soft_nms, name, "pixel" in mended, "stale" in mended))
    inputs, predictions, passes = [], [], 1 + flip
    for i, scale in enumerate(scales):
        parts = maps[passes * i : passes * (i + 1)]
        # Theirs changes maps in place: these are copies.
        detector.model = lambda images, parts=parts: [{name: torch.cat([x[name] for x in parts]) for name in parts[0]}]
        images, meta = detector.pre_process(image, scale, calib)
        _, decoded = detector.process(images)
        if model.task == "exdet" and not flip and "flip" in mended:
            decoded = torch.cat([decoded, torch.zeros_like(decoded)])  # no object in the flipped image
        inputs.append(images[:1])
        predictions.append(detector.post_process(decoded, meta, scale))
    results = detector.merge_outputs(predictions)
    rows = _convert_rows(model.task, results)
    return inputs, rows if model.task == "ddd" else clip_rows(rows, image.shape[:2])


def _get_scales(cfg: CfgNode) -> list[float]:
    return list(cfg.TEST.AUG.SCALES) if cfg.TEST.AUG.ENABLED else [1.0]


def make_reference_detector(model: Model, cfg: CfgNode, flip: bool, scales: Collection[float]) -> Any:
    """Without its network, and with as many classes as our configuration."""
    options = [model.task, "--arch", model.arch, "--load_model", "none", "--peak_thresh", "0"]
    options += ["--test_scales", ",".join(map(str, scales)), *["--flip_test"] * flip]
    options += ["--keep_res"] * (cfg.INPUT.RESIZE_TEST == "keep")
    if model.task == "exdet":
        options += ["--K", str(cfg.MODEL.EXTREME.TOPK)]
    with contextlib.redirect_stdout(io.StringIO()):  # they print themselves
        opt = sys.modules["opts"].opts().init(options)
    opt.num_classes = cfg.MODEL.CENTERNET.NUM_CLASSES
    detector = object.__new__(getattr(sys.modules[f"detectors.{model.task}"], DETECTORS[model.task]))
    vars(detector).update(
        opt=opt, num_classes=opt.num_classes, max_per_image=100, scales=opt.test_scales,
        mean=np.array(cfg.MODEL.PIXEL_MEAN, np.float32) / 255, std=np.array(cfg.MODEL.PIXEL_STD, np.float32) / 255,
        flip_idx=getattr(opt, "flip_idx", None), decode=sys.modules["models.decode"].exct_decode,
    )  # fmt: skip
    return detector


def _convert_rows(task: str, results: dict[int, Any]) -> np.ndarray:
    """Their answer as our rows."""
    width = {"multi_pose": 39, "ddd": 13}.get(task, 5)
    parts = []
    for name, predictions in results.items():
        rows = np.asarray(predictions, dtype=np.float32).reshape(-1, width)
        if task == "ddd":  # alpha, box, dimensions, location, rotation, score
            rows = rows[:, [1, 2, 3, 4, 12, 0, *range(5, 12)]]
        parts.append(np.insert(rows, 5, name - 1, axis=1))
    return np.concatenate(parts)


def clip_rows(rows: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Boxes cut to an image of ``size`` (height, width), without empty ones, as ours."""
    height, width = size
    rows = rows[rows[:, 4] > 0]
    rows[:, :4] = rows[:, :4].clip(0, [width, height, width, height])
    return rows[(rows[:, 2] > rows[:, 0]) & (rows[:, 3] > rows[:, 1])]


def _run_soft_nms(name: str, no_pixel: bool, no_stale: bool, boxes: np.ndarray, **settings: Any) -> None:
    kept = SOFT_NMS[name, no_pixel](boxes, **settings)
    if no_stale:
        boxes[len(kept) :, 4] = 0


# By their name, and whether the added pixel is left out.
SOFT_NMS: dict[tuple[str, bool], Callable[..., list[int]]] = {}


def _import_soft_nms(reference: Path) -> None:
    """Theirs is Cython: without its types it is Python."""
    source = (reference / "src" / "lib" / "external" / "nms.pyx").read_text()
    source = source[source.index("def soft_nms(") : source.index("def soft_nms_merge(")]
    source = re.sub(r"cdef [\w ]+ (\w+ = )", r"\1", source)
    source = re.sub(r"^ *cdef .*$", "", source, flags=re.MULTILINE)
    source = re.sub(r"np\.ndarray\[float, ndim=2\] |unsigned int |float (?=\w)", "", source)
    for no_pixel in (False, True):
        names: dict[str, Any] = {"np": np}
        exec(source.replace(" + 1)", ")") if no_pixel else source, names)
        SOFT_NMS.update({(name, no_pixel): names[name] for name in ("soft_nms", "soft_nms_39")})


def import_detectors(reference: Path) -> None:
    """Their detectors, with stand-ins for a progress bar, for drawing, and for waiting for a GPU."""
    load_network = import_networks(reference)
    for network in ("msra_resnet", "dlav0", "pose_dla_dcn", "resnet_dcn", "large_hourglass"):
        load_network(network)
    _import_soft_nms(reference)
    stand_ins = {"progress.bar": "Bar", "utils.debugger": "Debugger", "external.nms": "soft_nms"}
    for module, attribute in {"progress": "", "_init_paths": "", **stand_ins}.items():
        sys.modules[module] = types.ModuleType(module)
        setattr(sys.modules[module], attribute, object)
    sys.modules["external.nms"].soft_nms_39 = object  # type: ignore[attr-defined]
    torch.cuda.synchronize = lambda *_: None  # type: ignore[assignment]
    load(reference, "opts")
    for task in DETECTORS:
        load(reference, f"detectors/{task}")


def compute_grid_size(model: Model, image: tuple[int, int], keep: bool, scale: float = 1.0) -> tuple[int, int]:
    """(height, width) of the maps of a reference model; 512 x 512 pixels where the resolution is not kept."""
    pad = model.divisibility - 1
    height, width = (((int(side * scale) | pad) + 1) // 4 if keep else 128 for side in image)
    return height, width


def match_rows(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(A,) the row of ``b`` that is nearest to each of ``a`` in box, score and class."""
    return np.abs(a[:, None, :6] - b[None, :, :6]).max(axis=-1).argmin(axis=1)


def count_common(a: np.ndarray, b: np.ndarray, tolerance: float) -> int:
    """How many rows of ``a`` are, within ``tolerance``, also in ``b``."""
    return int((np.abs(a[:, None, :6] - b[None, :, :6]).max(axis=-1).min(axis=1) <= tolerance).sum())
