"""A detector as a model of SAHI (https://github.com/obss/sahi), for its sliced prediction and tools."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from sahi.models.base import DetectionModel
from sahi.prediction import ObjectPrediction
from sahi.utils.cv import get_coco_segmentation_from_bool_mask

from centernet_d2.api.detector import Detector
from centernet_d2.api.result import Result, to_numpy


class SahiModel(DetectionModel):
    """Give ``sahi.predict.get_sliced_prediction`` boxes and masks of a :class:`Detector`.

    SAHI's images are RGB and its boxes x1, y1, x2, y2 in pixels of the tile, from its upper left corner. Category ids
    are the dataset's. Keypoints are left out: SAHI has none.

    Args:
        detector: its threshold is SAHI's "confidence_threshold".
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__(model=detector, confidence_threshold=detector.threshold, device="cpu")

    def set_model(self, model: Detector, **kwargs: Any) -> None:
        self.model = model
        self.category_mapping = dict(zip(map(str, model.model.category_ids), model.class_names, strict=True))

    @property
    def num_categories(self) -> int:
        return len(self.model.class_names)

    @property
    def category_names(self) -> list[str]:
        return list(self.model.class_names)

    def perform_inference(self, image: np.ndarray) -> None:
        self._original_predictions = self.model(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    def _create_object_prediction_list_from_original_predictions(
        self,
        shift_amount_list: list[list[int | float]] | None = None,
        full_shape_list: list[list[int | float]] | None = None,
    ) -> None:
        """Store one list of predictions: of the image that was predicted last.

        Args:
            shift_amount_list: of the tile in the whole image, [[x, y]] or [x, y].
            full_shape_list: of the whole image, [[height, width]] or [height, width].
        """
        shift, shape = (
            values[0] if values and isinstance(values[0], (list, tuple)) else values
            for values in (shift_amount_list, full_shape_list)
        )
        result: Result = self._original_predictions
        masks = result.instances.pred_masks if result.instances.has("pred_masks") else [None] * len(result)
        predictions = []
        for box, score, k, name, mask in zip(
            result.boxes.tolist(), result.scores.tolist(), result.classes.tolist(), result.names, masks, strict=True
        ):
            outline = None if mask is None else get_coco_segmentation_from_bool_mask(to_numpy(mask).astype(bool))
            predictions.append(
                ObjectPrediction(
                    bbox=box,
                    category_id=result.category_ids[k],
                    category_name=name,
                    segmentation=outline or None,
                    score=score,
                    shift_amount=shift or [0, 0],
                    full_shape=shape,
                )
            )
        self._object_prediction_list_per_image = [predictions]
