"""Every configuration key is read by code; weights, norms, Gaussians and the names of networks do what they say."""

from __future__ import annotations

import ast
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import build_backbone, build_model
from detectron2.structures import Boxes, Instances, Keypoints
from torch import nn
from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss

import centernet_d2
from centernet_d2.config import add_centernet_config
from centernet_d2.data.schemas import SCHEMAS
from centernet_d2.modeling.neck import build_neck
from centernet_d2.structures import Targets
from tests.helpers.boxes3d import box3d_cfg, dataset_dict_of, map_training_sample
from tests.helpers.keypoints import keypoint_cfg, objects, sample
from tests.helpers.tiny import tiny_cfg, training_input
from tests.modeling.meta_arch.test_centertrack import tracking_cfg, tracking_input

PACKAGE = Path(centernet_d2.__file__).parent
CONFIGS = Path(__file__).parents[2] / "configs"


def list_keys(node: CfgNode, prefix: str = "") -> set[str]:
    """Dotted names of all leaves."""
    keys: set[str] = set()
    for name, value in node.items():
        keys |= list_keys(value, f"{prefix}{name}.") if isinstance(value, CfgNode) else {prefix + name}
    return keys


def own_keys() -> set[str]:
    cfg = get_detectron2_cfg()
    others = list_keys(cfg)
    add_centernet_config(cfg)
    return list_keys(cfg) - others


def split_chain(node: ast.expr) -> list[str]:
    """``cfg.MODEL.DLA`` as its parts; the first is "" where it is no plain name."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id if isinstance(node, ast.Name) else "", *parts[::-1]]


def find_aliases(tree: ast.AST) -> dict[str, set[tuple[str, ...]]]:
    """Local names of parts of the config, such as ``settings = cfg.MODEL.DLA``."""
    pairs: list[tuple[ast.expr, ast.expr]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                both = isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
                pairs += zip(target.elts, node.value.elts, strict=False) if both else [(target, node.value)]
        elif isinstance(node, ast.NamedExpr):
            pairs.append((node.target, node.value))
    aliases: dict[str, set[tuple[str, ...]]] = {}
    for target, value in pairs:
        if isinstance(target, ast.Name) and isinstance(value, ast.Attribute):
            aliases.setdefault(target.id, set()).add(tuple(split_chain(value)[1:]))
    return aliases


def find_read_keys(text: str) -> set[str]:
    """Dotted names in capitals that the code reads, with the aliases of the file resolved."""
    tree = ast.parse(text)
    aliases, keys = find_aliases(tree), set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or isinstance(node.ctx, ast.Store):
            continue
        first, *rest = split_chain(node)
        for prefix in aliases.get(first, {()}) | {()}:
            parts = [*prefix, *rest]
            start = next((i for i, part in enumerate(parts) if part.isupper()), len(parts))
            keys.add(".".join(parts[start:]))
    return keys


def test_the_search_resolves_aliases_and_leaves_out_what_is_written():
    code = "a, b = cfg.MODEL.DLA, cfg.INPUT\na.NORM\nb.BLUR.PROB\ncfg.MODEL.NECK.NORM = self.cfg.TEST.NMS\nc.NORM"
    assert {"MODEL.DLA.NORM", "INPUT.BLUR.PROB", "TEST.NMS", "NORM"} <= find_read_keys(code)
    assert "MODEL.NECK.NORM" not in find_read_keys(code)


def test_every_key_is_read():
    files = [path for path in PACKAGE.rglob("*.py") if path.parent.name != "defaults" and path.name != "renamed.py"]
    read = set().union(*(find_read_keys(path.read_text()) for path in files))
    keys = own_keys()
    assert len(keys) > 100 and sorted(keys - read) == []


def detection_input():
    return training_input([[4, 8, 40, 50]], [1])


def face_input():
    return sample(objects(SCHEMAS["face19"], [[20, 10, 110, 120]], [0]))


def rotated_input():
    sample = detection_input()
    corners = torch.tensor([[[4.0, 20, 2], [20, 8, 2], [40, 40, 2], [24, 52, 2]]])
    sample["instances"].gt_corners = Keypoints(corners)
    return sample


def box3d_input():
    image = torch.zeros(3, 128, 416, dtype=torch.uint8)
    return {"image": image, "instances": map_training_sample(dataset_dict_of())}


def pose_input():
    return sample(objects(SCHEMAS["pose17"], [[20, 10, 110, 120]], [0]))


def lsnet_cfg(*opts) -> CfgNode:
    cfg = centernet_d2.get_cfg()
    cfg.merge_from_file(str(CONFIGS / "Synthetic-LSNet" / "lsnet_pose.yaml"))
    names = ("DATASETS.TRAIN", (), "DATASETS.TEST", (), "MODEL.DEVICE", "cpu", "MODEL.LSNET.POSE_BOX", "object")
    cfg.merge_from_list(
        [*names, "MODEL.CENTERNET.NUM_CLASSES", 1, "MODEL.KEYPOINT.SCHEMA", "pose17", "MODEL.NECK.NUM_LEVELS", 4, *opts]
    )
    return cfg


FACES = ("face19", "KeypointRegressionTask"), ("face19", "KeypointHeatmapTask")
ROTATED = ("MODEL.CENTERNET.TASK", "RotatedBoxTask")
#: Key -> the losses that it scales, a config where that is, and an input.
WEIGHTS = {
    "MODEL.CENTERNET.HEATMAP_WEIGHT": (["heatmap"], tiny_cfg, (), detection_input),
    "MODEL.CENTERNET.BOX_SIZE_WEIGHT": (["box_size"], tiny_cfg, (), detection_input),
    "MODEL.CENTERNET.OFFSET_WEIGHT": (["offset"], tiny_cfg, (), detection_input),
    "MODEL.KEYPOINT.REGRESSION_WEIGHT": (["keypoint_regression"], keypoint_cfg, FACES[0], face_input),
    "MODEL.KEYPOINT.HEATMAP_WEIGHT": (["keypoint_heatmap"], keypoint_cfg, FACES[0], face_input),
    "MODEL.KEYPOINT.OFFSET_WEIGHT": (["keypoint_offset"], keypoint_cfg, FACES[0], face_input),
    "MODEL.KEYPOINT.GROUPING_WEIGHT": (["keypoint_grouping"], keypoint_cfg, FACES[1], face_input),
    "MODEL.BOX3D.DEPTH_WEIGHT": (["depth"], box3d_cfg, (), box3d_input),
    "MODEL.BOX3D.DIMENSIONS_WEIGHT": (["dimensions"], box3d_cfg, (), box3d_input),
    "MODEL.BOX3D.ORIENTATION_WEIGHT": (["orientation"], box3d_cfg, (), box3d_input),
    "MODEL.BOX3D.CENTER_OFFSET_WEIGHT": (["center_offset"], box3d_cfg, (), box3d_input),
    "MODEL.ROTATED_BOX.ANGLE_WEIGHT": (["angle"], tiny_cfg, ROTATED, rotated_input),
    "MODEL.TRACKING.DISPLACEMENT_WEIGHT": (
        *(["displacement"], tracking_cfg, ("MODEL.CENTERNET.EXTRA_HEADS", ["DisplacementHead"])),
        lambda: tracking_input([[4, 8, 40, 50]], [1]),
    ),
    "MODEL.LSNET.CLASS_WEIGHT": (["class"], lsnet_cfg, (), pose_input),
    "MODEL.LSNET.INIT_WEIGHT": (["pose_init", "box_init"], lsnet_cfg, (), pose_input),
    "MODEL.LSNET.REFINE_WEIGHT": (["pose", "box"], lsnet_cfg, (), pose_input),
    "MODEL.LSNET.POSE_BOX_WEIGHT": (["box_init", "box"], lsnet_cfg, (), pose_input),
}


def losses_of(cfg: CfgNode, given: dict) -> dict[str, float]:
    torch.manual_seed(0)
    return {name: value.item() for name, value in build_model(cfg).train()([given]).items()}


@pytest.mark.parametrize("key", WEIGHTS)
def test_a_weight_scales_its_losses_and_no_others(key):
    names, build, arguments, make_input = WEIGHTS[key]
    first, second = (losses_of(build(*arguments, key, weight), make_input()) for weight in (1.0, 2.5))
    scaled = {f"loss_{name}": 2.5 * first[f"loss_{name}"] for name in names}
    assert min(scaled.values()) > 1e-3
    assert second == pytest.approx({**first, **scaled}, rel=1e-5)


def test_every_weight_is_tested():
    assert {key for key in own_keys() if key.endswith("_WEIGHT")} == set(WEIGHTS)


LAYERS = {"BN": nn.BatchNorm2d, "GN": nn.GroupNorm, "FrozenBN": FrozenBatchNorm2d, "SyncBN": nn.SyncBatchNorm}
BACKBONES = {
    "DARKNET": ("build_darknet_backbone", ("BN", "FrozenBN")),
    "DLA": ("build_dla_backbone", ("BN", "FrozenBN")),
    "HOURGLASS": ("build_hourglass_backbone", ("BN", "FrozenBN")),
    "TORCHVISION": ("build_torchvision_backbone", ("", "FrozenBN", "SyncBN")),
}


def norms_in(module: nn.Module) -> set[type]:
    return {type(layer) for layer in module.modules()} & set(LAYERS.values())


@pytest.mark.parametrize(("node", "norm"), [(node, norm) for node, (_, norms) in BACKBONES.items() for norm in norms])
def test_the_norm_of_backbones(node, norm):
    cfg = tiny_cfg("MODEL.BACKBONE.NAME", BACKBONES[node][0], f"MODEL.{node}.NORM", norm)
    cfg.MODEL.HOURGLASS.NUM_STACKS, cfg.MODEL.HOURGLASS.CHANNELS, cfg.MODEL.HOURGLASS.BLOCKS = 1, [32, 32], [1, 1]
    assert norms_in(build_backbone(cfg)) == {LAYERS[norm or "BN"]}


@pytest.mark.parametrize("norm", ["BN", "GN", "FrozenBN"])
@pytest.mark.parametrize("name", ["DeconvNeck", "FPNNeck", "IDANeck", "SEBNeck", "BiFPNNeck", "DLAUpNeck"])
def test_the_norm_of_necks(name, norm):
    shapes = {f"stride{4 << i}": ShapeSpec(channels=64, stride=4 << i) for i in range(4)}
    cfg = tiny_cfg("MODEL.NECK.NAME", name, "MODEL.NECK.NORM", norm, "MODEL.NECK.CHANNELS", [64, 64, 64])
    assert norms_in(build_neck(cfg, shapes)) == {LAYERS[norm]}


@pytest.mark.parametrize("pretrained", [False, True])
def test_the_network_of_timm(monkeypatch, pretrained):
    """Which one timm is requested for, and whether with weights; it is optional, so something stands in for it."""
    requested = []

    def create_model(name, **arguments):
        requested.append((name, arguments.get("pretrained", False)))
        info = SimpleNamespace(reduction=lambda: [2, 4, 8, 16, 32], channels=lambda: [8, 16, 32, 64])
        model = nn.Identity()
        model.feature_info = info
        return model

    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model))
    opts = ("MODEL.TIMM.NAME", "some_network", "MODEL.TIMM.PRETRAINED", pretrained)
    build_backbone(tiny_cfg("MODEL.BACKBONE.NAME", "build_timm_backbone", *opts))
    assert {name for name, _ in requested} == {"some_network"} and requested[-1] == ("some_network", pretrained)


def windows(*opts) -> dict[tuple[int, int], float]:
    """Values of the heatmap by their distance x, y from the peak, of an object 40 x 20 cells large."""
    model = build_model(tiny_cfg(*(part for opt in opts for part in opt)))
    instances = Instances((256, 256), gt_boxes=Boxes([[42.0, 62, 202, 142]]), gt_classes=torch.tensor([0]))
    maps = model.task.heads["heatmap"].encode(Targets.from_instances([instances], 4, (64, 64))).to_dense()
    peak_y, peak_x = divmod(int(maps[0, 0].argmax()), 64)
    return {
        (x - peak_x, y - peak_y): maps[0, 0, y, x].item()
        for y, x in maps[0, 0].nonzero().tolist()
    }  # fmt: skip


def shrunk_radius(width: float, height: float, overlap: float) -> int:
    """Largest r for which a box smaller by r on all sides keeps the IoU, by trying: the worst of the three cases."""
    steps = [k / 1000 for k in range(int(500 * min(width, height)))]
    return int(max(r for r in steps if (width - 2 * r) * (height - 2 * r) >= overlap * width * height))


RADIUS, NODE = "MODEL.CENTERNET.GAUSSIAN_RADIUS", "MODEL.CENTERNET.GAUSSIAN_"


@pytest.mark.parametrize(
    ("opts", "radii"),
    [
        ([(RADIUS, "fixed"), (f"{NODE}FIXED_RADIUS", 1)], (1, 1)),
        ([(RADIUS, "fixed"), (f"{NODE}FIXED_RADIUS", 4)], (4, 4)),
        # Half of the fraction of each side, in whole cells.
        ([(RADIUS, "ellipse"), (f"{NODE}ALPHA", 0.54)], (10, 5)),
        ([(RADIUS, "ellipse"), (f"{NODE}ALPHA", 0.25)], (5, 2)),
        ([(RADIUS, "corrected"), (f"{NODE}MIN_OVERLAP", 0.7)], (shrunk_radius(40, 20, 0.7),) * 2),
        ([(RADIUS, "corrected"), (f"{NODE}MIN_OVERLAP", 0.3)], (shrunk_radius(40, 20, 0.3),) * 2),
        (
            [(RADIUS, "corrected"), (f"{NODE}MIN_OVERLAP", 0.3), (f"{NODE}ELLIPTICAL", True)],
            (shrunk_radius(40, 40, 0.3), shrunk_radius(20, 20, 0.3)),
        ),
    ],
)
def test_gaussians_have_the_window_that_the_keys_say(opts, radii):
    """A window of +-r cells, and sigma (2 r + 1) / 6 in each direction (CornerNet, section 3.2)."""
    inside = [(x, y) for x in range(-radii[0], radii[0] + 1) for y in range(-radii[1], radii[1] + 1)]
    sigma = [(2 * r + 1) / 6 for r in radii]
    expected = {(x, y): math.exp(-((x / sigma[0]) ** 2 + (y / sigma[1]) ** 2) / 2) for x, y in inside}
    assert windows(*opts) == pytest.approx(expected, abs=1e-6)


KINDS = {
    "l1": lambda a, b: (a - b).abs().mean(dim=1),
    # 16 x 16 cells, all inside.
    "iou": lambda a, b: torch.tensor([1 - 16 * 16 / (48 * 24)]),
    "giou": generalized_box_iou_loss,
    "diou": distance_box_iou_loss,
    "ciou": complete_box_iou_loss,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_of_boxes(kind):
    """A head that says 2 units of 4 cells on every side, at the center (24.5, 24.5) of a box of 48 x 24 cells."""
    opts = ("MODEL.CENTERNET.BOX_HEAD", "BoxHead", "MODEL.CENTERNET.BOX_ENCODING", "ltrb")
    model = build_model(tiny_cfg(*opts, "MODEL.CENTERNET.BOX_LOSS", kind, "MODEL.CENTERNET.BOX_SIZE_WEIGHT", 1.0))
    last = model.task.heads["box_size"].layers[0][-1]
    nn.init.zeros_(last.weight), nn.init.constant_(last.bias, 2.0)
    gt = torch.tensor([[0.5, 12.5, 48.5, 36.5]])
    given = training_input(4 * gt, [0], size=(256, 256))
    predicted = torch.tensor([[16.5, 16.5, 32.5, 32.5]])
    expected = KINDS[kind](predicted, gt).item()
    assert model.train()([given])["loss_box_size"].item() == pytest.approx(expected, rel=1e-5)
