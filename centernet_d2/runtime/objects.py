"""Objects in an image, in NumPy: what Detectron2's ``Instances`` are without PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np


class Objects:
    """P objects with fields of equal length, which are attributes: ``objects.pred_boxes``.

    Args:
        image_size: (height, width).
        fields: "pred_boxes" (P, 4) x1, y1, x2, y2, "scores" (P,), "pred_classes" (P,), and others (P, ...).
    """

    def __init__(self, image_size: tuple[int, int], fields: dict[str, np.ndarray]) -> None:
        self.image_size, self._fields = image_size, dict(fields)

    def __len__(self) -> int:
        return len(self._fields["scores"])

    def __getattr__(self, name: str) -> np.ndarray:
        try:
            return self.__dict__["_fields"][name]
        except KeyError:
            raise AttributeError(f"objects have no field {name!r}") from None

    def __getitem__(self, rows: Any) -> Objects:
        """The objects of an index, a mask or a slice; of an integer one object."""
        rows = [rows] if isinstance(rows, int) else rows
        return Objects(self.image_size, {name: values[rows] for name, values in self._fields.items()})

    def has(self, name: str) -> bool:
        """Whether there is this field."""
        return name in self._fields

    def get_fields(self) -> dict[str, np.ndarray]:
        """All fields by name."""
        return self._fields

    def __repr__(self) -> str:
        return f"Objects({len(self)}, image_size={self.image_size}, fields={list(self._fields)})"
