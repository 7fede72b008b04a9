"""The predictions of one image, and what can be done with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

#: Pixel centers are at half numbers here, at whole numbers in COCO's keypoints.
_COCO_SHIFT = np.array([0.5, 0.5, 0.0])


@dataclass(frozen=True, repr=False)
class Result:
    """The objects in an image, highest-scoring first; there may be none.

    Coordinates are pixels of ``image`` from its upper left corner; pixel (x, y) covers [x, x + 1) x [y, y + 1).

    Attributes:
        image: (H, W, 3) uint8, BGR as OpenCV has it.
        instances: Detectron2's ``Instances`` on the CPU; of an ONNX model ``runtime.objects.Objects``, which has the
            same fields in NumPy. "pred_boxes" x1, y1, x2, y2; "scores" 0..1; "pred_classes" from 0; and, depending on
            the model, "pred_keypoints" (P, K, 3) x, y, score, "pred_masks" (P, H, W), "pred_track_ids", 3D boxes.
        class_names: ``class_names[k]`` names class k; empty where unknown.
        category_ids: the dataset's own id of each class.
        file_name: "" for an array.
        frame: number in a video, from 0.
        seconds: of the frame in the video.
    """

    image: np.ndarray
    instances: Any
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    file_name: str = ""
    frame: int = 0
    seconds: float = 0.0
    _visualizer: Any = None
    _starts: bool = True

    def __len__(self) -> int:
        return len(self.instances)

    def __repr__(self) -> str:
        counts = ", ".join(f"{self.names.count(name)} {name}" for name in dict.fromkeys(self.names)) or "nothing"
        height, width = self.image.shape[:2]
        return f"Result({self.file_name or 'array'}, {width}x{height}: {counts})"

    @property
    def boxes(self) -> np.ndarray:
        """(P, 4) x1, y1, x2, y2."""
        return to_numpy(self.instances.pred_boxes)

    @property
    def scores(self) -> np.ndarray:
        """(P,) 0..1."""
        return to_numpy(self.instances.scores)

    @property
    def classes(self) -> np.ndarray:
        """(P,) integers from 0."""
        return to_numpy(self.instances.pred_classes)

    @property
    def names(self) -> list[str]:
        """The class name of each object."""
        return [self.class_names[k] if k < len(self.class_names) else f"class {k}" for k in self.classes.tolist()]

    @property
    def keypoints(self) -> np.ndarray | None:
        """(P, K, 3) x, y, score; None where the model has none."""
        return to_numpy(self.instances.pred_keypoints) if self.instances.has("pred_keypoints") else None

    def plot(self) -> np.ndarray:
        """The image with its predictions, (H', W', 3) uint8, BGR; small images are enlarged."""
        return self._visualizer.draw(self.image, self.instances, {}, self._starts)

    def save(self, path: str | Path) -> Path:
        """Write :meth:`plot` to an image file, or into an existing folder under the name of the image.

        Raises:
            OSError: it cannot be written there.
        """
        path = Path(path)
        if path.is_dir():
            path = path / f"{Path(self.file_name).stem or 'image'}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        known, data = cv2.imencode(path.suffix or ".jpg", self.plot())
        if not known:
            raise OSError(f"{path}: no image can be written with this suffix")
        path.write_bytes(data.tobytes())
        return path

    def show(self) -> None:
        """Show :meth:`plot` in the system's image viewer (in a notebook, below the cell)."""
        from PIL import Image

        image = Image.fromarray(self.plot()[:, :, ::-1])
        try:
            from IPython import get_ipython
            from IPython.display import display
        except ImportError:
            image.show()
        else:
            display(image) if get_ipython() else image.show()

    def crop(self) -> list[np.ndarray]:
        """The image in each box, (h, w, 3) uint8, BGR; whole pixels that the box touches."""
        height, width = self.image.shape[:2]
        corners = np.concatenate([np.floor(self.boxes[:, :2]), np.ceil(self.boxes[:, 2:])], axis=1)
        limits = corners.clip(0, [width, height, width, height]).astype(int).tolist()
        return [self.image[y1:y2, x1:x2].copy() for x1, y1, x2, y2 in limits]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the file, its size, and an entry per object with "category_id", "category_name",
        "score", "box" (x1, y1, x2, y2), and what else the model gives."""
        height, width = self.image.shape[:2]
        objects = self._visualizer.describe(self.instances)
        return {"file_name": self.file_name, "height": height, "width": width, "objects": objects}

    def to_coco(self, image_id: int | str = 0) -> list[dict[str, Any]]:
        """Entries of COCO's result files: "bbox" is x, y, width, height; "keypoints" count pixel centers as whole
        numbers; masks are compressed RLE."""
        points, described = self.keypoints, self._visualizer.describe(self.instances)
        entries = []
        for i, (x1, y1, x2, y2) in enumerate(self.boxes.tolist()):
            entry: dict[str, Any] = {"image_id": image_id, "category_id": described[i]["category_id"]}
            entry |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "score": float(self.scores[i])}
            if points is not None:
                entry["keypoints"] = (points[i] - _COCO_SHIFT).flatten().tolist()
            if "segmentation" in described[i]:
                entry["segmentation"] = described[i]["segmentation"]
            entries.append(entry)
        return entries

    def to_label_studio(self, image: str = "") -> dict[str, Any]:
        """A task with a prediction for Label Studio: write a list of these as JSON, import it, and correct the boxes.

        Its labeling needs RectangleLabels "label" on an image "image", and KeyPointLabels "points" where there are
        keypoints, which are labeled by their numbers from 0 (its export to COCO wants the same number as
        ``model_index`` of each label). Coordinates are percent of the image.

        Args:
            image: address of the image, as Label Studio finds it; "" for the name of the file.
        """
        height, width = self.image.shape[:2]
        common = {"original_width": width, "original_height": height, "image_rotation": 0, "to_name": "image"}
        size, points, results = np.array([width, height]), self.keypoints, []
        boxes = 100 * np.clip(self.boxes, 0, np.tile(size, 2)) / np.tile(size, 2)
        for i, (name, score) in enumerate(zip(self.names, self.scores.tolist(), strict=True)):
            x1, y1, x2, y2 = boxes[i].tolist()
            box = {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1, "rotation": 0}
            kind = {"id": f"object{i}", "type": "rectanglelabels", "from_name": "label", "score": score}
            results.append({**common, **kind, "value": {**box, "rectanglelabels": [name]}})
            for k, (x, y) in enumerate([] if points is None else 100 * points[i, :, :2] / size):
                kind = {"id": f"object{i}_point{k}", "parentID": f"object{i}", "type": "keypointlabels"}
                value = {"x": float(x), "y": float(y), "width": 0.5, "keypointlabels": [str(k)]}
                results.append({**common, **kind, "from_name": "points", "value": value})
        score = float(self.scores.mean()) if len(self) else 0.0
        prediction = {"model_version": "centernet_d2", "score": score, "result": results}
        return {"data": {"image": image or self.file_name}, "predictions": [prediction]}

    def to_supervision(self) -> Any:
        """``supervision.Detections``, with class names as "class_name", and keypoints as "keypoints" (P, K, 3).

        Raises:
            ModuleNotFoundError: supervision is not installed.
        """
        import supervision

        data: dict[str, Any] = {"class_name": np.array(self.names, dtype=str)}
        if self.keypoints is not None:
            data["keypoints"] = self.keypoints
        fields = self.instances.get_fields()
        masks, tracks = (
            to_numpy(fields[name]) if name in fields else None for name in ("pred_masks", "pred_track_ids")
        )
        return supervision.Detections(
            xyxy=self.boxes.astype(np.float32).reshape(-1, 4),
            mask=None if masks is None else masks.astype(bool),
            confidence=self.scores.astype(np.float32),
            class_id=self.classes.astype(int),
            tracker_id=None if tracks is None else tracks.astype(int),
            data=data,
        )


def to_numpy(values: Any) -> np.ndarray:
    """An array, a tensor, or Detectron2's ``Boxes`` as an array."""
    return np.asarray(getattr(values, "tensor", values))
