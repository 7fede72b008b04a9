"""The exported graph (network input to candidates) and the metadata that its users need."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from centernet_d2.modeling.meta_arch import CenterNet
from centernet_d2.structures import Candidates


class ExportedGraph(nn.Module):
    """Images (N, 3, H, W), uint8 or float 0..255, to candidates in input pixels.

    Letterboxing and merging are not part of the graph, because they depend on values; ``runtime`` does them.
    CenterTrack also takes the previous frame (N, 3, H, W) and its heatmap (N, 1, H, W).

    Args:
        model: in evaluation mode.
    """

    def __init__(self, model: CenterNet) -> None:
        super().__init__()
        self.model = model
        self.input_names = list(model.input_names)

    def get_size(self) -> tuple[int, int]:
        """Return (height, width) of the input where images are fitted into ``INPUT.SIZE_TEST``."""
        times = self.model.test_time_augmentation
        return times.compute_input_size(times.size, 1.0, self.model.divisibility)

    def get_candidates(self, *inputs: Tensor) -> Candidates:
        """Return the candidates in input pixels."""
        images = [(image - self.model.pixel_mean) / self.model.pixel_std for image in inputs[:2]]
        outputs = self.model.predict_maps(torch.cat([*images, *inputs[2:]], dim=1))
        predictions = self.model.task.decode_for_export(outputs)
        one = predictions.boxes.new_ones(1, 2)
        return predictions.transform(self.model.stride * one, 0 * one)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the values of :func:`name_outputs`, as a tuple."""
        return tuple(name_outputs(self.get_candidates(*inputs)).values())


def name_outputs(predictions: Candidates) -> dict[str, Tensor]:
    """Return "boxes" (N, M, 4), "scores" (N, M), "classes" (N, M), and the other values of each candidate."""
    return {
        "boxes": predictions.boxes,
        "scores": predictions.scores,
        "classes": predictions.classes,
        **predictions.points,
        **predictions.values,
    }


def describe(cfg: CfgNode, model: CenterNet, predictions: Candidates, size: tuple[int, int] | None) -> dict[str, Any]:
    """Return the metadata that ``runtime.onnx_model.OnnxPredictor`` reads, as JSON values.

    Args:
        cfg: which ``model`` was built from.
        predictions: of any images.
        size: (height, width) of the input; None where the graph takes all multiples of "divisibility".

    Raises:
        ValueError: one graph cannot do what the config says, such as TEST.AUG.
    """
    times, metadata = model.test_time_augmentation, model.metadata
    if times.flip or tuple(times.scales) != (1.0,):
        raise ValueError("an exported model looks at an image once: set TEST.AUG.ENABLED to False")
    if times.resize != "fixed" and size is not None:
        raise ValueError(
            f'INPUT.RESIZE_TEST is "{times.resize}", so every image has a size of its own: export dynamic sizes'
        )
    described = {
        "task": type(model.task).__name__,
        "merge": model.task.merge_spec(),
        "merge_iou": model.task.merge_iou,
        "sources": int(predictions.source.max()) + 1,
        "points": list(predictions.points),
        "clip_points": model.task.clips_points,
        "min_box_area": model.task.min_box_area,
        "limit": model.detections_per_image,
        "nms": model.nms_threshold,
        "score_threshold": model.score_threshold,
        "channel_order": cfg.INPUT.FORMAT,
        "pixel_center": times.pixel_center,
        "resize": times.resize,
        "size": list(size or times.size),
        "divisibility": model.divisibility,
        "pad_always": times.pad_always,
        "fit_width": times.fit_width,
        **metadata.to_dict(),
        "landmark_names": list(metadata.keypoint_names),
    }
    if "corners" in model.task.required_fields:
        if model.nms_threshold:
            raise ValueError("an exported model has no NMS of rotated boxes: set TEST.NMS to 0")
        described["rotated"] = True
    if "box3d" in model.task.required_fields:
        described["calibration"] = list(cfg.MODEL.BOX3D.CALIBRATION)
    return described
