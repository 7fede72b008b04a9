"""What ``tools/benchmark.py --centerface FILE`` times: faces of an image by ours and by the published ONNX file."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from benchmarks.parts import Row
from torchvision.ops import nms

from centernet_d2 import model_zoo
from centernet_d2.data.synthetic.faces import FacesConfig, draw
from centernet_d2.engine import Predictor
from centernet_d2.export.onnx import export_onnx
from centernet_d2.runtime.onnx_model import OnnxPredictor

Faces = tuple[np.ndarray, np.ndarray]
THRESHOLD = 0.35


def build_published(path: str, threads: int, constant: bool) -> Callable[[np.ndarray], Faces]:
    """Return the published detector in ONNX Runtime: a function of an image (h, w, 3) uint8, BGR, to boxes and scores
    (P, 5) and points (P, 5, 2), from the highest score down.

    Args:
        constant: take the weights out of the inputs of the graph, where the file has them. ONNX Runtime then knows that
            they do not change, and prepares them once.
    """
    import onnx
    import onnxruntime

    model = onnx.load(path)
    image, *weights = model.graph.input
    for value in (image, *model.graph.output):
        for axis in (0, 2, 3):
            value.type.tensor_type.shape.dim[axis].dim_param = f"{value.name}_{axis}"
    for value in weights if constant else ():
        model.graph.input.remove(value)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(image: np.ndarray) -> Faces:
        size = tuple(math.ceil(side / 32) * 32 for side in image.shape[:2])
        inputs = cv2.resize(image, size[::-1])[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32)
        boxes, points = decode(*(x[0] for x in session.run(None, {"input.1": inputs})))
        back = np.array(image.shape[1::-1]) / size[::-1]
        boxes[:, :4] *= np.tile(back, 2)
        return boxes, points * back

    return run


def decode(heatmap: np.ndarray, scale: np.ndarray, offset: np.ndarray, landmarks: np.ndarray) -> Faces:
    """The published decoding, in input pixels: all cells above the threshold, then NMS."""
    y, x = np.nonzero(heatmap[0] > THRESHOLD)
    scores, sides = heatmap[0, y, x], 4 * np.exp(scale[::-1, y, x].T)
    low = 4 * (np.stack([x, y], axis=1) + offset[::-1, y, x].T + 0.5) - sides / 2
    boxes = np.hstack([low, low + sides, scores[:, None]])
    kept = nms(torch.from_numpy(boxes[:, :4]), torch.from_numpy(scores.astype(boxes.dtype)), 0.3).numpy()
    fractions = landmarks[:, y[kept], x[kept]].T.reshape(-1, 5, 2)[..., ::-1]
    return boxes[kept], low[kept, None] + fractions * sides[kept, None]


def draw_image() -> np.ndarray:
    """An image with faces, (480, 640, 3) uint8, BGR."""
    config = FacesConfig(height=480, width=640, min_objects=6, max_objects=6)
    return np.ascontiguousarray(draw(config, 0, 0)[:, :, ::-1])


def build_predictor(path: str) -> Predictor:
    """Return ours, with the weights of the published file."""
    cfg = model_zoo.get_config("Pretrained/centerface.yaml")
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS, cfg.MODEL.CENTERNET.SCORE_THRESH_TEST = "cpu", path, THRESHOLD
    return Predictor(cfg)


def build_exported(predictor: Predictor, path: Path, threads: int) -> OnnxPredictor:
    """Return our exported file, which takes RGB images, in ONNX Runtime."""
    if not path.is_file():
        export_onnx(predictor.cfg, predictor.model, path, dynamic=True)
    return OnnxPredictor(path, threads)


def time_faces(args: argparse.Namespace) -> list[Row]:
    """An image in memory to its faces, on the CPU."""
    threads, image = torch.get_num_threads(), draw_image()
    rgb = np.ascontiguousarray(image[:, :, ::-1])
    predictor = build_predictor(args.centerface)
    exported = build_exported(predictor, Path(args.folder) / "centerface.onnx", threads)
    rows: list[Row] = []
    for constant, note in ((False, "the published file"), (True, "the published file, weights made constant")):
        theirs = build_published(args.centerface, threads, constant)
        for name, ours in (("Predictor", partial(predictor, image)), ("our ONNX file", partial(exported, rgb))):
            rows.append((f"CenterFace, 640x480, {name}; baseline: {note}", ours, partial(theirs, image)))
    return rows


PARTS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {"centerface": time_faces}
