"""The meta-architecture: images in, losses or ``Instances`` out. It knows no task and no backbone."""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import Any

import torch
import torch.distributed
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone, detector_postprocess
from detectron2.structures import ImageList, Instances
from detectron2.utils import comm
from torch import Tensor, nn

from centernet_d2.checkpoint.detectron2_patch import safely_loaded
from centernet_d2.data.datasets.custom import register_custom_datasets, resolve_num_classes
from centernet_d2.modeling.neck import Neck, build_neck
from centernet_d2.modeling.tasks import Task, build_task
from centernet_d2.modeling.test_time_augmentation import TestTimeAugmentation, prepare
from centernet_d2.structures import Candidates, Targets


@META_ARCH_REGISTRY.register()
@safely_loaded
class CenterNet(nn.Module):
    """Objects as points (Zhou et al. 2019), for any task.

    Args:
        backbone, neck: give one stride-4 map per stack, in order; every stack is supervised, the last one is read.
        task: heads, and how their maps become objects.
        test_time_augmentation: input size, scales and flipping of prediction.
        pixel_mean, pixel_std: per channel, in the order and range (0..255) of the images.
        detections_per_image, score_threshold: what is kept.
        channels_last: order of weights and maps in memory, which is faster on some devices; results are the same.
            Left out where it is not safe.

    Attributes:
        input_channels: of what the backbone takes.
    """

    input_channels = 3
    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        neck: Neck | None,
        task: Task,
        test_time_augmentation: TestTimeAugmentation,
        pixel_mean: list[float],
        pixel_std: list[float],
        detections_per_image: int = 100,
        score_threshold: float = 0.0,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        self.backbone, self.neck, self.task, self.test_time_augmentation = backbone, neck, task, test_time_augmentation
        self.detections_per_image, self.score_threshold = detections_per_image, score_threshold
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)
        shapes = (neck or backbone).output_shape()
        strides = {shape.stride for shape in shapes.values()}
        if len(strides) != 1:
            raise ValueError(f"all maps must have one stride, not {shapes}: name a neck (MODEL.NECK.NAME)")
        self.stride = strides.pop()
        spoilt = _corrupt_in_channels_last(self)
        if channels_last and spoilt:
            logging.getLogger(__name__).info(
                "MODEL.CHANNELS_LAST is off in this network: PyTorch's backward pass on a CPU would corrupt memory at %s",
                ", ".join(spoilt),
            )
        self.memory_format = torch.channels_last if channels_last and not spoilt else torch.preserve_format
        self.to(memory_format=self.memory_format)  # type: ignore[call-overload]  # PyTorch's types lack it

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        register_custom_datasets(cfg)
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.CENTERNET.NUM_CLASSES = resolve_num_classes(cfg)
        backbone = build_backbone(cfg)
        neck = build_neck(cfg, backbone.output_shape()) if cfg.MODEL.NECK.NAME else None
        shapes = (neck or backbone).output_shape()
        return {
            "backbone": backbone,
            "neck": neck,
            "task": build_task(cfg, [shape.channels for shape in shapes.values()]),
            "test_time": TestTimeAugmentation.from_config(cfg),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "score_threshold": cfg.MODEL.CENTERNET.SCORE_THRESH_TEST,
            "channels_last": cfg.MODEL.CHANNELS_LAST,
        }

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Losses in training, else one ``{"instances": Instances}`` per image.

        Args:
            batched_inputs: Detectron2's dicts. Training: ``image`` (3, H, W) at network size and ``instances`` with
                ``gt_boxes`` in its pixels. Testing: ``image`` as it was read, 0..255; boxes come back in pixels of
                ``height`` and ``width`` where given, else of ``image``.
        """
        return self.losses(batched_inputs) if self.training else self.predict(batched_inputs)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Backbone, neck and heads, in place, with the arguments of ``torch.compile``; names of weights stay as they
        are. Targets, losses and candidates depend on how many objects there are, and would be compiled again and again.
        """
        for part in filter(None, (self.backbone, self.neck, *self.task.heads.values())):
            part.compile(*args, **kwargs)

    def reset(self) -> None:
        """What follows has nothing to do with the images before: for networks that look at those, too."""

    def losses(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Scalar losses by name; sums over processes are what one process would have."""
        images = self.training_input(batched_inputs)
        grid_size = (images.shape[-2] // self.stride, images.shape[-1] // self.stride)
        objects = Targets.from_instances([x["instances"] for x in batched_inputs], self.stride, grid_size)
        objects = objects.to(self.device)
        targets = self.task.targets(objects)
        return self.task.losses(self.features(images), targets, _mean_over_processes(objects.num_objects))

    def training_input(self, batched_inputs: list[dict[str, Any]]) -> Tensor:
        """What the backbone takes, (N, 3, H, W) here, of training images."""
        return self.normalize([x["image"] for x in batched_inputs])

    def normalize(self, images: list[Tensor]) -> Tensor:
        """(N, 3, H, W) float32 on the model's device, padded at the right and below with the mean color."""
        normalized = [(x.to(self.device, non_blocking=True) - self.pixel_mean) / self.pixel_std for x in images]
        return ImageList.from_tensors(normalized, self.divisibility).tensor

    def features(self, images: Tensor) -> list[Tensor]:
        """The stacks' (N, c, H / R, W / R) maps of normalised images."""
        maps = self.backbone(images.to(memory_format=self.memory_format))
        return list((self.neck(maps) if self.neck is not None else maps).values())

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        """The heads' float32 maps of normalised images (N, 3, H, W), in prediction."""
        return self.task.outputs(self.features(images)[-1])

    @torch.no_grad()
    def predict(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Images of one network size go through together; the answer does not depend on the company."""
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i, x in enumerate(batched_inputs):
            groups[self.test_time_augmentation.input_size(tuple(x["image"].shape[-2:]), 1.0, self.divisibility)].append(
                i
            )
        results: list[dict[str, Any]] = [{} for _ in batched_inputs]
        for members in groups.values():
            for i, predictions in zip(members, self.predictions([batched_inputs[i] for i in members]), strict=True):
                results[i] = {"instances": self.rescaled(predictions, batched_inputs[i])}
        return results

    def predictions(self, inputs: list[dict[str, Any]]) -> list[Instances]:
        """The objects of images of one network size, in pixels of ``image``."""
        passes = []
        for scale in self.test_time_augmentation.scales:
            passes += self._candidates(*self.test_input(inputs, scale))
        merged = self.task.merge(Candidates.cat(passes), self.detections_per_image)
        predictions = merged.to_instances([tuple(x["image"].shape[-2:]) for x in inputs], self.score_threshold)
        return [self.task.finish(*pair) for pair in zip(predictions, inputs, strict=True)]

    @staticmethod
    def rescaled(instances: Instances, sample: dict[str, Any]) -> Instances:
        """In pixels of ``height`` and ``width`` of the sample, where given."""
        height, width = instances.image_size
        return detector_postprocess(instances, sample.get("height", height), sample.get("width", width))

    def test_input(self, inputs: list[dict[str, Any]], scale: float) -> tuple[Tensor, Tensor, Tensor]:
        """What the backbone takes, (N, 3, H, W) here, of images that share its size, at one test-time scale; and the
        way back to their pixels, scale and shift (N, 2) x, y."""
        images, factor, shift = prepare(
            [x["image"] for x in inputs], self.test_time_augmentation, scale, self.divisibility
        )
        return self.normalize(images), factor.to(self.device), shift.to(self.device)

    @property
    def divisibility(self) -> int:
        """What both sides of the network's input are multiples of."""
        parts = (self.backbone, self.neck) if self.neck is not None else (self.backbone,)
        return max(self.stride, *(part.size_divisibility for part in parts))

    def outputs_of_both(self, batch: Tensor, at_once: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """:meth:`outputs` of ``batch`` (N, 3, H, W) and of its flipped images.

        Args:
            at_once: in one batch of 2N, which fills a GPU; on a CPU two are a little quicker where maps are large (less
                leaves the caches), and slower where they are small.
        """
        flipped = batch.flip(-1)
        if not at_once:
            return self.outputs(batch), self.outputs(flipped)
        both = self.outputs(torch.cat([batch, flipped]))
        count = len(batch)
        return {name: x[:count] for name, x in both.items()}, {name: x[count:] for name, x in both.items()}

    def _candidates(self, batch: Tensor, scale: Tensor, shift: Tensor) -> list[Candidates]:
        """Candidates in image pixels of one test-time scale; ``scale`` and ``shift`` (N, 2) lead from the input to
        the image."""
        if not self.test_time_augmentation.flip:
            return [self.task.candidates(self.outputs(batch)).transformed(scale * self.stride, shift)]
        outputs, flipped = self.outputs_of_both(batch, at_once=batch.is_cuda)
        if self.task.flip_closed:
            outputs = self.task.merge_flipped(outputs, flipped)
            return [self.task.candidates(outputs).transformed(scale * self.stride, shift)]
        flip = scale.new_tensor([-1.0, 1.0])
        far_side = shift + scale * scale.new_tensor([batch.shape[-1], 0.0])
        return [
            self.task.candidates(outputs).transformed(scale * self.stride, shift),
            self.task.candidates(flipped).transformed(scale * self.stride * flip, far_side),
        ]


def _corrupt_in_channels_last(model: nn.Module) -> list[str]:
    """Names of the convolutions whose gradient on a CPU writes beyond its memory when channels are innermost.

    A fault of oneDNN (https://github.com/uxlfoundation/oneDNN/issues/6035; seen in PyTorch 2.11.0, reported up to
    2.14.0): float32, 1x1, a stride of 2, fewer than 16 input channels (8 on CPUs without AVX-512), any number of
    threads. No published network has such a layer.
    """
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
        and max(module.kernel_size) == 1
        and max(module.stride) > 1
        and module.in_channels < 16
    ]


def _mean_over_processes(num_objects: Tensor) -> Tensor:
    """Objects per process, counted over all of them and at least one in all.

    Gradients are averaged over processes, so dividing by this equals one process with the whole batch.
    """
    world = comm.get_world_size()
    if world > 1:
        num_objects = num_objects.clone()
        torch.distributed.all_reduce(num_objects)
    return num_objects.clamp(min=1) / world
