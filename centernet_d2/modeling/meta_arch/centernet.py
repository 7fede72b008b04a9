"""CenterNet for any task: it knows no task and no backbone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Instances
from torch import Tensor

from centernet_d2.checkpoint.detectron2_patch import load_safely
from centernet_d2.config import warn_of_few_candidates, warn_of_unused_keys
from centernet_d2.config.resolution import resolve
from centernet_d2.layers.distributed import average_over_processes
from centernet_d2.modeling.meta_arch.dense_detector import DenseDetector
from centernet_d2.modeling.tasks import Task, build_task
from centernet_d2.structures import Candidates, Targets
from centernet_d2.structures.model_metadata import ModelMetadata
from centernet_d2.structures.transfer import Packed, move


@META_ARCH_REGISTRY.register()
@load_safely
class CenterNet(DenseDetector):
    """Objects as points (Zhou et al. 2019).

    The backbone or neck gives one map per stack, all of one stride: every stack is supervised, the last one predicts.
    A task over a feature pyramid (:mod:`centernet_d2.modeling.tasks.pyramid_base`) takes one map per level instead.

    Args:
        task: heads, and how their maps become objects.
        detections_per_image, score_threshold: what is kept.
        nms_threshold: IoU above which the lower of two detections is removed, whatever their classes; 0: none is.
        metadata: what the outputs mean; it goes into every checkpoint, and comes back from there.
        allow_incomplete_weights: ``SafeCheckpointer`` may fill the model in part, or not at all, for prediction.
        kwargs: of :class:`DenseDetector`.

    Attributes:
        run_network: what :meth:`detect` gets its maps from: :meth:`predict_maps`, or a faster form of it that
            :func:`~centernet_d2.engine.acceleration.accelerate` sets.
    """

    @configurable
    def __init__(
        self,
        *,
        task: Task,
        detections_per_image: int = 100,
        score_threshold: float = 0.0,
        nms_threshold: float = 0.0,
        metadata: ModelMetadata | None = None,
        allow_incomplete_weights: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not 0 <= nms_threshold <= 1:
            raise ValueError(f"TEST.NMS must be an IoU of 0 (off) to 1, not {nms_threshold}")
        self.metadata = metadata or ModelMetadata()
        self.nms_threshold, self.allow_incomplete_weights = nms_threshold, allow_incomplete_weights
        self.task = task
        self.stride = task.bind_strides(self.strides)
        self._network: Callable[[Tensor], dict[str, Tensor]] | None = None
        self.detections_per_image, self.score_threshold = detections_per_image, score_threshold
        self.apply_memory_format()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        warn_of_unused_keys(cfg)
        cfg = resolve(cfg)
        arguments = super().from_config(cfg)
        shapes = (arguments["neck"] or arguments["backbone"]).output_shape()
        task = build_task(cfg, [shape.channels for shape in shapes.values()])
        warn_of_few_candidates(cfg, task.candidate_keys)
        return {
            **arguments,
            "task": task,
            "detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "score_threshold": cfg.MODEL.CENTERNET.SCORE_THRESH_TEST,
            "nms_threshold": cfg.TEST.NMS,
            "metadata": ModelMetadata.from_config(cfg),
            "allow_incomplete_weights": cfg.MODEL.ALLOW_INCOMPLETE_WEIGHTS,
        }

    def compile(self, *args: Any, with_losses: bool = False, **kwargs: Any) -> None:
        """Compile backbone, neck and heads in place, with the arguments of ``torch.compile``; names of weights do not
        change. Targets and candidates depend on the number of objects and would be compiled again and again.

        Args:
            with_losses: compile the losses, too, for training; targets are padded to a few sizes from now on. Losses of
                tasks over a feature pyramid are left as they are.
        """
        self.task.pads_targets = with_losses and self.task.can_pad_targets
        heads = [self.task] if self.task.pads_targets else self.task.heads.values()
        for part in filter(None, (self.backbone, self.neck, *heads)):
            part.compile(*args, **kwargs)

    def reset(self) -> None:
        """Start a new video: the next image does not follow the last one. For networks that use previous frames."""

    def encode_targets(self, batched_inputs: list[dict[str, Any]]) -> tuple[Any, Tensor]:
        """Return, on the host, what the losses of a batch compare with, and the number () of its objects.

        Neither weights nor the device are used, so that it can be done in the loader's worker processes.
        """
        sides = zip(*(x["image"].shape[-2:] for x in batched_inputs), strict=True)
        height, width = (-(-max(side) // self.divisibility) * self.divisibility for side in sides)
        grid_size = (height // self.stride, width // self.stride)
        objects = Targets.from_instances([x["instances"] for x in batched_inputs], self.stride, grid_size)
        return self.task.encode(objects), objects.num_objects

    def forward_training(self, features: list[Tensor], batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
        ready: Packed | None = batched_inputs[0].get("targets")
        # Else on the host, while a GPU still computes the features.
        targets, count = (
            move(self.encode_targets(batched_inputs), self.device) if ready is None else ready.unpack(self.device)
        )
        return self.task(features, targets, average_over_processes(count))

    def detect(self, batched_inputs: list[dict[str, Any]]) -> list[Instances]:
        passes = []
        for scale in self.test_time_augmentation.scales:
            images, factor, shift = self.preprocess_test_image(batched_inputs, scale)
            passes += self.test_time_augmentation.decode(self, images, *move((factor, shift), self.device))
        # Of fixed size until here. What depends on values happens on the host, so that a batch waits once for a GPU.
        merged = move(self.task.merge(Candidates.cat(passes), self.detections_per_image), torch.device("cpu"))
        sizes = [(int(x["image"].shape[-2]), int(x["image"].shape[-1])) for x in batched_inputs]
        detections = merged.to_instances(sizes, self.score_threshold)
        if self.nms_threshold:
            detections = [self.task.suppress(x, self.nms_threshold) for x in detections]
        return [self.task.finish(*pair) for pair in zip(detections, batched_inputs, strict=True)]

    @property
    def run_network(self) -> Callable[[Tensor], dict[str, Tensor]]:
        # Not stored: a model that refers to itself stays in memory until the garbage collector runs.
        return self._network or self.predict_maps

    @run_network.setter
    def run_network(self, network: Callable[[Tensor], dict[str, Tensor]]) -> None:
        self._network = network

    def predict_maps(self, images: Tensor) -> dict[str, Tensor]:
        """Return the heads' float32 maps of normalized images (N, 3, H, W), in inference."""
        return self.task.predict_maps(self.extract_features(images))
