"""Prediction for scripts: a config's model with its weights, made as fast as the config allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultPredictor

from centernet_d2.engine.acceleration import accelerate
from centernet_d2.modeling.meta_arch import CenterNet


class Predictor(DefaultPredictor):
    """Detectron2's ``DefaultPredictor``, which also takes many images at once and does what MODEL.INFERENCE says.

    Args:
        cfg: MODEL.WEIGHTS is a file of any kind that ``SafeCheckpointer`` reads.

    Attributes:
        model: in evaluation mode. Folded, it has no normalizations, so no checkpoint can be loaded into it any more.
        metadata: class names, category ids and keypoints of the model, as Detectron2's ``Visualizer`` takes them:
            ``predictor.metadata.thing_classes[k]`` names class k.

    Raises:
        ValueError: MODEL.INFERENCE asks for what there is not.
        Whatever ``SafeCheckpointer.load`` raises.
    """

    model: CenterNet

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__(cfg)
        # Detectron2's is of the first test dataset, which may be absent.
        self.metadata = self.model.metadata.for_detectron2()
        accelerate(self.model, cfg)

    def __call__(self, original_image: np.ndarray) -> dict[str, Any]:
        """``{"instances": Instances}`` in pixels of the image (H, W, 3), BGR, 0..255."""
        return self.predict_batch([original_image])[0]

    def predict_batch(self, images: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """The same of each of some images (H, W, 3), BGR, 0..255.

        They may be of any sizes. Those that become inputs of one size go through the network together, so that memory
        limits their number; what is found does not depend on it. To a tracker they are frames in order.
        """
        return self.model([self._sample(image) for image in images])

    def _sample(self, original_image: np.ndarray) -> dict[str, Any]:
        height, width = original_image.shape[:2]
        resized = self.aug.get_transform(original_image).apply_image(original_image)
        ordered = resized[:, :, ::-1] if self.input_format == "RGB" else resized
        image = torch.from_numpy(np.require(ordered, requirements=["C", "W"])).permute(2, 0, 1)
        return {"image": image, "height": height, "width": width}
