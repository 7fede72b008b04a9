"""Predictions of a task before those of one object are merged."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor


@dataclass
class Candidates:
    """What a task proposes, M per image, before candidates of the same object are merged.

    Attributes:
        boxes: (N, M, 4) float32 x1, y1, x2, y2; grid cells when decoded, image pixels when merged.
        scores: (N, M) float32 in [0, 1]; 0 marks an empty slot.
        classes: (N, M) int64.
        source: (M,) int64, which point (and test-time pass) a candidate was read from: one source proposes an object
            once.
        points: further (N, M, K, 3) x, y, score by name, in the frame of ``boxes``.
        values: further (N, M, ...) by name that have no frame.
        num_passes: test-time passes; candidates of one pass stand together, M / num_passes of each.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    source: Tensor
    points: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Tensor] = field(default_factory=dict)
    num_passes: int = 1

    def transform(self, scale: Tensor, shift: Tensor) -> Candidates:
        """Return coordinates times ``scale`` plus ``shift``, both (N, 2) x, y; a negative x scale flips."""
        scale, shift = scale[:, None], shift[:, None]
        low, high = self.boxes[..., :2] * scale + shift, self.boxes[..., 2:] * scale + shift
        boxes = torch.cat([torch.minimum(low, high), torch.maximum(low, high)], dim=-1)
        points = {
            name: torch.cat([xys[..., :2] * scale[:, :, None] + shift[:, :, None], xys[..., 2:]], dim=-1)
            for name, xys in self.points.items()
        }
        return replace(self, boxes=boxes, points=points)

    @staticmethod
    def cat(parts: list[Candidates]) -> Candidates:
        """Return the union, one part after another; sources are renumbered so that those of
        different parts stay apart."""
        sources, start = [], torch.zeros_like(parts[0].source[0])
        for part in parts:
            sources.append(part.source + start)
            start = start + part.source.max() + 1
        return Candidates(
            torch.cat([p.boxes for p in parts], dim=1),
            torch.cat([p.scores for p in parts], dim=1),
            torch.cat([p.classes for p in parts], dim=1),
            torch.cat(sources),
            {name: torch.cat([p.points[name] for p in parts], dim=1) for name in parts[0].points},
            {name: torch.cat([p.values[name] for p in parts], dim=1) for name in parts[0].values},
            sum(p.num_passes for p in parts),
        )

    def select(self, index: Tensor) -> Candidates:
        """Return rows ``index`` (N, m) of each image, as one source and pass."""

        def get_rows(x: Tensor) -> Tensor:
            return x.gather(1, index.reshape(*index.shape, *[1] * (x.dim() - 2)).expand(*index.shape, *x.shape[2:]))

        points, values = ({name: get_rows(x) for name, x in part.items()} for part in (self.points, self.values))
        source = torch.zeros_like(index[0])
        picked = get_rows(self.boxes), get_rows(self.scores), get_rows(self.classes), source, points, values
        return Candidates(*picked, self.num_passes)

    def to_instances(self, image_sizes: list[tuple[int, int]], score_threshold: float) -> list[Instances]:
        """Return those above ``score_threshold`` as Detectron2's ``Instances``; ``image_sizes`` are (height, width).

        How many there are depends on the scores: to be called on the host.
        """
        results = []
        for i, size in enumerate(image_sizes):
            keep = self.scores[i] > score_threshold
            result = Instances(size)
            result.pred_boxes = Boxes(self.boxes[i][keep])
            result.scores = self.scores[i][keep]
            result.pred_classes = self.classes[i][keep]
            for name, rows in {**self.points, **self.values}.items():
                result.set(f"pred_{name}", rows[i][keep])
            results.append(result)
        return results
