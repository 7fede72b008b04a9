"""What a task is: heads, and the way from their maps to objects."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from torch import Tensor, nn
from torchvision.ops import nms

from centernet_d2.modeling.heads import Head
from centernet_d2.ops.indexing import make_image_index
from centernet_d2.registry import TASK_REGISTRY
from centernet_d2.structures import Candidates, Targets


class Task(nn.Module, ABC):
    """Names its heads and turns their maps into candidates, and candidates into objects.

    Args:
        heads: by the name that appears in ``loss_<name>`` and in checkpoints. Those outside :attr:`task_heads` are
            extra heads: they are trained too, and read at the candidates if they decode.
    """

    #: What training needs of an object besides box and class: names of ``data.fields.FIELDS``, or of annotation fields.
    required_fields: tuple[str, ...] = ()
    task_heads: tuple[str, ...] = ()
    #: IoU of "nms" and "linear_soft_nms" in :meth:`merge_spec`.
    merge_iou: float = 0.0
    #: Config keys of the numbers of candidates that are read from an image's maps.
    candidate_keys: tuple[str, ...] = ()
    #: Whether :meth:`finish` moves points outside the image to its border, and the area above which it keeps boxes, in
    #: square image pixels.
    clips_points = False
    min_box_area: float = 0.0
    # Whether maps of a flipped image can be averaged with the image's own; else its candidates are added.
    flip_closed = True
    #: Whether targets are padded to a few sizes (``Head.pad``), and whether they can be.
    pads_targets = False
    can_pad_targets = True

    def __init__(self, heads: dict[str, Head]) -> None:
        super().__init__()
        self.heads = nn.ModuleDict(heads)

    def items(self) -> list[tuple[str, Head]]:
        """Return the heads with their names."""
        return [(name, cast(Head, head)) for name, head in self.heads.items()]

    def bind_strides(self, strides: Sequence[int]) -> int:
        """Take the strides of the feature maps; return the unit of coordinates in :meth:`encode` and :meth:`decode`.

        The unit is in input pixels. Here it is the stride of the maps, so that coordinates are in grid cells.

        Raises:
            ValueError: the maps have several strides.
        """
        if len(strides) != 1:
            raise ValueError(f"all maps must have one stride, not {tuple(strides)}: name a neck (MODEL.NECK.NAME)")
        return strides[0]

    def prepare(self, objects: Targets) -> Targets:
        """Return the objects with what the heads need besides boxes and classes."""
        return objects

    def encode(self, objects: Targets) -> dict[str, Any]:
        """Return every head's target. Objects and targets are on the host: how many there are decides all shapes."""
        with torch.no_grad():
            objects = self.prepare(objects)
            targets = ((name, head, head.encode(objects)) for name, head in self.items())
            return {name: head.pad(x) if self.pads_targets else x for name, head, x in targets}

    def forward(self, features: Sequence[Tensor], targets: Any, num_objects: Tensor) -> dict[str, Tensor]:
        """Return :meth:`losses`. ``compile`` compiles this."""
        return self.losses(features, targets, num_objects)

    def losses(self, features: Sequence[Tensor], targets: dict[str, Any], num_objects: Tensor) -> dict[str, Tensor]:
        """Return scalar losses, weighted, averaged over the stacks' (N, c, H, W) ``features``."""
        losses = {}
        for name, head in self.items():
            stacks = [head.loss(output, targets[name], num_objects) for output in head(features)]
            losses[f"loss_{name}"] = head.loss_weight * torch.stack(stacks).mean()
        return losses

    def predict_maps(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return every head's float32 map (N, D, H, W) of the last stack's feature map."""
        return {name: head([features[-1]])[-1].float() for name, head in self.items()}

    def encode_dense(self, objects: Targets) -> dict[str, Tensor]:
        """Return the maps of a perfect network: decoding them gives the objects back."""
        objects = self.prepare(objects)
        return {name: head.encode_dense(objects) for name, head in self.items()}

    def merge_flipped(self, outputs: dict[str, Tensor], flipped: dict[str, Tensor]) -> dict[str, Tensor]:
        """Merge the maps of images and of their flipped copies."""
        return {name: head.merge_flipped(outputs[name], flipped[name]) for name, head in self.items()}

    def add_extra_predictions(self, predictions: Candidates, outputs: dict[str, Tensor], cells: Tensor) -> Candidates:
        """Return the candidates with the predictions of the extra heads at ``cells`` (N, M, 2), the candidates'
        centers."""
        points, values, image_index = (
            dict(predictions.points),
            dict(predictions.values),
            make_image_index(predictions.scores),
        )
        for name, head in self.items():
            value = None if name in self.task_heads else head.decode(outputs[name], image_index, cells)
            if value is not None:
                (points if head.decodes_points else values)[name] = value
        return replace(predictions, points=points, values=values)

    @abstractmethod
    def decode(self, outputs: dict[str, Tensor]) -> Candidates:
        """Return candidates in grid cells, M per image."""

    def unflip_candidates(self, candidates: Candidates) -> Candidates:
        """Return candidates of a flipped image, whose coordinates were flipped back, with left and right exchanged.

        Only called where maps cannot be averaged (``flip_closed`` is False).
        """
        return candidates

    @abstractmethod
    def merge(self, candidates: Candidates, limit: int) -> Candidates:
        """Return at most ``limit`` objects per image, in descending order of score; coordinates in image pixels."""

    def merge_spec(self) -> str:
        """Return how ``runtime.merging.merge`` merges candidates in an exported model: "top", "soft_nms", "vote",
        "extreme_points", "nms" or "linear_soft_nms"."""
        return "soft_nms"

    def decode_for_export(self, maps: dict[str, Tensor]) -> Candidates:
        """Return :meth:`decode`'s candidates after those steps of :meth:`merge` that ``runtime.merging`` lacks."""
        return self.decode(maps)

    def suppress(self, instances: Instances, threshold: float) -> Instances:
        """Return the objects without the lower of two whose IoU is above ``threshold``, whatever their classes, highest
        score first; before :meth:`finish`."""
        return instances[nms(instances.pred_boxes.tensor, instances.scores, threshold)]

    def finish(self, instances: Instances, sample: dict[str, Any]) -> Instances:
        """Return the objects of one image with values that need more than its maps.

        Args:
            instances: in pixels of the image as the model got it, which ``image_size`` says; may be changed.
            sample: the image's input, without which there is no answer to "where was the camera?".
        """
        return instances


def build_task(cfg: CfgNode, in_channels: Sequence[int]) -> Task:
    """Build the task ``cfg.MODEL.CENTERNET.TASK``."""
    return TASK_REGISTRY.get(cfg.MODEL.CENTERNET.TASK)(cfg, in_channels)
