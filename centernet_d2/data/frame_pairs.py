"""The previous frame for training a tracker: which frame, its warp, and the simulated detections in it."""

# Random numbers come from NumPy's global state, which the loader seeds for each image.
# ruff: noqa: NPY002

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.transforms import TransformList
from detectron2.structures import Instances
from torch import Tensor

from centernet_d2.data.image_io import DatasetDict
from centernet_d2.data.transforms.affine import AffineTransform


class FramePairs(Sequence[DatasetDict]):
    """Dataset dicts, each with a random nearby frame of its video as "previous".

    Args:
        dataset_dicts: those of a video follow each other in the order of "frame". One without "video_id" is a
            single-frame video.
        max_distance: largest distance in frames, in either direction; 0: the frame itself.
    """

    def __init__(self, dataset_dicts: Sequence[DatasetDict], max_distance: int) -> None:
        self.dataset_dicts = dataset_dicts
        positions = [_get_frame(dataset_dict, index) for index, dataset_dict in enumerate(dataset_dicts)]
        first = 0
        self._ranges: list[tuple[int, int]] = []
        for index, (video, frame) in enumerate(positions):
            while positions[first][0] != video or positions[first][1] < frame - max_distance:
                first += 1
            last = index
            while (
                last + 1 < len(positions)
                and positions[last + 1][0] == video
                and positions[last + 1][1] <= frame + max_distance
            ):
                last += 1
            self._ranges.append((first, last))

    def __len__(self) -> int:
        return len(self.dataset_dicts)

    def __getitem__(self, index: Any) -> Any:
        first, last = self._ranges[index]
        return {**self.dataset_dicts[index], "previous": self.dataset_dicts[np.random.randint(first, last + 1)]}


def _get_frame(dataset_dict: DatasetDict, index: int) -> tuple[Any, int]:
    return (dataset_dict["video_id"], dataset_dict["frame"]) if "video_id" in dataset_dict else (("image", index), 0)


@dataclass(frozen=True)
class PreviousFrames:
    """Settings of the previous frame (Zhou et al. 2020, "Tracking Objects as Points", section 4.4).

    Attributes:
        shift, scale: standard deviations of its additional shift (fraction of the input's longer side) and zoom,
            clipped at two deviations of the shift and one of the zoom.
        center_noise: standard deviation of the noise added to an object's position, in widths and heights.
        lost_prob: probability of a missed object (false negative).
        false_prob: probability of a false positive close to an object.
    """

    shift: float = 0.0
    scale: float = 0.0
    center_noise: float = 0.05
    lost_prob: float = 0.4
    false_prob: float = 0.1

    @classmethod
    def from_config(cls, cfg: CfgNode) -> PreviousFrames:
        settings = cfg.MODEL.TRACKING
        return cls(settings.SHIFT, settings.SCALE, settings.HEATMAP_JITTER, settings.FN_PROB, settings.FP_PROB)

    def sample_transforms(self, transforms: TransformList) -> TransformList:
        """Sample the transforms of the previous frame: those of the current one, slightly shifted and zoomed."""
        return TransformList(
            [self._jitter_affine(one) if isinstance(one, AffineTransform) else one for one in transforms.transforms]
        )

    def _jitter_affine(self, affine: AffineTransform) -> AffineTransform:
        if self.shift == self.scale == 0:
            return affine
        height, width = affine.output_size
        zoom = 1 + np.clip(np.random.randn() * self.scale, -self.scale, self.scale)
        shift = max(height, width) * np.clip(np.random.randn(2) * self.shift, -2 * self.shift, 2 * self.shift)
        center = np.array([width, height]) / 2
        matrix = affine.matrix * zoom
        matrix[:, 2] += (1 - zoom) * center + shift
        return AffineTransform(matrix, affine.output_size, affine.pixel_center)

    def sample_detections(self, boxes: Tensor) -> Tensor:
        """Simulate detections (T, 4) of ``boxes`` (P, 4), x1, y1, x2, y2: some are missed, some are false positives."""
        size = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)

        def add_noise(deviation: float) -> Tensor:
            return boxes + torch.from_numpy(np.random.randn(len(boxes), 2)).float().repeat(1, 2) * size * deviation

        near, false = add_noise(self.center_noise), add_noise(_FALSE_NOISE)
        lost, doubled = np.random.rand(2, len(boxes))
        return torch.cat([near[lost >= self.lost_prob], false[doubled < self.false_prob]])


# Standard deviation of a false positive's distance to its object, in widths and heights (CenterTrack).
_FALSE_NOISE = 0.05


def find_previous_centers(ids: Tensor, before: Instances) -> Tensor:
    """Return (P, 1, 3) float32: x, y of the centers in ``before`` of the objects with track ids ``ids`` (P,), and 1;
    zeros for ids that ``before`` lacks."""
    same = ids[:, None] == before.gt_track_ids  # (P, Q)
    known = same.any(dim=1, keepdim=True)
    centers = torch.cat([same.float() @ before.gt_boxes.get_centers(), known.float()], dim=1)
    return centers[:, None]
