"""COCO's metrics on the objects of the dataset dicts, with TEST.DETECTIONS_PER_IMAGE detections."""

from __future__ import annotations

import contextlib
import copy
import io
import itertools
import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.utils import comm
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from centernet_d2.data.validation.object_boxes import SCORED_WHOLE, settle_coco
from centernet_d2.evaluation.common import convert_to_columns, convert_to_entries, gather_arrays

_logger = logging.getLogger(__name__)

#: Detections of an image that COCO counts.
MAX_DETECTIONS = {"bbox": 100, "segm": 100, "keypoints": 20}
_METRICS = ("AP", "AP50", "AP75")
_AREAS = {"bbox": ("APs", "APm", "APl"), "segm": ("APs", "APm", "APl"), "keypoints": ("APm", "APl")}


def get_max_detections(iou_type: str, detections_per_image: int) -> int:
    """Detections per image that count: COCO's number, or the model's limit if that is above 100."""
    return MAX_DETECTIONS[iou_type] if detections_per_image <= 100 else detections_per_image


class CocoEvaluator(COCOEvaluator):
    """Detectron2's ``COCOEvaluator`` with four differences:

    * Objects that the dataset dicts leave out are neither missed nor matched, and boxes are cut as there
      (``validation.object_boxes.settle_coco``); but published sets are scored on their own files (``SCORED_WHOLE``).
    * More than 100 detections of an image count where the model may give more; AP is then not COCO's.
    * Where nothing is predicted AP is 0; it is NaN only where there is nothing to find.
    * Between images, detections are arrays: a quarter to a sixth of the memory, and not pickled for other processes.
    """

    def __init__(
        self,
        dataset_name: str,
        output_dir: str,
        *,
        expected: Sequence[str] = ("bbox",),
        unscored: Sequence[str] = (),
        detections_per_image: int = 100,
        sigmas: Sequence[float] = (),
    ) -> None:
        """
        Args:
            expected: of "bbox", "segm" and "keypoints", what the model predicts: scored with 0 where it finds nothing.
            unscored: what is not scored, although it may be predicted.
            detections_per_image: what the model gives at most.
            sigmas: of keypoints; () for COCO's.
        """
        metadata = MetadataCatalog.get(dataset_name)
        converted = metadata.get("json_file") is None
        super().__init__(
            dataset_name,
            distributed=False,  # ``evaluate`` gathers
            output_dir=output_dir,
            max_dets_per_image=get_max_detections("bbox", detections_per_image),
            # The fast implementation needs compiled code.
            use_fast_impl=False,
            kpt_oks_sigmas=sigmas,
            # A cached file may belong to another dataset.
            allow_cached_coco=False,
        )
        self._expected, self._unscored, self._limit = expected, unscored, detections_per_image
        if converted:
            # Detectron2 stores the path globally; the next evaluation may use another folder.
            del metadata.json_file
            # It writes no "annotations" if there are no objects.
            self._coco_api.dataset.setdefault("annotations", [])
            self._do_evaluation, self._kpt_oks_sigmas = True, sigmas
        if self._do_evaluation and dataset_name not in SCORED_WHOLE and settle_coco(self._coco_api.dataset):
            _logger.info("%s is scored without the objects that the dataset dicts leave out, boxes cut", dataset_name)
            with contextlib.redirect_stdout(io.StringIO()):
                self._coco_api.createIndex()
        if detections_per_image > 100:
            _logger.info("Up to %d detections of an image count in AP; COCO counts 100", detections_per_image)

    def reset(self) -> None:
        self._predictions: list[dict[str, Any]] = []

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        copies = []
        for output in outputs:
            instances = copy.copy(output["instances"])
            if instances.has("pred_keypoints"):
                # Detectron2 subtracts half a pixel in place, which the next evaluator would see.
                instances._fields = {**instances.get_fields(), "pred_keypoints": instances.pred_keypoints.clone()}
            copies.append({**output, "instances": instances})
        start = len(self._predictions)
        super().process(inputs, copies)
        for prediction in self._predictions[start:]:
            prediction["instances"] = convert_to_columns(prediction["instances"])

    def evaluate(self, img_ids: Any = None) -> dict[str, Any]:
        gathered = gather_arrays(self._predictions)
        if not comm.is_main_process():
            return {}
        own = self._predictions
        self._predictions = [
            {**one, "instances": convert_to_entries(one["instances"])} for part in gathered for one in part
        ]
        results = super().evaluate(img_ids)
        self._predictions = own
        return results

    def _tasks_from_predictions(self, predictions: list[dict[str, Any]]) -> list[str]:
        tasks = super()._tasks_from_predictions(predictions) if predictions else self._expected
        return [task for task in tasks if task not in self._unscored]

    def _eval_predictions(self, predictions: list[dict[str, Any]], img_ids: Any = None) -> None:
        # Detectron2 changes the category ids in place to those of the file.
        self._detections = list(itertools.chain(*(one["instances"] for one in predictions)))
        if self._do_evaluation and not self._coco_api.anns:
            _logger.warning("%s has no objects to score detections with", self._metadata.name)
            for task in self._tasks_from_predictions(self._detections):
                self._results[task] = dict.fromkeys((*_METRICS, *_AREAS[task]), math.nan)
            return
        super()._eval_predictions(predictions, img_ids)

    def _derive_coco_results(
        self, coco_eval: COCOeval | None, iou_type: str, class_names: list[str] | None = None
    ) -> dict[str, float]:
        if coco_eval is None or (iou_type == "keypoints" and self._limit > 100):
            coco_eval = self._evaluate_type(iou_type)
        return super()._derive_coco_results(coco_eval, iou_type, class_names)

    def _evaluate_type(self, iou_type: str) -> COCOeval:
        """Evaluate one task, also without detections and with more than 20 keypoint detections."""
        with contextlib.redirect_stdout(io.StringIO()):
            if self._detections:
                predictions = self._coco_api.loadRes(self._detections)
            else:
                predictions = COCO()
                predictions.dataset = {**self._coco_api.dataset, "annotations": []}
                predictions.createIndex()
            evaluation = COCOeval(self._coco_api, predictions, iou_type)
            evaluation.params.maxDets = [get_max_detections(iou_type, self._limit)]
            if iou_type == "keypoints" and self._kpt_oks_sigmas:
                evaluation.params.kpt_oks_sigmas = np.array(self._kpt_oks_sigmas)
            evaluation.evaluate()
            evaluation.accumulate()
        # (IoU, recall, class, area); -1 without ground truth.
        precision = evaluation.eval["precision"][..., 0]
        everywhere = precision[..., 0]
        chosen = [everywhere, everywhere[0], everywhere[5], *np.moveaxis(precision[..., 1:], 3, 0)]
        evaluation.stats = np.array([x[x > -1].mean() if (x > -1).any() else -1 for x in chosen])
        return evaluation
