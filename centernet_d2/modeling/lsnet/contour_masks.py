"""Masks that are kept as polygons until they are needed at the size of an image."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detectron2.structures import BitMasks, ROIMasks
from pycocotools import mask as mask_util
from torch import Tensor


class ContourMasks(ROIMasks):
    """Contours (P, K, 2) in the frame of their boxes: x, y of 0..1 from the upper left to the lower right corner.

    Detectron2's ``detector_postprocess`` scales the boxes and then calls :meth:`to_bitmasks`.
    """

    @classmethod
    def from_contours(cls, contours: Tensor, boxes: Tensor) -> ContourMasks:
        """Return masks from contours (P, K, 2) and boxes (P, 4) in the same frame."""
        sides = (boxes[:, None, 2:] - boxes[:, None, :2]).clamp(min=1e-6)
        return cls((contours - boxes[:, None, :2]) / sides)

    def __getitem__(self, item: Any) -> ContourMasks:
        rows = self.tensor[item]
        return ContourMasks(rows[None] if rows.dim() == 2 else rows)

    def to_bitmasks(self, boxes: Any, height: int, width: int, threshold: float = 0.5) -> BitMasks:
        """Return the masks (P, height, width) bool, filled as COCO fills polygons.

        Args:
            boxes: (P, 4) of the masks in an image of that size, as ``Boxes`` or a tensor.
        """
        corners = boxes if isinstance(boxes, Tensor) else boxes.tensor
        sides = corners[:, None, 2:] - corners[:, None, :2]
        polygons = (corners[:, None, :2] + self.tensor * sides).detach().cpu().double().flatten(1).numpy()
        masks = np.zeros((len(polygons), height, width), dtype=bool)
        for mask, polygon in zip(masks, polygons, strict=True):
            mask[:] = mask_util.decode(mask_util.frPyObjects([polygon.tolist()], height, width))[..., 0]
        return BitMasks(torch.from_numpy(masks).to(corners.device))
