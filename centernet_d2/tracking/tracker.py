"""Greedy association of each frame's objects with the tracks so far (Zhou et al. 2020, "Tracking Objects as Points",
section 4.3)."""

from __future__ import annotations

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor


class Tracker:
    """The tracks of one video.

    Highest-scoring first, each object takes the nearest free track of its class around its predicted previous center,
    within the square root of the smaller box's area. Without a track, an object starts a new one, or is dropped below
    ``new_threshold``.

    Args:
        score_threshold: objects whose score is not above it are left out.
        new_threshold: score above which an object without a track becomes a new one.
        heatmap_threshold: minimum score of tracks in the heatmap of the previous frame.
        max_age: frames that a track without a match is kept at its last position; 0: none (reference).
    """

    def __init__(
        self,
        score_threshold: float = 0.3,
        new_threshold: float = 0.3,
        heatmap_threshold: float = 0.3,
        max_age: int = 0,
    ) -> None:
        self.score_threshold, self.new_threshold = score_threshold, new_threshold
        self.heatmap_threshold, self.max_age = heatmap_threshold, max_age
        self.reset()

    def reset(self) -> None:
        """Delete all tracks, for a new video."""
        self._count = 0
        self._tracks = _make_empty_tracks()

    def update(self, predictions: Instances, previous_centers: Tensor) -> Instances:
        """Return the objects of the next frame with their track ids, highest-scoring first.

        Args:
            predictions: with ``pred_boxes`` in pixels of the frame, ``scores`` and ``pred_classes``.
            previous_centers: (P, 2) x, y, pixels, their predicted centers in the previous frame.

        Returns:
            Those that have a track, with ``pred_track_ids`` (P,) int64 from 1 on, unique in a frame, on the CPU.
        """
        order = predictions.scores.argsort(descending=True, stable=True)
        order = order[predictions.scores[order] > self.score_threshold]
        predictions, previous_centers = predictions[order].to("cpu"), previous_centers[order].cpu()
        tracks, boxes = self._tracks, predictions.pred_boxes.tensor
        distance = (previous_centers[:, None] - _compute_centers(tracks.pred_boxes.tensor)).square().sum(dim=2)
        limit = torch.minimum(predictions.pred_boxes.area()[:, None], tracks.pred_boxes.area())
        possible = (distance <= limit) & (predictions.pred_classes[:, None] == tracks.pred_classes)
        chosen = associate_greedily(distance.where(possible, torch.inf))
        ids = torch.zeros(len(boxes), dtype=torch.int64)
        ids[chosen >= 0] = tracks.pred_track_ids[chosen[chosen >= 0]]
        new = (chosen < 0) & (predictions.scores > self.new_threshold)
        ids[new] = self._count + 1 + torch.arange(int(new.sum()))
        self._count += int(new.sum())
        predictions.pred_track_ids = ids
        predictions = predictions[ids > 0]
        self._remember(predictions, chosen)
        return predictions

    def select_visible_boxes(self) -> Tensor:
        """Return boxes (T, 4), pixels of the last frame, of the tracks for the next heatmap: matched ones with a high
        score."""
        tracks = self._tracks
        return tracks.pred_boxes.tensor[(tracks.age == 0) & (tracks.scores >= self.heatmap_threshold)]

    def _remember(self, predictions: Instances, chosen: Tensor) -> None:
        alone = torch.ones(len(self._tracks), dtype=torch.bool)
        alone[chosen[chosen >= 0]] = False
        left = self._tracks[alone & (self._tracks.age < self.max_age)]
        left.age = left.age + 1
        # Images of a video may differ in size; the size of a track is not used.
        seen = Instances((0, 0), **{name: predictions.get(name) for name in _FIELDS}, age=torch.zeros(len(predictions)))
        self._tracks = Instances.cat([seen, left])


_FIELDS = ("pred_boxes", "scores", "pred_classes", "pred_track_ids")


def _make_empty_tracks() -> Instances:
    empty = torch.zeros(0, dtype=torch.int64)
    return Instances(
        (0, 0),
        pred_boxes=Boxes(torch.zeros(0, 4)),
        scores=torch.zeros(0),
        pred_classes=empty,
        pred_track_ids=empty,
        age=torch.zeros(0),
    )


def associate_greedily(distance: Tensor) -> Tensor:
    """Return (D,) int64: for each row, in their order, the nearest column (of (D, T) ``distance``) that is still free,
    or -1; infinite means never."""
    distance = distance.clone()
    chosen = torch.full((len(distance),), -1)
    for row in range(len(distance) if distance.shape[1] else 0):
        column = int(distance[row].argmin())
        if distance[row, column] < torch.inf:
            chosen[row] = column
            distance[:, column] = torch.inf
    return chosen


def _compute_centers(boxes: Tensor) -> Tensor:
    return (boxes[:, :2] + boxes[:, 2:]) / 2
