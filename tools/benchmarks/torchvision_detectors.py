"""torchvision's FCOS and RetinaNet as meta-architectures: the same backbone, mapper, trainer and evaluator as ours.

``MODEL.META_ARCHITECTURE`` "TorchvisionFCOS" or "TorchvisionRetinaNet", with ``MODEL.NECK.NAME ""``.
"""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7

from centernet_d2.checkpoint.detectron2_patch import load_safely
from centernet_d2.config.resolution import resolve
from centernet_d2.modeling.meta_arch.dense_detector import DenseDetector
from centernet_d2.structures.model_metadata import ModelMetadata

CHANNELS = 256
STRIDES = (8, 16, 32, 64, 128)


class TorchvisionDetector(DenseDetector):
    """A one-stage detector of torchvision over P3 to P7, with its default heads, losses and thresholds.

    Args:
        num_classes: without a background class.
        detections_per_image: at most so many are kept.
        metadata: what the outputs mean.
        kwargs: of :class:`DenseDetector`.
    """

    @configurable
    def __init__(self, *, num_classes: int, detections_per_image: int, metadata: ModelMetadata, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.metadata, self.allow_incomplete_weights = metadata, False
        shapes = self.backbone.output_shape()
        self.names = [name for name, shape in shapes.items() if shape.stride in STRIDES]
        channels = [shapes[name].channels for name in self.names]
        self.pyramid = FeaturePyramidNetwork(channels, CHANNELS, LastLevelP6P7(CHANNELS, CHANNELS))
        self.detector = self.build_detector(num_classes, score_thresh=0.05, detections_per_img=detections_per_image)
        self.apply_memory_format()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        cfg = resolve(cfg)
        return {
            **super().from_config(cfg),
            "num_classes": cfg.MODEL.CENTERNET.NUM_CLASSES,
            "detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "metadata": ModelMetadata.from_config(cfg),
        }

    def build_detector(self, num_classes: int, **settings: Any) -> nn.Module:
        raise NotImplementedError

    def compute_losses(self, targets: list[dict[str, Tensor]], outputs: dict[str, Tensor], anchors: list[Tensor],
                       counts: list[int]) -> dict[str, Tensor]:  # fmt: skip
        raise NotImplementedError

    def extract_features(self, images: Tensor) -> list[Tensor]:
        """Return P3 to P7, (N, 256, H / stride, W / stride)."""
        maps = self.backbone(images.to(memory_format=self.memory_format))
        return list(self.pyramid({name: maps[name] for name in self.names}).values())

    def apply_heads(self, features: list[Tensor]) -> tuple[dict[str, Tensor], list[Tensor], list[int], tuple[int, int]]:
        """Return outputs of all levels in a row, anchors of each image, their number per level, and the input size."""
        size = (features[0].shape[-2] * STRIDES[0], features[0].shape[-1] * STRIDES[0])
        count = len(features[0])
        images = ImageList(torch.empty(count, 3, *size, device="meta"), [size] * count)
        per_cell = self.detector.anchor_generator.num_anchors_per_location()[0]
        counts = [x.shape[-2] * x.shape[-1] * per_cell for x in features]
        return self.detector.head(features), self.detector.anchor_generator(images, features), counts, size

    def forward_training(self, features: list[Tensor], batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
        targets = []
        for sample in batched_inputs:
            objects = sample["instances"].to(self.device)
            if objects.has("gt_iscrowd"):
                objects = objects[objects.gt_iscrowd == 0]
            targets.append({"boxes": objects.gt_boxes.tensor.float(), "labels": objects.gt_classes})
        outputs, anchors, counts, _ = self.apply_heads(features)
        return self.compute_losses(targets, outputs, anchors, counts)

    def detect(self, batched_inputs: list[dict[str, Any]]) -> list[Instances]:
        images, factor, shift = self.preprocess_test_image(batched_inputs, 1.0)
        outputs, anchors, counts, size = self.apply_heads(self.extract_features(images))
        levels = {name: list(x.split(counts, dim=1)) for name, x in outputs.items()}
        split = [list(x.split(counts)) for x in anchors]
        detections = self.detector.postprocess_detections(levels, split, [size] * len(anchors))
        results = []
        for sample, detection, a, b in zip(batched_inputs, detections, factor, shift, strict=True):
            boxes = Boxes(detection["boxes"].cpu() * a.repeat(2) + b.repeat(2))
            boxes.clip(sample["image"].shape[-2:])
            fields = {
                "pred_boxes": boxes,
                "scores": detection["scores"].cpu(),
                "pred_classes": detection["labels"].cpu(),
            }
            results.append(Instances(tuple(sample["image"].shape[-2:]), **fields))
        return results


@META_ARCH_REGISTRY.register()
@load_safely
class TorchvisionFCOS(TorchvisionDetector):
    """FCOS (Tian et al. 2019)."""

    def build_detector(self, num_classes: int, **settings: Any) -> nn.Module:
        anchors = AnchorGenerator(tuple((stride,) for stride in STRIDES), ((1.0,),) * len(STRIDES))
        return FCOS(_Pyramid(), num_classes, anchor_generator=anchors, **settings)

    def compute_losses(self, targets: list[dict[str, Tensor]], outputs: dict[str, Tensor], anchors: list[Tensor],
                       counts: list[int]) -> dict[str, Tensor]:  # fmt: skip
        return self.detector.compute_loss(targets, outputs, anchors, counts)


@META_ARCH_REGISTRY.register()
@load_safely
class TorchvisionRetinaNet(TorchvisionDetector):
    """RetinaNet (Lin et al. 2017)."""

    def build_detector(self, num_classes: int, **settings: Any) -> nn.Module:
        sizes = tuple(tuple(4 * stride * 2 ** (i / 3) for i in range(3)) for stride in STRIDES)
        anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(STRIDES))
        return RetinaNet(_Pyramid(), num_classes, anchor_generator=anchors, **settings)

    def compute_losses(self, targets: list[dict[str, Tensor]], outputs: dict[str, Tensor], anchors: list[Tensor],
                       counts: list[int]) -> dict[str, Tensor]:  # fmt: skip
        return self.detector.compute_loss(targets, outputs, anchors)


class _Pyramid(nn.Module):
    """Tells torchvision's classes how many channels there are; the features come from outside."""

    out_channels = CHANNELS
