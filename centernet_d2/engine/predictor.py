"""Prediction in scripts: a config's model with its weights and MODEL.INFERENCE's options."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultPredictor

from centernet_d2.engine.acceleration import accelerate
from centernet_d2.modeling.meta_arch import CenterNet
from centernet_d2.runtime.images import check_image


class Predictor(DefaultPredictor):
    """Detectron2's ``DefaultPredictor`` with batches (``predict_batch``) and the options of MODEL.INFERENCE.

    Several threads may use one predictor, unless it tracks.

    Args:
        cfg: MODEL.WEIGHTS is a file of any kind that ``SafeCheckpointer`` reads.

    Attributes:
        model: in evaluation mode. Fused, it has no normalizations, so no checkpoint can be loaded into it any more.
        metadata: class names, category ids and keypoints of the model, as Detectron2's ``Visualizer`` takes them:
            ``predictor.metadata.thing_classes[k]`` names class k.

    Raises:
        ValueError: MODEL.INFERENCE has an unknown value.
        Whatever ``SafeCheckpointer.load`` raises.
    """

    model: CenterNet

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__(cfg)
        # Detectron2 takes the metadata of the first test dataset, whose files may be missing.
        self.metadata = self.model.metadata.convert_to_detectron2()
        accelerate(self.model, cfg)

    def __call__(self, original_image: np.ndarray) -> dict[str, Any]:
        """Return ``{"instances": Instances}`` in pixels of the image (H, W, 3), BGR, 0..255.

        Raises:
            TypeError, ValueError: it is no image, see :func:`~centernet_d2.runtime.images.check_image`.
        """
        return self.predict_batch([check_image(original_image)])[0]

    def predict_batch(self, images: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """Return one ``{"instances": Instances}`` for each of ``images`` (H, W, 3), BGR, 0..255.

        Images may differ in size. Those of equal input size share a batch, so memory limits their number; results do
        not depend on the batch. A tracker takes them as consecutive frames.

        Raises:
            TypeError, ValueError: one is no image, see :func:`~centernet_d2.runtime.images.check_image`; nothing is
                predicted.
        """
        if isinstance(images, str | bytes | dict) or not isinstance(images, Iterable):
            raise TypeError(f"predict_batch takes a list of images (H, W, 3), not a {type(images).__name__}")
        if isinstance(images, np.ndarray) and images.ndim < 4 and images.dtype != object:
            raise ValueError(f"predict_batch takes a list of images, not one array {images.shape}: use [image]")
        return self.model([self._sample(*numbered) for numbered in enumerate(images)])

    def _sample(self, number: int, image: Any) -> dict[str, Any]:
        try:
            original = check_image(image)
        except (TypeError, ValueError) as error:
            raise type(error)(f"image {number} of the batch: {error}") from None
        height, width = original.shape[:2]
        resized = self.aug.get_transform(original).apply_image(original)
        ordered = resized[:, :, ::-1] if self.input_format == "RGB" else resized
        image = torch.from_numpy(np.require(ordered, requirements=["C", "W"])).permute(2, 0, 1)
        return {"image": image, "height": height, "width": width}
