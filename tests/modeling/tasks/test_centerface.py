"""CenterFace in this frame: the published network's maps, boxes and points, and how it is trained, decoded, exported.

What needs the published file or photos is skipped where ``../shared`` is missing.
"""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.data import DatasetCatalog
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, Keypoints

import centernet_d2
from centernet_d2.checkpoint.centerface import convert_centerface
from centernet_d2.checkpoint.conversion import convert_file, describe_fit
from centernet_d2.checkpoint.reading import load_file
from centernet_d2.data.dataset_mapper import CenterNetDatasetMapper
from centernet_d2.engine import Predictor
from centernet_d2.structures import Targets

CONFIG = Path(__file__).parents[3] / "configs" / "Pretrained" / "centerface.yaml"
GOLDEN = ("2008_001009", "2008_002079")
PUBLISHED = {"heatmap": "heatmap", "box_size": "scale", "offset": "offset", "keypoint_regression": "landmarks"}
#: As published: objects are told apart from here on.
THRESHOLD = 0.35


@pytest.fixture(scope="session")
def published(shared_data) -> Path:
    """The published ONNX file."""
    path = shared_data.parent / "models" / "centerface" / "centerface.onnx"
    if not path.is_file():
        pytest.skip(f"no published model at {path}")
    return path


@pytest.fixture(scope="session")
def session(published):
    """ONNX Runtime on the published file, made to take images of any size."""
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    model = onnx.load(published)
    for value in (model.graph.input[0], *model.graph.output):
        for axis in (0, 2, 3):
            value.type.tensor_type.shape.dim[axis].dim_param = f"{value.name}_{axis}"
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def config(*opts):
    cfg = centernet_d2.get_cfg()
    cfg.merge_from_file(str(CONFIG))
    cfg.MODEL.DEVICE = "cpu"
    cfg.merge_from_list(list(opts))
    return cfg


@pytest.fixture(scope="session")
def predictor(published) -> Predictor:
    return Predictor(config("MODEL.WEIGHTS", str(published)))


def stretch(image: np.ndarray) -> np.ndarray:
    """The network's input as the reference makes it: (1, 3, H, W) float32, RGB, 0..255."""
    height, width = (math.ceil(side / 32) * 32 for side in image.shape[:2])
    return cv2.resize(image, (width, height))[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32)


def decode_by_loops(maps: list[np.ndarray], image_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and score (P, 5), and points (P, 5, 2), in pixels of an image of (height, width): every cell above the
    threshold is a face, until NMS at 0.3. Boxes are clipped to the image at the end."""
    heatmap, scale, offset, landmarks = (x[0] for x in maps)
    faces = []
    for i, j in zip(*np.nonzero(heatmap[0] > THRESHOLD), strict=True):
        height, width = 4 * np.exp(scale[:, i, j].astype(float))
        x1 = 4 * (j + offset[1, i, j] + 0.5) - width / 2
        y1 = 4 * (i + offset[0, i, j] + 0.5) - height / 2
        points = [(x1 + width * landmarks[2 * k + 1, i, j], y1 + height * landmarks[2 * k, i, j]) for k in range(5)]
        faces.append((heatmap[0, i, j], [x1, y1, x1 + width, y1 + height], points))
    kept: list = []
    for face in sorted(faces, key=lambda face: -face[0]):
        if all(iou(face[1], other[1]) <= 0.3 for other in kept):
            kept.append(face)
    back = np.array(image_size[::-1]) / (4 * np.array(heatmap.shape[:0:-1]))
    boxes = np.array([face[1] for face in kept]).reshape(-1, 2, 2) * back
    boxes = boxes.clip(0, image_size[::-1]).reshape(-1, 4)
    scores = np.array([face[0] for face in kept]).reshape(-1, 1)
    return np.hstack([boxes, scores]), np.array([face[2] for face in kept]).reshape(-1, 5, 2) * back


def iou(a, b) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return width * height / (sum(areas) - width * height)


def assert_same_faces(instances: Instances, boxes: np.ndarray, points: np.ndarray) -> None:
    """``boxes`` (P, 5) with scores; highest scores come first."""
    found = instances[instances.scores > THRESHOLD]
    assert len(found) == len(boxes)
    np.testing.assert_allclose(found.pred_boxes.tensor.numpy(), boxes[:, :4], atol=1e-2)
    np.testing.assert_allclose(found.scores.numpy(), boxes[:, 4], atol=1e-4)
    np.testing.assert_allclose(found.pred_keypoints[..., :2].numpy(), points, atol=1e-2)
    assert (found.pred_keypoints[..., 2] == found.scores[:, None]).all() and (found.pred_classes == 0).all()


def read_golden(published: Path, shared_data: Path, name: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    values = np.load(published.with_name("golden.npz"))
    image = cv2.imread(str(shared_data / "dlib_faces" / f"{name}.jpg"))
    return image, {key.partition(".")[2]: values[key] for key in values if key.startswith(name)}


def to_published(maps: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Our maps in the published conventions: probabilities, y before x, offsets from the center of a cell."""
    arrays = {PUBLISHED[name]: x.numpy() for name, x in maps.items()}
    size, landmarks = arrays["scale"][:, ::-1], arrays["landmarks"]
    flipped = landmarks.reshape(1, 5, 2, *landmarks.shape[2:])[:, :, ::-1].reshape(landmarks.shape)
    heatmap = 1 / (1 + np.exp(-arrays["heatmap"]))
    return {"heatmap": heatmap, "scale": size, "offset": arrays["offset"][:, ::-1] - 0.5, "landmarks": flipped}


@pytest.mark.parametrize("name", GOLDEN)
def test_maps_are_the_published_ones(name, published, shared_data):
    """Also in training mode: what was published is not normalized by a batch."""
    image, golden = read_golden(published, shared_data, name)
    model = build_model(config())
    model.load_state_dict(convert_centerface(published), strict=False)
    for training in (False, True):
        with torch.no_grad():
            features = model.train(training).extract_features(torch.from_numpy(stretch(image)))
            maps = to_published(model.eval().task.predict_maps(features))
        for key, values in maps.items():
            np.testing.assert_allclose(values, golden[key], atol=1e-4, err_msg=key)


@pytest.mark.parametrize("make", [Predictor, DefaultPredictor])
@pytest.mark.parametrize("name", GOLDEN)
def test_boxes_and_points_are_the_published_ones(name, make, published, shared_data):
    image, golden = read_golden(published, shared_data, name)
    instances = make(config("MODEL.WEIGHTS", str(published)))(image)["instances"]
    assert_same_faces(instances, golden["boxes"], golden["points"].reshape(-1, 5, 2))


PHOTOS = ["dlib_faces/*.jpg", "wflw/*.jpg", "coco_person/*.jpg", "300w_sample/*", "faces68/val/*0.jpg"]


@pytest.mark.parametrize("pattern", PHOTOS)
def test_photos_have_the_faces_that_onnxruntime_finds(pattern, predictor, session, shared_data):
    files = [path for path in sorted(shared_data.glob(pattern)) if path.suffix in (".jpg", ".png")][:40]
    assert files
    sizes, count = set(), 0
    for path in files:
        image = cv2.imread(str(path))
        maps = session.run(None, {"input.1": stretch(image)})
        boxes, points = decode_by_loops(maps, image.shape[:2])
        assert_same_faces(predictor(image)["instances"], boxes, points)
        sizes.add(image.shape[:2])
        count += len(boxes)
    assert count and any(side % 32 for size in sizes for side in size)


def test_a_batch_and_a_size_smaller_than_a_cell(predictor, session):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((1, 1), (33, 70), (33, 70), (64, 96))]
    for output, image in zip(predictor.predict_batch(images), images, strict=True):
        maps = session.run(None, {"input.1": stretch(image)})
        assert_same_faces(output["instances"], *decode_by_loops(maps, image.shape[:2]))


def test_the_file_is_converted_and_fits(published, tmp_path):
    weights, report = convert_file(published, tmp_path / "ours.pth")
    assert report[1] == "weights of CenterFace" and describe_fit(weights, config()) == []
    ours = load_file(tmp_path / "ours.pth")["model"]
    assert all(torch.equal(x, ours[name]) for name, x in convert_centerface(published).items())
    with pytest.raises(ValueError, match="of no known network"):
        convert_file(published, tmp_path / "theirs.pth", "published")


def test_another_onnx_file_is_refused(tmp_path):
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "other.onnx"
    weight = onnx.numpy_helper.from_array(np.ones((2, 3), np.float32), "12")
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "other", [], [], [weight])), path)
    with pytest.raises(ValueError, match=r"other\.onnx is not CenterFace's.*56 convolutions"):
        load_file(path)
    path.write_bytes(b"not a model")
    with pytest.raises(ValueError, match=r"other\.onnx is damaged or no ONNX file"):
        DefaultPredictor(config("MODEL.WEIGHTS", str(path)))


def make_faces(size: tuple[int, int]) -> Instances:
    """Faces of 6 to 200 pixels, some cut by a side of the image, with points in (and a little outside) their boxes."""
    rng = np.random.default_rng(4)
    corner = np.array([[3, 5], [40, 8], [70.3, 60.1], [0, 150], [121, 96], [170, 4]])
    sides = np.array([[6, 8], [20, 31], [64, 90.5], [50, 80], [135, 160], [40, 45]])
    low, high = corner, np.minimum(corner + sides, size[::-1])
    points = low[:, None] + rng.uniform(-0.1, 1.1, (6, 5, 2)) * (high - low)[:, None]
    instances = Instances(size)
    instances.gt_boxes = Boxes(torch.from_numpy(np.hstack([low, high])).float())
    instances.gt_classes = torch.zeros(6, dtype=torch.int64)
    instances.gt_keypoints = Keypoints(torch.from_numpy(np.dstack([points, np.full((6, 5), 2)])).float())
    return instances


def test_perfect_maps_give_the_faces_back():
    """To 2e-3 pixels: sides are float32 logarithms."""
    model, faces = build_model(config()), make_faces((256, 256))
    targets = Targets.from_instances([faces], 4, (64, 64))
    candidates = model.task.decode(model.task.encode_dense(targets))
    decoded = model.task.merge(candidates.transform(torch.full((1, 2), 4.0), torch.zeros(1, 2)), 6)
    order = torch.cdist(faces.gt_boxes.tensor, decoded.boxes[0]).argmin(dim=1)
    assert sorted(order.tolist()) == list(range(6)) and decoded.scores.min() > 0.99
    torch.testing.assert_close(decoded.boxes[0][order], faces.gt_boxes.tensor, atol=2e-3, rtol=0)
    points = decoded.points["keypoints"][0][order][..., :2]
    torch.testing.assert_close(points, faces.gt_keypoints.tensor[..., :2], atol=2e-3, rtol=0)


@pytest.mark.parametrize("start", ["random", "published"])
def test_a_few_steps_of_training_lower_the_loss(start, request):
    """On drawn faces: anew with normalizations that learn, and from the published weights as the config is."""
    torch.manual_seed(0)
    opts = ("MODEL.TORCHVISION.NORM", "", "MODEL.NECK.NORM", "BN") if start == "random" else ()
    sets = ("DATASETS.TRAIN", ("synthetic_faces5_train",), "INPUT.SIZE_TRAIN", [96, 96], "INPUT.COLOR.JITTER", 0.0)
    cfg = config(*sets, "INPUT.AFFINE.MODE", "none", "INPUT.AFFINE.FLIP_PROB", 0.0, *opts)
    mapper = CenterNetDatasetMapper(cfg, is_train=True)
    batch = [mapper(x) for x in DatasetCatalog.get("synthetic_faces5_train")[:4]]
    model = build_model(cfg).train()
    if start == "published":
        DetectionCheckpointer(model).load(str(request.getfixturevalue("published")))
    # Fine-tuning takes small steps.
    optimizer = torch.optim.Adam(model.parameters(), 1e-3 if start == "random" else 1e-5)
    totals = []
    for _ in range(8):
        losses = model(batch)
        assert set(losses) == {"loss_heatmap", "loss_offset", "loss_box_size", "loss_keypoint_regression"}
        assert all(torch.isfinite(x) for x in losses.values())
        total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.7 * totals[0]
    # The published weights meet these targets from the start: their conventions are those it learned.
    assert start == "random" or totals[0] < 1


@pytest.mark.slow
def test_the_export_finds_the_same_faces(published, predictor, shared_data, tmp_path):
    """To 1e-2 pixels where nothing is stretched; to half a pixel where NumPy stretches, which rounds otherwise than
    OpenCV, by up to a gray level."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from centernet_d2.export import check_file, export_onnx
    from centernet_d2.runtime.onnx_model import OnnxPredictor

    cfg, path = config("MODEL.WEIGHTS", str(published)), tmp_path / "model.onnx"
    model = DefaultPredictor(cfg).model
    graph = export_onnx(cfg, model, path, dynamic=True)
    assert max(check_file(graph, path, dynamic=True).values()) < 1e-4
    exported = OnnxPredictor(path, threads=1)
    assert exported.metadata["channel_order"] == "RGB" and exported.metadata["class_names"] == ["face"]
    for name in GOLDEN:
        image = cv2.imread(str(shared_data / "dlib_faces" / f"{name}.jpg"))
        for pixels, limit in ((cv2.resize(image, (512, 384)), 1e-2), (image, 0.5)):
            expected = predictor(pixels)["instances"]
            found = exported(pixels[:, :, ::-1])
            expected, kept = expected[expected.scores > THRESHOLD], found["scores"] > THRESHOLD
            assert kept.sum() == len(expected) > 0
            np.testing.assert_allclose(found["boxes"][kept], expected.pred_boxes.tensor, atol=limit)
            np.testing.assert_allclose(found["keypoints"][kept][..., :2], expected.pred_keypoints[..., :2], atol=limit)
