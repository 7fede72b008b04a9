"""Every task's model as a file: the same candidates and, through the predictor that knows NumPy and ONNX Runtime alone,
the same objects."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import RotatedBoxes

from centernet_d2.data.synthetic.shapes import ShapesConfig, draw
from centernet_d2.export import ExportedGraph, check_file, compute_differences, export_onnx, export_torchscript
from centernet_d2.structures import Candidates
from tests.helpers.boxes3d import box3d_cfg
from tests.helpers.keypoints import keypoint_cfg
from tests.helpers.marking import mark_slow
from tests.helpers.tiny import tiny_cfg

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
from centernet_d2.runtime import onnx_model as onnx_predictor

SIZE = ("INPUT.SIZE_TEST", [96, 64])
ALL_POINTS = ("MODEL.CENTERNET.GRID_POINTS", list(range(9)))
ONE_FACE = ("MODEL.KEYPOINT.SINGLE_INSTANCE", True, "MODEL.KEYPOINT.BOX_SIZE", False)
# Few peaks: the steps of grouping are as many.
EXTREME = ("MODEL.CENTERNET.NUM_CLASSES", 1, "MODEL.EXTREME.TOPK", 8)
EXTREME += ("MODEL.EXTREME.POINT_THRESH", 1e-3, "MODEL.EXTREME.CENTER_THRESH", 1e-3)
TRACKING = ("MODEL.META_ARCHITECTURE", "CenterTrack")
TRACKING += ("MODEL.BACKBONE.NAME", "build_hourglass_backbone", "MODEL.HOURGLASS.NUM_STACKS", 1)
TRACKING += ("MODEL.HOURGLASS.CHANNELS", [8, 8], "MODEL.HOURGLASS.BLOCKS", [1, 1])
# As resolved from the categories of a COCO file: a cat of three keypoints, a hammer of two.
OWN_SCHEMA = json.dumps(
    {"names": ["left_ear", "right_ear", "cat.tail", "head", "hammer.tail"], "classes": ["cat", "hammer"]}
    | {"ranges": [[0, 3], [3, 5]], "flip_pairs": [[0, 1]], "edges": [[0, 1], [1, 2], [3, 4]], "can_flip": False}
)
CONFIGS = {
    "boxes of one point": lambda: tiny_cfg(*SIZE),
    "boxes of three points": lambda: tiny_cfg("MODEL.CENTERNET.GRID_POINTS", [0, 4, 8], *SIZE),
    "boxes, suppressed": lambda: tiny_cfg(*SIZE, "TEST.NMS", 0.3),
    "one point, soft-NMS": lambda: tiny_cfg(*SIZE, "MODEL.CENTERNET.MERGE", "soft_nms"),
    "boxes of nine points, suppressed": lambda: tiny_cfg(*ALL_POINTS, "TEST.NMS", 0.3, *SIZE),
    "boxes of nine points": lambda: tiny_cfg(*ALL_POINTS, "MODEL.CENTERNET.MERGE", "soft_nms", *SIZE),
    "boxes, resampled": lambda: tiny_cfg(*ALL_POINTS, "MODEL.CENTERNET.MERGE", "resample", *SIZE),
    "poses": lambda: keypoint_cfg("pose17", "KeypointRegressionTask", *SIZE),
    "faces, regressed": lambda: keypoint_cfg(
        "face68", "KeypointRegressionTask", "MODEL.KEYPOINT.CENTER", "nose", "MODEL.KEYPOINT.BOX_SIZE", False, *SIZE
    ),
    "faces, heatmaps": lambda: keypoint_cfg("face68", "KeypointHeatmapTask", *SIZE),
    "a face": lambda: keypoint_cfg("face19", "KeypointHeatmapTask", *ONE_FACE, "MODEL.KEYPOINT.OFFSET", "dark", *SIZE),
    "faces, calibrated": lambda: keypoint_cfg(
        "face19", "KeypointRegressionTask", "MODEL.KEYPOINT.CALIBRATION", (0.3, -0.5, 0.8, 0.2), *SIZE
    ),
    "rotated boxes": lambda: tiny_cfg("MODEL.CENTERNET.TASK", "RotatedBoxTask", *SIZE),
    "own keypoints, regressed": lambda: keypoint_cfg(f"own:{OWN_SCHEMA}", "KeypointRegressionTask", *SIZE),
    "own keypoints, heatmaps": lambda: keypoint_cfg(f"own:{OWN_SCHEMA}", "KeypointHeatmapTask", *SIZE),
    "clothes": lambda: keypoint_cfg("clothes294", "KeypointRegressionTask", *SIZE),
    "extreme points": lambda: keypoint_cfg("extreme4", "ExtremePointTask", *EXTREME, *SIZE),
    "3D boxes": lambda: box3d_cfg("INPUT.SIZE_TEST", [64, 128]),
    "tracking": lambda: tiny_cfg(*TRACKING, *SIZE),
}


def untrained(cfg):
    """A model that finds a lot, of some size."""
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    with torch.no_grad():
        for parameter in model.task.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
        for name, head in model.task.heads.items():
            head.layers[-1][2].bias.add_(5.0 if name == "box_size" else 2.0 if "heatmap" in name else 0.0)
    return model


# Of many nodes, which take half a minute.
SLOW = ("extreme points",)


@pytest.fixture(scope="module", params=mark_slow(CONFIGS, lambda name: name in SLOW))
def exported(request, tmp_path_factory):
    cfg = CONFIGS[request.param]()
    model, path = untrained(cfg), tmp_path_factory.mktemp("exported") / "model.onnx"
    return cfg, model, path, export_onnx(cfg, model, path)


def random_image(height=75, width=110):
    return draw(ShapesConfig(height, width, min_size=10, max_size=50), 0, 1)


def test_candidates_are_the_models(exported):
    *_, path, graph = exported
    predictions = check_file(graph, path)
    assert {"boxes", "scores", "classes"} <= predictions.keys()
    assert max(predictions.values()) < 1e-5


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_torchscript_finds_the_same(exported, tmp_path):
    cfg, model, *_ = exported
    graph = export_torchscript(cfg, model, tmp_path / "model.pt", batch_size=2)
    assert max(check_file(graph, tmp_path / "model.pt", batch_size=2).values()) < 1e-5
    extra = {"centernet_d2.json": ""}
    torch.jit.load(str(tmp_path / "model.pt"), _extra_files=extra)
    assert json.loads(extra["centernet_d2.json"])["task"] == type(model.task).__name__


def test_the_predictor_finds_the_models_objects(exported):
    cfg, model, path, _ = exported
    if cfg.MODEL.META_ARCHITECTURE == "CenterTrack":
        with pytest.raises(ValueError, match="previous_image"):
            onnx_predictor.OnnxPredictor(path)
        return
    if cfg.MODEL.CENTERNET.MERGE == "resample":
        pytest.skip("boxes that the points agree on equally are many: which comes first is a matter of rounding")
    # Without black borders, where all is equally probable.
    image = random_image(*(side * 5 // 4 for side in cfg.INPUT.SIZE_TEST))
    predictions = onnx_predictor.OnnxPredictor(path)(image)
    expected = model([{"image": torch.from_numpy(image.transpose(2, 0, 1).copy())}])[0]["instances"]
    assert len(predictions["scores"]) == len(expected) > 0
    assert (np.diff(predictions["scores"]) <= 1e-6).all()
    fields = {name.removeprefix("pred_"): value for name, value in expected.get_fields().items()}
    fields |= {name: value.tensor for name, value in fields.items() if isinstance(value, RotatedBoxes)}
    boxes, scores, classes = fields.pop("boxes").tensor, fields.pop("scores"), fields.pop("classes")
    assert predictions.keys() == {"boxes", "scores", "classes", *fields}
    points = {name: fields.pop(name)[None] for name in ("keypoints",) if name in fields}
    values = {name: value[None] for name, value in fields.items()}
    gt = Candidates(boxes[None], scores[None], classes[None], torch.zeros(1), points, values)
    assert max(compute_differences(gt, {name: value[None] for name, value in predictions.items()}).values()) < 1e-4
    # Landmarks of other classes are zero in both.
    assert not predictions.get("keypoints", np.zeros(3))[..., :2][
        predictions.get("keypoints", np.zeros(3))[..., 2] == 0
    ].any()


def test_openvino_finds_the_same(exported):
    pytest.importorskip("openvino")
    cfg, _, path, _ = exported
    if cfg.MODEL.META_ARCHITECTURE == "CenterTrack":
        pytest.skip("no single images")
    image = random_image(*(side * 5 // 4 for side in cfg.INPUT.SIZE_TEST))
    first, second = (onnx_predictor.OnnxPredictor(path, 1, x) for x in ("onnxruntime", "openvino"))
    assert first.metadata == second.metadata
    expected, predictions = first(image), second(image)
    assert abs(len(expected["scores"]) - len(predictions["scores"])) <= 2
    np.testing.assert_allclose(expected["scores"][:3], predictions["scores"][:3], atol=1e-4)


def test_a_tracker_takes_the_previous_frame_its_way(exported):
    """The graph's own way of putting the inputs together against the model's."""
    cfg, model, _, graph = exported
    if cfg.MODEL.META_ARCHITECTURE != "CenterTrack":
        pytest.skip("no tracker")
    frames = torch.randint(0, 256, (2, 3, 96, 64), dtype=torch.uint8)
    boxes = torch.tensor([[10.0, 20, 40, 60], [30, 5, 60, 30]])
    sample = {"image": frames[0], "previous_image": frames[1], "previous_boxes": boxes}
    batch, _, _ = model.preprocess_test_image([sample], 1.0)
    with torch.no_grad():
        expected = model.task.decode(model.predict_maps(batch))
        predictions = graph(frames[:1], frames[1:], model.render_heatmap([boxes], (96, 64)))
    torch.testing.assert_close(predictions[0], expected.boxes * 4)
    torch.testing.assert_close(predictions[3][..., :2], expected.points["displacement"][..., :2] * 4)


def test_nms_of_rotated_boxes_is_not_exported(tmp_path):
    cfg = tiny_cfg("MODEL.CENTERNET.TASK", "RotatedBoxTask", "TEST.NMS", 0.3, *SIZE)
    with pytest.raises(ValueError, match="no NMS of rotated boxes"):
        export_onnx(cfg, untrained(cfg), tmp_path / "model.onnx")


def test_left_stays_left():
    """Where both sides' points lie in one column of cells, their offsets may exchange them, as in the model."""
    cfg = CONFIGS["extreme points"]()
    model = build_model(cfg).eval()
    maps = {name: torch.full((1, head.out_channels, 24, 16), -10.0) for name, head in model.task.items()}
    for name, y in (("top", 4), ("left", 6), ("bottom", 8), ("right", 6), ("center", 6)):
        maps[f"{name}_heatmap"][..., y, 5] = 3.0
        if name != "center":
            maps[f"{name}_offset"][:] = 0.9 if name == "left" else 0.1
    model.predict_maps = model.run_network = lambda images: maps
    image = torch.zeros(1, 3, 96, 64, dtype=torch.uint8)
    predictions = ExportedGraph(model).get_candidates(image)
    expected = model([{"image": image[0]}])[0]["instances"]
    torch.testing.assert_close(predictions.points["keypoints"][0, 0], expected.pred_keypoints[0])
    assert predictions.points["keypoints"][0, 0, 1, 0] < predictions.points["keypoints"][0, 0, 3, 0]


@pytest.mark.parametrize(
    "opts",
    [
        (),
        (*ALL_POINTS, "MODEL.CENTERNET.NUM_CLASSES", 2),
        pytest.param(
            ("MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.NECK.NAME", "DeconvNeck", "MODEL.RESNETS.DEPTH", 18,
             "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.NECK.CHANNELS", [8, 8, 8],
             "MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4", "res5"]),
            marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_batches_and_images_of_any_size(opts, tmp_path):
    """The last has deformable convolutions, whose offsets are not zero."""
    cfg = tiny_cfg("INPUT.RESIZE_TEST", "keep", *SIZE, *opts)
    model = untrained(cfg)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "offset_mask" in name:
                parameter.normal_(0, 0.05)
    path = tmp_path / "model.onnx"
    graph = export_onnx(cfg, model, path, dynamic=True)
    assert max(check_file(graph, path, dynamic=True).values()) < 1e-4
    runtimes = ["onnxruntime", "openvino"] if find_spec("openvino") else ["onnxruntime"]
    for size, runtime in product([(64, 128), (128, 96)], runtimes):
        predictions = onnx_predictor.OnnxPredictor(path, runtime=runtime)(random_image(*size))
        image = torch.from_numpy(random_image(*size).transpose(2, 0, 1).copy())
        expected = model([{"image": image}])[0]["instances"]
        gt = Candidates(
            expected.pred_boxes.tensor[None], expected.scores[None], expected.pred_classes[None], torch.zeros(1)
        )
        assert len(expected) == len(predictions["boxes"]) > 0
        assert max(compute_differences(gt, {name: value[None] for name, value in predictions.items()}).values()) < 1e-4


REFUSED = {
    "more than one pass": (("TEST.AUG.ENABLED", True, "TEST.AUG.FLIP", True), False, "looks at an image once"),
    "sizes of their own": (("INPUT.RESIZE_TEST", "keep"), False, "dynamic sizes"),
    "stretched sizes": (("INPUT.RESIZE_TEST", "stretch"), False, "dynamic sizes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exported_is_said(name, tmp_path):
    opts, dynamic, message = REFUSED[name]
    cfg = tiny_cfg(*opts)
    with pytest.raises(ValueError, match=message):
        export_onnx(cfg, build_model(cfg).eval(), tmp_path / "model.onnx", dynamic=dynamic)
    assert list(tmp_path.iterdir()) == []


def test_steps_that_depend_on_the_size_are_refused_for_dynamic_sizes(tmp_path):
    """Edge aggregation doubles its steps until the map is crossed."""
    cfg = keypoint_cfg("extreme4", "ExtremePointTask", *EXTREME, "MODEL.EXTREME.TOPK", 1, *SIZE)
    with pytest.raises(ValueError, match="depend on the image size"):
        export_onnx(cfg, build_model(cfg).eval(), tmp_path / "model.onnx", dynamic=True)


ALONE = """
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "detectron2", "cv2", "centernet_d2", "onnx"):
            raise ImportError(name)
sys.meta_path.insert(0, Nothing())
import numpy as np
from runtime.onnx_model import OnnxPredictor
predictor = OnnxPredictor("model.onnx", threads=1)
assert predictor.metadata["class_names"][:2] == ["aeroplane", "bicycle"]
assert predictor.metadata["channel_order"] == "BGR"
np.savez("found.npz", **predictor(np.load("image.npy")))
"""


def test_the_runtime_folder_can_be_copied_and_needs_no_torch(tmp_path):
    cfg = tiny_cfg("DATASETS.TEST", ("voc_2007_test",), "MODEL.CENTERNET.NUM_CLASSES", 0, *SIZE)
    export_onnx(cfg, untrained(cfg), tmp_path / "model.onnx")
    shutil.copytree(Path(onnx_predictor.__file__).parent, tmp_path / "runtime")
    np.save(tmp_path / "image.npy", random_image())
    subprocess.run([sys.executable, "-c", ALONE], cwd=tmp_path, check=True, timeout=120)
    here = onnx_predictor.OnnxPredictor(tmp_path / "model.onnx")(random_image())
    with np.load(tmp_path / "found.npz") as there:
        assert set(there) == set(here)
        assert len(here["boxes"]) > 0
        for name, values in here.items():
            np.testing.assert_allclose(there[name], values, atol=1e-4)
