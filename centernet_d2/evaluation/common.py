"""Gathers predictions from all processes and drops non-finite ones."""

from __future__ import annotations

import logging
from typing import Any, TypeVar

import numpy as np
from detectron2.structures import Instances
from detectron2.utils import comm

T = TypeVar("T")
_logger = logging.getLogger(__name__)


def gather_predictions(predictions: dict[Any, T], dataset_name: str, num_images: int) -> dict[Any, T] | None:
    """Return the predictions of all processes by image in the main process, None in the others.

    An image that two processes evaluated (padding of the sampler) counts once. A warning says how many of the
    ``num_images`` are missing.
    """
    gathered = comm.gather(predictions)
    if not comm.is_main_process():
        return None
    together = {key: one for part in gathered for key, one in part.items()}
    if len(together) < num_images:
        _logger.warning("Only %d of the %d images of %s were evaluated", len(together), num_images, dataset_name)
    return together


def select_finite_detections(instances: Instances) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return boxes (P, 4) and scores (P,), float64, and classes (P,) int64; non-finite detections are dropped."""
    instances = instances.to("cpu")
    boxes, scores = instances.pred_boxes.tensor.double().numpy(), instances.scores.double().numpy()
    usable = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    return boxes[usable], scores[usable], instances.pred_classes.numpy()[usable]
