"""Detectron2's evaluator for tracks in videos."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances
from detectron2.utils import comm
from tabulate import tabulate

from centernet_d2.data.annotations import convert_to_corner_boxes
from centernet_d2.data.catalog import load_dataset_dicts
from centernet_d2.data.image_io import DatasetDict
from centernet_d2.data.validation.object_boxes import list_scored_objects
from centernet_d2.evaluation.common import gather_arrays

if TYPE_CHECKING:
    from centernet_d2.evaluation.tracking import metrics as tracking_metrics

_logger = logging.getLogger(__name__)


class _FramePredictions(NamedTuple):
    """F predictions of a frame: x1, y1, x2, y2 (F, 4) float64, scores (F,), classes (F,) and track ids (F,) int64."""

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    ids: np.ndarray


class TrackingEvaluator(DatasetEvaluator):
    """MOTA, IDF1, HOTA, DetA, AssA in percent and the counts of ``metrics.compute_scores``, of boxes.

    ``evaluate`` returns ``{"tracking": {...}}`` in the main process and {} in others, and where the dataset has no
    objects. With several classes each has its own, such as ``MOTA-car``; those without a class name are over all
    classes. Objects with ``iscrowd`` are ignored. Frames that were not processed do not count.

    Predictions are ``Instances`` in the image's own pixels, with ``pred_boxes``, ``scores``, ``pred_classes`` and
    ``pred_track_ids`` (P,) int64 from 1, unique in a frame. All frames of a video must be in the same process.

    ``output_dir`` gets ``<video>.txt`` for each in MOTChallenge's format, in which frames and pixels count from 1; of
    several classes the number, from 1, is in the eighth column.
    """

    def __init__(self, dataset_name: str, output_dir: str | Path | None = None) -> None:
        """
        Args:
            dataset_name: registered; dataset dicts as those of ``data.datasets.mot.load_video``.

        Raises:
            ImportError: motmetrics is not installed.
        """
        try:
            from centernet_d2.evaluation.tracking import metrics as tracking_metrics
        except ImportError as error:
            raise ImportError(f"tracks are scored with motmetrics: pip install 'motmetrics>=1.4' ({error})") from None
        self._metrics = tracking_metrics
        self._dataset_name = dataset_name
        self._output_dir = None if output_dir is None else Path(output_dir)
        self._dataset_dicts = {
            (dataset_dict["video_id"], dataset_dict["frame"]): dataset_dict
            for dataset_dict in load_dataset_dicts(dataset_name)
        }
        self._class_names = list(MetadataCatalog.get(dataset_name).thing_classes)
        self.reset()

    def reset(self) -> None:
        self._predictions: dict[int, dict[int, _FramePredictions]] = {}

    def process(self, inputs: list[DatasetDict], outputs: list[dict[str, Instances]]) -> None:
        """Store the predictions; non-finite ones are dropped.

        Raises:
            ValueError: objects without track id, or two with the same.
        """
        for sample, output in zip(inputs, outputs, strict=True):
            instances, file = output["instances"].to("cpu"), sample["file_name"]
            if not instances.has("pred_track_ids"):
                raise ValueError(f"{file}: the model gives no track ids (pred_track_ids), so it cannot track")
            boxes, scores = instances.pred_boxes.tensor.double(), instances.scores.double()
            usable = torch.cat([boxes, scores[:, None]], dim=1).isfinite().all(dim=1)
            fields = (boxes, scores, instances.pred_classes, instances.pred_track_ids)
            predictions = _FramePredictions(*(x[usable].numpy() for x in fields))
            for track_id, count in Counter(predictions.ids.tolist()).items():
                if count > 1:
                    raise ValueError(f"{file}: {count} objects have the track id {track_id}")
            self._predictions.setdefault(sample["video_id"], {})[sample["frame"]] = predictions

    def evaluate(self) -> dict[str, dict[str, float]]:
        """
        Raises:
            ValueError: frames of one video were processed in several processes.
            KeyError: a frame that the dataset does not have.
        """
        gathered = gather_arrays(self._predictions)
        if not comm.is_main_process():
            return {}
        for video, count in Counter(video for one in gathered for video in one).items():
            if count > 1:
                raise ValueError(f"{self._dataset_name}: {count} processes tracked in the video {video}, not one")
        predictions = {video: dict(sorted(frames.items())) for one in gathered for video, frames in one.items()}
        count = sum(map(len, predictions.values()))
        if count < len(self._dataset_dicts):
            counts = (count, len(self._dataset_dicts), self._dataset_name)
            _logger.warning("Only %d of the %d frames of %s were evaluated", *counts)
        if self._output_dir:
            self._save(predictions, self._output_dir)
        if not any(
            self._dataset_dicts[video, frame].get("annotations")
            for video in predictions
            for frame in predictions[video]
        ):
            _logger.warning("%s has no objects to score tracks with", self._dataset_name)
            return {}
        results = self._compute_scores(predictions)
        _log(results, self._class_names)
        return {"tracking": results}

    def _compute_scores(self, predictions: dict[int, dict[int, _FramePredictions]]) -> dict[str, float]:
        by_class = [
            [
                [self._compare(self._dataset_dicts[video, frame], one, category) for frame, one in frames.items()]
                for video, frames in predictions.items()
            ]
            for category in range(len(self._class_names))
        ]
        results = self._metrics.compute_scores([frames for videos in by_class for frames in videos])
        if len(by_class) > 1:
            for name, videos in zip(self._class_names, by_class, strict=True):
                results |= {
                    f"{measure}-{name}": value for measure, value in self._metrics.compute_scores(videos).items()
                }
        return results

    def _compare(
        self, dataset_dict: DatasetDict, predictions: _FramePredictions, category: int
    ) -> tracking_metrics.Frame:
        true = [one for one in dataset_dict.get("annotations", []) if one["category_id"] == category]
        true = list_scored_objects(true, self._dataset_name)
        ids = np.array([one["track_id"] for one in true], dtype=np.int64)
        ignored = np.array([one.get("iscrowd", 0) for one in true], dtype=bool)
        same = predictions.classes == category
        return self._metrics.compare_frame(
            ids, convert_to_corner_boxes(true), ignored, predictions.ids[same], predictions.boxes[same]
        )

    def _save(self, predictions: dict[int, dict[int, _FramePredictions]], output_dir: Path) -> None:
        output_dir.mkdir(parents=True, exist_ok=True)
        names = MetadataCatalog.get(self._dataset_name).get("video_names", {})
        for video, frames in predictions.items():
            lines = [
                line for frame, one in frames.items() for line in _format_lines(frame, one, len(self._class_names))
            ]
            (output_dir / f"{names.get(video, video)}.txt").write_text("".join(lines))


def _format_lines(frame: int, predictions: _FramePredictions, num_classes: int) -> Iterator[str]:
    sizes = predictions.boxes[:, 2:] - predictions.boxes[:, :2]
    rows = np.hstack([predictions.boxes[:, :2] + 1, sizes, predictions.scores[:, None]]).tolist()
    for track_id, category, row in zip(predictions.ids.tolist(), predictions.classes.tolist(), rows, strict=True):
        numbers = ",".join(f"{value:.6g}" for value in row)
        yield f"{frame + 1},{track_id},{numbers},{category + 1 if num_classes > 1 else -1},-1,-1\n"


def _log(results: dict[str, float], class_names: list[str]) -> None:
    measures = [name for name in results if "-" not in name]
    rows = [["all", *(results[measure] for measure in measures)]]
    if len(class_names) > 1:
        rows += [[name, *(results[f"{measure}-{name}"] for measure in measures)] for name in class_names]
    table = tabulate(rows, headers=["", *measures], floatfmt=".2f", tablefmt="pipe")
    _logger.info("Evaluation of tracks:\n%s", table)
