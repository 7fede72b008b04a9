"""Models behind one face: a network with its weights, or an exported file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from centernet_d2.video import Frame


class Model(Protocol):
    """Predicts on images.

    Attributes:
        class_names, category_ids: of the classes that predictions number from 0; empty where unknown.
        needs_detectron2: whether files are read by Detectron2's rules, and its registered datasets are inputs.
    """

    needs_detectron2: bool

    @property
    def class_names(self) -> Sequence[str]: ...

    @property
    def category_ids(self) -> Sequence[int]: ...

    def predict(self, frames: Sequence[Frame]) -> list[Any]:
        """``Instances`` or ``Objects`` of each frame, in its pixels, highest-scoring first. Not for several threads."""

    def make_visualizer(self, threshold: float) -> Any:
        """Something with ``draw(image, predictions, dataset_dict, starts)`` and ``describe(predictions)``."""


class TorchModel:
    """A config's network with its weights (MODEL.WEIGHTS) on MODEL.DEVICE.

    Raises:
        As ``Predictor``.
    """

    needs_detectron2 = True

    def __init__(self, cfg: Any) -> None:
        from centernet_d2.engine.predictor import Predictor

        self._cfg = cfg
        self._model = Predictor(cfg).model
        metadata = self._model.metadata
        self.class_names, self.category_ids = metadata.class_names, metadata.category_ids

    def predict(self, frames: Sequence[Frame]) -> list[Any]:
        import torch

        if frames[0].starts:
            self._model.reset()
        samples = []
        for frame in frames:
            image = frame.image if self._cfg.INPUT.FORMAT == "BGR" else frame.image[:, :, ::-1]
            sample = {key: value for key, value in frame.dataset_dict.items() if key != "annotations"}
            tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
            samples.append(sample | {"height": image.shape[0], "width": image.shape[1], "image": tensor})
        return [result["instances"].to("cpu") for result in self._model(samples)]

    def make_visualizer(self, threshold: float) -> Any:
        from centernet_d2.visualization.visualizer import Visualizer

        return Visualizer.from_config(self._cfg, threshold, self._model.metadata)


class OnnxModel:
    """A file of ``centernet-d2 export``, on the CPU. Needs neither PyTorch nor Detectron2.

    Raises:
        ValueError: the file was not written by this project, or follows objects through a video.
        FileNotFoundError: there is no such file.
    """

    needs_detectron2 = False

    def __init__(self, path: Path) -> None:
        from centernet_d2.runtime.onnx_model import OnnxPredictor

        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        self._predictor = OnnxPredictor(path)
        self.class_names = self._predictor.metadata["class_names"]
        self.category_ids = self._predictor.metadata.get("category_ids") or range(len(self.class_names))

    def predict(self, frames: Sequence[Frame]) -> list[Any]:
        from centernet_d2.runtime.objects import Objects

        results = []
        for frame in frames:
            image = frame.image if self._predictor.metadata["channel_order"] == "BGR" else frame.image[:, :, ::-1]
            predictions = self._predictor(image, frame.dataset_dict.get("calib"))
            names = {name: name if name == "scores" else f"pred_{name}" for name in predictions}
            names["classes"] = "pred_classes"
            results.append(Objects(image.shape[:2], {names[name]: values for name, values in predictions.items()}))
        return results

    def make_visualizer(self, threshold: float) -> Any:
        from centernet_d2.visualization.plain import PlainVisualizer

        return PlainVisualizer(self.class_names, self.category_ids)
