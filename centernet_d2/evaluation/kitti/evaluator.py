"""Detectron2's evaluator for KITTI's objects."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances
from tabulate import tabulate

from centernet_d2.data.annotations import convert_to_corner_boxes
from centernet_d2.data.catalog import load_dataset_dicts
from centernet_d2.data.image_io import DatasetDict
from centernet_d2.evaluation.common import gather_predictions
from centernet_d2.evaluation.kitti.metrics import DIFFICULTIES, LOOSE, OFFICIAL, Image, Objects, average_precisions
from centernet_d2.structures import Boxes3D

_logger = logging.getLogger(__name__)

_TASKS = {
    "kitti_2d": ("2d", OFFICIAL),
    "kitti_bev": ("bev", OFFICIAL),
    "kitti_3d": ("3d", OFFICIAL),
    "kitti_bev_loose": ("bev", LOOSE),
    "kitti_3d_loose": ("3d", LOOSE),
}
_FIELDS_3D = ("pred_dimensions", "pred_locations", "pred_rotation_y")


class KittiEvaluator(DatasetEvaluator):
    """AP in percent, 0 to 100, as ``evaluation.kitti.metrics`` defines it; NaN without ground truth.

    ``evaluate`` returns, in the main process and {} in others, ``kitti_2d``, ``kitti_bev``, ``kitti_3d`` with the
    benchmark's overlaps, ``kitti_bev_loose``, ``kitti_3d_loose`` with the lower ones of publications, and
    ``kitti_aos``. Each has ``AP40-<class>-<difficulty>`` and ``AP11-...``, and ``AP40`` and ``AP11``, their means over
    the classes at moderate difficulty; AOS in place of AP in ``kitti_aos``. As in the development kit, images that
    were not processed do not count.

    Predictions are ``Instances`` in the image's own pixels, P objects:

    * ``pred_boxes``, ``scores`` and ``pred_classes``, in the order of the metadata's ``thing_classes``;
    * ``pred_alpha`` (P,) radians, without which there is no AOS;
    * ``pred_dimensions`` (P, 3) height, width, length, ``pred_locations`` (P, 3) x, y, z of the center of the bottom,
      meters in camera coordinates, and ``pred_rotation_y`` (P,) radians (``ops.box3d_geometry``), without which there
      is neither bird's eye view nor 3D.

    ``output_dir`` gets a text file for each image in the format of the benchmark's server.
    """

    def __init__(self, dataset_name: str, output_dir: str | Path | None = None) -> None:
        """
        Args:
            dataset_name: registered; dataset dicts as those of ``data.datasets.kitti.load_kitti``.

        Raises:
            ValueError: a class that the benchmark does not have.
        """
        self._dataset_name = dataset_name
        self._output_dir = None if output_dir is None else Path(output_dir)
        self._dataset_dicts = {
            dataset_dict["image_id"]: dataset_dict for dataset_dict in load_dataset_dicts(dataset_name)
        }
        self._class_names = list(MetadataCatalog.get(dataset_name).thing_classes)
        if not set(self._class_names) <= OFFICIAL.keys():
            problem = f"has the classes {', '.join(self._class_names)}, not of {', '.join(OFFICIAL)}"
            raise ValueError(f"dataset {dataset_name!r} {problem}")
        self.reset()

    def reset(self) -> None:
        self._predictions: dict[Any, Objects] = {}

    def process(self, inputs: list[DatasetDict], outputs: list[dict[str, Instances]]) -> None:
        """Store the predictions; non-finite ones are dropped."""
        for sample, output in zip(inputs, outputs, strict=True):
            self._predictions[sample["image_id"]] = self._convert_detections(output["instances"].to("cpu"))

    def _convert_detections(self, instances: Instances) -> Objects:
        boxes, scores = instances.pred_boxes.tensor.double(), instances.scores.double()
        names = [name for name in ("pred_alpha", *_FIELDS_3D) if instances.has(name)]
        fields = {name: instances.get(name).double() for name in names}
        columns = [x[:, None].flatten(1) for x in (boxes, scores, *fields.values())]
        usable = torch.cat(columns, dim=1).isfinite().all(dim=1)
        fields = {name: x[usable] for name, x in fields.items()}
        return Objects(
            types=np.array(self._class_names)[instances.pred_classes[usable].numpy()],
            boxes=boxes[usable].numpy(),
            scores=scores[usable].numpy(),
            alpha=fields["pred_alpha"].numpy() if "pred_alpha" in fields else None,
            boxes_3d=Boxes3D(*map(fields.__getitem__, _FIELDS_3D)) if fields.keys() >= set(_FIELDS_3D) else None,
        )

    def evaluate(self) -> dict[str, dict[str, float]]:
        """
        Raises:
            KeyError: detections in an image that the dataset does not have.
        """
        predictions = gather_predictions(self._predictions, self._dataset_name, len(self._dataset_dicts))
        if not predictions:
            return {}
        if self._output_dir:
            self._save(predictions, self._output_dir)
        images = [Image(_read_gt(self._dataset_dicts[key], self._class_names), predictions[key]) for key in predictions]
        results = _compute_results(images, self._class_names)
        _log(results, self._class_names)
        return results

    def _save(self, predictions: dict[Any, Objects], output_dir: Path) -> None:
        """Write ``<stem of the image>.txt``; values that were not predicted are the server's
        defaults: -10, -1, -1000."""
        output_dir.mkdir(parents=True, exist_ok=True)
        for key, objects in predictions.items():
            stem = Path(self._dataset_dicts[key]["file_name"]).stem
            (output_dir / f"{stem}.txt").write_text("".join(_format_lines(objects)))


def _read_gt(dataset_dict: DatasetDict, class_names: list[str]) -> Objects:
    """Return all of an image's objects, in the order of the label file."""
    named = [(class_names[one["category_id"]], one) for one in dataset_dict["annotations"]]
    named += [(one["type"].lower(), one) for one in dataset_dict.get("ignored", ())]
    named.sort(key=lambda pair: pair[1].get("line", 0))
    objects = [one for _, one in named]

    def read_values(field: str, *shape: int) -> np.ndarray:
        """Return (P, ...) float64; zeros for DontCare."""
        return np.array([one.get(field, np.zeros(shape)) for one in objects], dtype=np.float64).reshape(-1, *shape)

    return Objects(
        types=np.array([name for name, _ in named], dtype=str),
        boxes=convert_to_corner_boxes(objects),
        alpha=read_values("alpha"),
        boxes_3d=Boxes3D(
            *map(torch.from_numpy, (read_values("dim", 3), read_values("location", 3), read_values("rotation_y")))
        ),
        occluded=read_values("occluded"),
        truncated=read_values("truncated"),
    )


def _compute_results(images: list[Image], class_names: list[str]) -> dict[str, dict[str, float]]:
    results: dict[str, dict[str, float]] = {}
    for task, (kind, overlaps) in _TASKS.items():
        if kind != "2d" and any(image.predictions.boxes_3d is None for image in images):
            continue
        for name, level in itertools.product(class_names, DIFFICULTIES):
            values = average_precisions(images, kind, name, DIFFICULTIES[level], overlaps[name])
            for measure, value in values.items():
                group = results.setdefault("kitti_aos" if measure.startswith("AOS") else task, {})
                group[f"{measure}-{name}-{level}"] = value
    return {task: {**_average_measures(values, class_names), **values} for task, values in results.items()}


def _average_measures(values: dict[str, float], class_names: list[str]) -> dict[str, float]:
    """Mean of each measure at moderate difficulty over the classes that exist."""
    means = {}
    for measure in dict.fromkeys(key.split("-")[0] for key in values):
        predictions = [values[f"{measure}-{name}-moderate"] for name in class_names]
        there = [value for value in predictions if not math.isnan(value)]
        means[measure] = sum(there) / len(there) if there else math.nan
    return means


def _format_lines(objects: Objects) -> Iterator[str]:
    count = len(objects.types)
    alpha = np.full(count, -10.0) if objects.alpha is None else objects.alpha
    space = [np.full((count, 3), -1.0), np.full((count, 3), -1000.0), np.full((count, 1), -10.0)]
    if objects.boxes_3d is not None:
        space = [x[:, None].flatten(1).numpy() for x in objects.boxes_3d]
    assert objects.scores is not None
    numbers = np.hstack([alpha[:, None], objects.boxes, *space, objects.scores[:, None]])
    for name, row in zip(objects.types, numbers.tolist(), strict=True):
        yield f"{name.capitalize()} -1 -1 {' '.join(f'{value:.6g}' for value in row)}\n"


def _log(results: dict[str, dict[str, float]], class_names: list[str]) -> None:
    columns = [(task, measure) for task, values in results.items() for measure in values if "-" not in measure]
    rows = [
        [f"{name} {level}", *(results[task][f"{measure}-{name}-{level}"] for task, measure in columns)]
        for name, level in itertools.product(class_names, DIFFICULTIES)
    ]
    headers = ["", *(f"{task.removeprefix('kitti_')} {measure}" for task, measure in columns)]
    _logger.info("Evaluation of KITTI:\n%s", tabulate(rows, headers=headers, floatfmt=".2f", tablefmt="pipe"))
