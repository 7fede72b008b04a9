"""Run an exported model with NumPy and ONNX Runtime (or OpenVINO), without PyTorch and Detectron2.

    predictor = OnnxPredictor("model.onnx")
    predictions = predictor(image)     # (H, W, 3) uint8, channels in the order of predictor.metadata["channel_order"]
    predictions["boxes"], predictions["scores"], predictions["classes"]
    predictor.describe(predictions)    # entries with category ids and names, ready for JSON

``metadata`` is what ``centernet-d2 export`` wrote into the file: class names, keypoints, input size, and how
candidates of one object are merged.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .images import check_image
from .letterbox import letterbox, warp_image
from .merging import Predictions, _select_rows, merge, suppress


class OnnxPredictor:
    """Predicts as the model itself does, except for the last digits of the warp.

    Args:
        path: of an exported model that looks at single images.
        threads: of one image's computation; 0: all cores.
        runtime: "onnxruntime", or "openvino", where that is installed.
        providers: of ONNX Runtime, in the order of preference.

    Attributes:
        metadata: what the exporter wrote into the file.

    Raises:
        ValueError: the file was not exported by this project, or looks at more than an image.
    """

    def __init__(
        self,
        path: str | Path,
        threads: int = 0,
        runtime: str = "onnxruntime",
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        if runtime not in ("onnxruntime", "openvino"):
            raise ValueError(f'runtime must be "onnxruntime" or "openvino", not {runtime!r}')
        openvino = runtime == "openvino"
        network = _load_in_openvino(path, threads) if openvino else _load_in_onnxruntime(path, threads, providers)
        self._run, self._names = network.run, network.outputs
        if "merge" not in network.metadata:
            raise ValueError(f"{path} was not written by centernet-d2 export: it does not say how to read its results")
        if len(network.inputs) > 1:
            raise ValueError(f"{path} follows objects through a video: it takes {network.inputs[1]}, too")
        if network.batch_size not in (None, 1):
            raise ValueError(f"{path} takes {network.batch_size} images at once: export it with --batch-size 1")
        self.metadata: dict[str, Any] = {name: json.loads(value) for name, value in network.metadata.items()}

    def __call__(self, image: np.ndarray, calibration: np.ndarray | None = None) -> Predictions:
        """Return the objects of one image, highest-scoring first, in its pixels.

        Args:
            image: (H, W, 3) uint8; other inputs: see :func:`check_image`.
            calibration: (3, 4) of the camera, for 3D boxes; None: the model's own.

        Returns:
            "boxes" (P, 4) x1, y1, x2, y2, "scores" (P,), "classes" (P,); and, depending on the model, "keypoints"
            (P, K, 3) x, y, score; of 3D boxes "dimensions" (P, 3) height, width, length, "locations" (P, 3),
            "rotation_y" and "alpha" (P,), meters and radians, see ``centernet_d2.ops.box3d_geometry``;
            "rotated_boxes" (P, 5), "keypoint_covariance" (P, K, 2, 2).

        Raises:
            TypeError, ValueError: ``image`` is no image, see :func:`check_image`.
        """
        image = check_image(image)
        size = image.shape[:2]
        scale, shift, input_size = letterbox(size, self.metadata)
        stretch = self.metadata["resize"] == "stretch"
        inputs = warp_image(image, scale, shift, input_size, self.metadata["pixel_center"], stretch)
        image = np.ascontiguousarray(inputs.transpose(2, 0, 1))[None]
        candidates = {name: x[0] for name, x in zip(self._names, self._run(image), strict=True)}
        return self._restore_objects(candidates, scale, shift, size, calibration)

    def describe(self, predictions: Predictions) -> list[dict[str, Any]]:
        """Return one entry per object as in COCO's result files, with the class name, ready for JSON.

        The category id is that of the training dataset; the box is x, y, width, height.
        """
        names = self.metadata["class_names"]
        ids = self.metadata.get("category_ids") or range(len(names))  # files of older versions have no ids
        rows = zip(
            predictions["classes"].tolist(), predictions["scores"].tolist(), predictions["boxes"].tolist(), strict=True
        )
        return [
            {
                "category_id": ids[int(label)] if names else int(label),
                "category_name": names[int(label)] if names else str(int(label)),
                "score": score,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
            }
            for label, score, (x1, y1, x2, y2) in rows
        ]

    def _restore_objects(
        self,
        candidates: Predictions,
        scale: np.ndarray,
        shift: np.ndarray,
        size: tuple[int, int],
        calibration: np.ndarray | None,
    ) -> Predictions:
        """Return candidates in image pixels; ``scale`` and ``shift`` map the image to the input."""
        positions = {"boxes": candidates["boxes"].reshape(-1, 2, 2)}
        positions |= {name: candidates[name][..., :2] for name in self.metadata["points"]}
        moved = {name: ((xy - shift) / scale).astype(np.float32) for name, xy in positions.items()}
        candidates["boxes"] = moved.pop("boxes").reshape(-1, 4)
        for name, xy in moved.items():
            candidates[name][..., :2] = xy
        method, sources, limit = (self.metadata[key] for key in ("merge", "sources", "limit"))
        predictions = merge(candidates, method, sources, limit, self.metadata.get("merge_iou", 0.0))
        predictions = _select_rows(
            predictions, np.flatnonzero(predictions["scores"] > self.metadata["score_threshold"])
        )
        if self.metadata.get("nms"):
            predictions = suppress(predictions, self.metadata["nms"])
        for name in self.metadata["points"]:
            # Drop keypoints of other classes.
            predictions[name] *= predictions[name][..., 2:] > 0
        if "keypoint_spread_0" in predictions:
            predictions = compute_keypoint_covariance(predictions)
        if self.metadata.get("rotated"):
            predictions = rotate_boxes(predictions)
        if "calibration" in self.metadata:
            default = np.reshape(self.metadata["calibration"], (3, 4))
            predictions = place_boxes3d(
                predictions, default if calibration is None else np.asarray(calibration, dtype=np.float64)
            )
        limits = np.array([size[1], size[0]] * 2, dtype=np.float32)
        predictions["boxes"] = predictions["boxes"].clip(0, limits)
        if self.metadata.get("clip_points"):
            for name in self.metadata["points"]:
                predictions[name][..., :2] = predictions[name][..., :2].clip(0, limits[:2])
        sides = predictions["boxes"][:, 2:] - predictions["boxes"][:, :2]
        large = sides.prod(axis=1) > self.metadata.get("min_box_area", 0.0)
        return _select_rows(predictions, np.flatnonzero((sides > 0).all(axis=1) & large))


@dataclass
class _Network:
    """``run`` takes (N, 3, H, W) uint8 and gives ``outputs``; ``batch_size`` is None if any size will do."""

    run: Callable[[np.ndarray], Sequence[np.ndarray]]
    inputs: list[str]
    outputs: list[str]
    batch_size: int | None
    metadata: dict[str, str]


def _load_in_onnxruntime(path: str | Path, threads: int, providers: Sequence[str]) -> _Network:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=list(providers))
    first = session.get_inputs()[0]
    return _Network(
        lambda image: session.run(None, {first.name: image}),
        [x.name for x in session.get_inputs()],
        [x.name for x in session.get_outputs()],
        first.shape[0] if isinstance(first.shape[0], int) else None,
        session.get_modelmeta().custom_metadata_map,
    )


def _load_in_openvino(path: str | Path, threads: int) -> _Network:
    import openvino
    from openvino import opset13
    from openvino.frontend import ConversionExtension

    def make_deformable(node: Any) -> Any:
        """Register the operator under its ONNX name, which OpenVINO lacks."""
        x, weight, offset, bias, mask = (node.get_input(i) for i in range(5))
        strides, pads, dilations = (list(node.get_attribute(name)) for name in ("strides", "pads", "dilations"))
        groups = node.get_attribute("group"), node.get_attribute("offset_group")
        geometry = (strides, pads[:2], pads[2:], dilations)
        y = opset13.deformable_convolution(x, offset, weight, *geometry, mask, "explicit", *groups, True)
        return opset13.add(y, opset13.reshape(bias, [1, -1, 1, 1], False)).outputs()

    core = openvino.Core()
    core.add_extension(ConversionExtension("DeformConv", make_deformable))
    model = core.read_model(str(path))
    # Full precision; some processors default to bfloat16.
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    batch, known = model.inputs[0].get_partial_shape()[0], dict(model.get_rt_info().items()).get("framework", {})
    return _Network(
        lambda image: [*request.infer([image]).values()],
        [x.get_any_name() for x in model.inputs],
        [x.get_any_name() for x in model.outputs],
        None if batch.is_dynamic else batch.get_length(),
        {name: value.value for name, value in known.items()},
    )


def place_boxes3d(predictions: Predictions, calibration: np.ndarray) -> Predictions:
    """Place the boxes in camera coordinates: bottom centers, and rotations about the vertical."""
    predictions = dict(predictions)
    boxes, alpha = predictions["boxes"], predictions.pop("orientation")
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    if "center_offset" in predictions:
        center = center + predictions.pop("center_offset") * (boxes[:, 2:] - boxes[:, :2])
    (fx, _, cx, tx), (_, fy, cy, ty), (_, _, _, tz) = calibration
    (u, v), depth = center.T, predictions["depth"]
    z = depth - tz
    x, y = (u * depth - tx - cx * z) / fx, (v * depth - ty - cy * z) / fy
    turn = alpha + np.arctan2(u - cx, fx)
    locations = np.stack([x, y + predictions["dimensions"][:, 0] / 2, z], axis=1)
    rotation = np.remainder(turn + math.pi, 2 * math.pi) - math.pi
    return {**predictions, "alpha": alpha, "locations": locations, "rotation_y": rotation}


def rotate_boxes(predictions: Predictions) -> Predictions:
    """Return "rotated_boxes" (P, 5) x, y of the center, width, height, degrees, of "boxes" before the rotation and
    "angle"; "boxes" are then those around them."""
    predictions = dict(predictions)
    low, high, angle = predictions["boxes"][:, :2], predictions["boxes"][:, 2:], predictions.pop("angle")
    center, half = (low + high) / 2, (high - low) / 2
    cosine, sine = np.abs(np.cos(np.radians(angle))), np.abs(np.sin(np.radians(angle)))
    reach = np.stack([half[:, 0] * cosine + half[:, 1] * sine, half[:, 0] * sine + half[:, 1] * cosine], axis=1)
    rotated = np.concatenate([center, 2 * half, angle[:, None]], axis=1)
    return {**predictions, "boxes": np.concatenate([center - reach, center + reach], axis=1), "rotated_boxes": rotated}


def compute_keypoint_covariance(predictions: Predictions) -> Predictions:
    """Return "keypoint_covariance" (P, K, 2, 2), pixels^2, in place of the two points that say it."""
    predictions = dict(predictions)
    points = predictions["keypoints"][..., :2]
    vectors = np.stack([predictions.pop(f"keypoint_spread_{k}")[..., :2] - points for k in (0, 1)], axis=-2)
    return {**predictions, "keypoint_covariance": np.swapaxes(vectors, -1, -2) @ vectors}
