"""The base of the meta-architectures: images in, losses or ``Instances`` out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import torch
from detectron2.config import CfgNode
from detectron2.modeling import Backbone, build_backbone, detector_postprocess
from detectron2.structures import ImageList, Instances
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from centernet_d2.layers.deform_conv import set_deform_conv
from centernet_d2.layers.memory_format import choose_memory_format
from centernet_d2.modeling.neck import Neck, build_neck
from centernet_d2.modeling.test_time_augmentation import TestTimeAugmentation, check_tensor


class DenseDetector(nn.Module, ABC):
    """Backbone, neck, and what every dense detector does with images. Subclasses add the heads.

    Args:
        backbone, neck: together give the feature maps, one or several of each stride.
        test_time_augmentation: input size, scales and flip of prediction.
        pixel_mean, pixel_std: per channel, in the order and range (0..255) of the images.
        channels_last: order of weights and maps in memory, which is faster on some devices; results are the same. It
            is left out where it is not safe.
        deform_conv: a name of :data:`~centernet_d2.layers.deform_conv.KERNELS`.
        backbone_norm_eval: batch normalizations of the backbone stay in evaluation mode.

    Attributes:
        strides: of the feature maps in input pixels, in ascending order.
        input_channels: of what the backbone takes.
        input_names: of the parts of it, in the order of their channels.
    """

    input_channels = 3
    input_names: tuple[str, ...] = ("image",)
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        *,
        backbone: Backbone,
        neck: Neck | None,
        test_time_augmentation: TestTimeAugmentation,
        pixel_mean: list[float],
        pixel_std: list[float],
        channels_last: bool = True,
        deform_conv: str = "auto",
        backbone_norm_eval: bool = False,
    ) -> None:
        super().__init__()
        self.backbone, self.neck, self.test_time_augmentation = backbone, neck, test_time_augmentation
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)
        self.strides = tuple(sorted({shape.stride for shape in (neck or backbone).output_shape().values()}))
        self.channels_last, self.backbone_norm_eval = channels_last, backbone_norm_eval
        set_deform_conv(self, deform_conv)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "neck": build_neck(cfg, backbone.output_shape()) if cfg.MODEL.NECK.NAME else None,
            "test_time_augmentation": TestTimeAugmentation.from_config(cfg),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "channels_last": cfg.MODEL.CHANNELS_LAST,
            "deform_conv": cfg.MODEL.DEFORM_CONV,
            "backbone_norm_eval": cfg.MODEL.BACKBONE.NORM_EVAL,
        }

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.backbone_norm_eval:
            for module in self.backbone.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def apply_memory_format(self) -> None:
        """Set the memory format. To be called at the end of ``__init__``, when all layers exist."""
        self.memory_format = choose_memory_format(self, self.channels_last)
        self.to(memory_format=self.memory_format)  # type: ignore[call-overload]  # PyTorch's types lack it

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    @property
    def divisibility(self) -> int:
        """The number that divides both sides of the network's input."""
        parts = (self.backbone, self.neck) if self.neck is not None else (self.backbone,)
        return max(self.strides[0], *(part.size_divisibility for part in parts))

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Return losses in training, else one ``{"instances": Instances}`` per image, on the host.

        Args:
            batched_inputs: Detectron2's dicts. Training: ``image`` (3, H, W) at network size and ``instances`` with
                ``gt_boxes`` in its pixels; the first may have the ``targets`` of all. Inference: ``image`` as it was
                read, 0..255; boxes come back in pixels of ``height`` and ``width`` where given, else of ``image``.

        Raises:
            TypeError, ValueError: in inference, an ``image`` is none, see
                :func:`~centernet_d2.modeling.test_time_augmentation.check_tensor`.
        """
        if not self.training:
            return self.inference([{**x, "image": check_tensor(x["image"])} for x in batched_inputs])
        assert "instances" in batched_inputs[0], "instances are missing in training"
        images = self.preprocess_image(batched_inputs)
        features = self.extract_features(images)
        return self.forward_training(features, batched_inputs)

    @torch.no_grad()
    def inference(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return one ``{"instances": Instances}`` per image.

        Images of equal input size share a batch; results do not depend on it.
        """
        results: list[dict[str, Any]] = [{} for _ in batched_inputs]
        sizes = [(int(x["image"].shape[-2]), int(x["image"].shape[-1])) for x in batched_inputs]
        for group in self.test_time_augmentation.group(sizes, self.divisibility):
            detections = self.detect([batched_inputs[i] for i in group])
            for i, instances in zip(group, detections, strict=True):
                results[i] = {"instances": self.rescale_to_original(instances, batched_inputs[i])}
        return results

    @abstractmethod
    def forward_training(self, features: list[Tensor], batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Return scalar losses by name; sums over processes are what one process would have."""

    @abstractmethod
    def detect(self, batched_inputs: list[dict[str, Any]]) -> list[Instances]:
        """Return the objects of images that share an input size, on the host, in pixels of ``image``."""

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> Tensor:
        """Return what the backbone takes, here (N, 3, H, W), of training images."""
        return self.normalize([x["image"] for x in batched_inputs])

    def preprocess_test_image(
        self, batched_inputs: list[dict[str, Any]], scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the backbone takes, here (N, 3, H, W), of images that share its size, at one test-time scale; and
        the map back to their pixels, scale and shift (N, 2) x, y on the host."""
        images = [x["image"] for x in batched_inputs]
        inputs, factor, shift = self.test_time_augmentation.letterbox(images, scale, self.divisibility)
        return self.normalize(inputs), factor, shift

    def normalize(self, images: list[Tensor]) -> Tensor:
        """Return (N, 3, H, W) float32 on the model's device, padded at the right and below with the mean color."""
        normalized = [(x.to(self.device, non_blocking=True) - self.pixel_mean) / self.pixel_std for x in images]
        return ImageList.from_tensors(normalized, self.divisibility).tensor

    def extract_features(self, images: Tensor) -> list[Tensor]:
        """Return the (N, c, H / R, W / R) maps of normalized images, in the order of the backbone or neck."""
        maps = self.backbone(images.to(memory_format=self.memory_format))
        return list((self.neck(maps) if self.neck is not None else maps).values())

    @staticmethod
    def rescale_to_original(instances: Instances, sample: dict[str, Any]) -> Instances:
        """Return the objects in pixels of the sample's ``height`` and ``width``, if given."""
        height, width = instances.image_size
        scale = torch.tensor([sample.get("width", width) / width, sample.get("height", height) / height])
        for name in ("pred_extreme_points", "pred_contour"):  # which Detectron2 does not know
            if instances.has(name):
                points = instances.get(name)
                points[..., :2] *= scale.to(points.device)
        if instances.has("pred_keypoint_covariance"):
            instances.pred_keypoint_covariance *= torch.outer(scale, scale).to(instances.pred_keypoint_covariance)
        if instances.has("pred_rotated_boxes"):
            instances.pred_rotated_boxes.scale(*scale.tolist())
        return detector_postprocess(instances, sample.get("height", height), sample.get("width", width))
