"""CenterNet that looks at the previous frame as well, and follows objects through a video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes
from torch import Tensor

from centernet_d2.checkpoint.detectron2_patch import load_safely
from centernet_d2.modeling.backbone.previous_frame_stem import CHANNELS, PreviousFrameStem
from centernet_d2.modeling.meta_arch.centernet import CenterNet
from centernet_d2.ops.gaussian import compute_window_radius, splat_gaussians
from centernet_d2.ops.indexing import gather_cells
from centernet_d2.structures.transfer import move
from centernet_d2.tracking.tracker import Tracker

#: What gives each object's center in the previous frame.
_HEAD, _FIELD = "DisplacementHead", "pred_displacement"


@META_ARCH_REGISTRY.register()
@load_safely
class CenterTrack(CenterNet):
    """Tracking objects as points (Zhou et al. 2020), for any task that has one center for each object.

    Training images come with ``previous_image`` (3, H, W) of their size and ``previous_boxes``, what is shown of its
    objects, in its pixels. In prediction each image follows the one before, in the order of the calls: a frame of the
    same video, unless ``video_id`` or the image's size changes, or :meth:`reset` was called. The first frame of a
    video is its own previous frame, without objects. Instances have ``pred_track_ids`` and ``pred_displacement`` (P,
    2), pixels back to the previous frame.

    Args:
        tracker: gives track ids.
        min_overlap, radius_method: of the Gaussians in the heatmap of the previous frame, as for those of centers
            (:func:`~centernet_d2.ops.gaussian.window_radius`), but in input pixels.
    """

    input_channels = sum(CHANNELS)
    input_names = ("image", "previous_image", "previous_heatmap")
    required_fields = ("track_ids", "previous_frame")

    @configurable
    def __init__(
        self, *, tracker: Tracker, min_overlap: float = 0.7, radius_method: str = "cornernet", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.tracker = tracker
        self.min_overlap, self.radius_method = min_overlap, radius_method
        self.previous_frame = PreviousFrameStem(self.backbone)
        self.reset()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        settings = cfg.MODEL.TRACKING
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.CENTERNET.EXTRA_HEADS = list(dict.fromkeys([*cfg.MODEL.CENTERNET.EXTRA_HEADS, _HEAD]))
        tracker = Tracker(settings.SCORE_THRESH, settings.NEW_THRESH, settings.HEATMAP_THRESH, settings.MAX_AGE)
        return {
            **super().from_config(cfg),
            "tracker": tracker,
            "min_overlap": cfg.MODEL.CENTERNET.GAUSSIAN_MIN_OVERLAP,
            "radius_method": cfg.MODEL.CENTERNET.GAUSSIAN_RADIUS,
        }

    def reset(self) -> None:
        """Start a new video."""
        self.tracker.reset()
        self._video: Any = None
        self._image: Tensor | None = None

    def train(self, mode: bool = True) -> CenterTrack:
        """Set the mode as usual, and start a new video."""
        self.reset()
        return super().train(mode)

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> Tensor:
        """Return (N, 7, H, W): image, previous image, and heatmap of the previous objects."""
        images = super().preprocess_image(batched_inputs)
        previous = self.normalize([x["previous_image"] for x in batched_inputs])
        return self._add_previous(images, previous, [x["previous_boxes"] for x in batched_inputs])

    def preprocess_test_image(self, inputs: list[dict[str, Any]], scale: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return (N, 7, H, W), and scale and shift; ``inputs`` have ``previous_image`` and ``previous_boxes`` (T, 4) in
        image pixels."""
        images, factor, shift = super().preprocess_test_image(inputs, scale)
        previous, _, _ = super().preprocess_test_image([{"image": x["previous_image"]} for x in inputs], scale)
        boxes = [
            (x["previous_boxes"].to(shift) - back.repeat(2)) / zoom.repeat(2)
            for x, back, zoom in zip(inputs, shift, factor, strict=True)
        ]
        return self._add_previous(images, previous, boxes), factor, shift

    def _add_previous(self, images: Tensor, previous: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        height, width = images.shape[-2:]
        return torch.cat([images, previous, self.render_heatmap(boxes, (height, width))], dim=1)

    def render_heatmap(self, boxes: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Return (N, 1, H, W) float32 in 0..1: Gaussians at the centers of each image's ``boxes`` (T, 4), on the host,
        input pixels. Boxes are cut to the input."""
        counts = torch.tensor([len(x) for x in boxes])
        inside = Boxes(torch.cat([x.cpu().float() for x in boxes]).reshape(-1, 4))
        inside.clip(size)
        kept, corners = inside.nonempty(), inside.tensor
        channel = torch.arange(len(counts)).repeat_interleave(counts)[kept]
        corners = corners[kept]
        radius = compute_window_radius(corners[:, 2:] - corners[:, :2], self.min_overlap, self.radius_method, False)
        centers = (corners[:, None, :2] + corners[:, None, 2:]) / 2
        maps = splat_gaussians(gather_cells(centers, size), channel[:, None], radius, (len(counts), 1, *size))
        return move(maps, self.device).to_dense()

    @torch.no_grad()
    def inference(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Detect and track frame after frame."""
        return [self._predict_next_frame(x) for x in batched_inputs]

    def _predict_next_frame(self, x: dict[str, Any]) -> dict[str, Any]:
        image, video = x["image"], x.get("video_id")
        if self._image is None or self._image.shape != image.shape or self._video != video:
            self.reset()
        previous = image if self._image is None else self._image
        sample = {**x, "previous_image": previous, "previous_boxes": self.tracker.select_visible_boxes()}
        (predictions,) = self.detect([sample])
        where = predictions.get(_FIELD)[:, 0, :2]
        predictions.remove(_FIELD)
        predictions.pred_displacement = where - predictions.pred_boxes.get_centers()
        self._video, self._image = video, image
        return {"instances": self.rescale_to_original(self.tracker.update(predictions, where), x)}
