"""How an image becomes the network's input at test time: letterbox, scales, flipping."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import Tensor

from centernet_d2.geometry import (
    build_letterbox_matrix,
    compute_fitting_scale,
    compute_short_side_scale,
    get_stretch_matrix,
    invert_matrix,
    resize_image,
    warp_image,
)
from centernet_d2.modeling.tasks import Task
from centernet_d2.ops.constants import make_constant
from centernet_d2.runtime.images import to_uint8
from centernet_d2.structures import Candidates

#: How an image becomes the network's input, see :class:`TestTimeAugmentation`.
RESIZES = ("fixed", "keep", "stretch", "short_side")


@dataclass(frozen=True)
class TestTimeAugmentation:
    """Settings of prediction.

    Attributes:
        resize: "fixed": fit the image into ``size``; "keep": its own size, padded to what the backbone divides by;
            "stretch": its own size, each side scaled up to what the backbone divides by;
            "short_side": scaled so that ``size`` limits its shorter and its longer side, padded likewise.
        size: (height, width) of the network input where fixed; (shorter, longer) side.
        scales: factors of the input size; each is a pass of its own.
        flip: also look at the flipped image.
        pixel_center: see :mod:`centernet_d2.geometry`.
        pad_always: a kept size is padded even where it needs no padding (as in the reference).
        fit_width: fixed sizes are fitted by the image's width alone (``geometry.compute_fitting_scale``).
    """

    __test__ = False  # pytest: not a test class

    resize: str = "fixed"
    size: tuple[int, int] = (512, 512)
    scales: Sequence[float] = (1.0,)
    flip: bool = False
    pixel_center: float = 0.5
    pad_always: bool = False
    fit_width: bool = False

    def __post_init__(self) -> None:
        if self.resize not in RESIZES:
            raise ValueError(f"INPUT.RESIZE_TEST must be one of {RESIZES}, not {self.resize!r}")
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(f"TEST.AUG.SCALES must be positive numbers, not {list(self.scales)}")

    @classmethod
    def from_config(cls, cfg: CfgNode) -> TestTimeAugmentation:
        augmented = cfg.TEST.AUG.ENABLED
        return cls(
            resize=cfg.INPUT.RESIZE_TEST,
            size=tuple(cfg.INPUT.SIZE_TEST),
            scales=tuple(cfg.TEST.AUG.SCALES) if augmented else (1.0,),
            flip=augmented and cfg.TEST.AUG.FLIP,
            pixel_center=cfg.MODEL.CENTERNET.PIXEL_CENTER,
            pad_always=cfg.INPUT.PAD_ALWAYS,
            fit_width=cfg.INPUT.FIT_WIDTH,
        )

    def compute_input_size(self, image_size: tuple[int, int], scale: float, divisibility: int) -> tuple[int, int]:
        """Return (height, width) of the network input, rounded up to ``divisibility``."""
        base: Sequence[float] = self.size if self.resize == "fixed" else image_size
        if self.resize == "short_side":
            base, scale = [round(side * self._compute_short_side_zoom(image_size, scale)) for side in image_size], 1.0
        if self.resize == "keep" and self.pad_always:
            height, width = ((int(side * scale) // divisibility + 1) * divisibility for side in base)
        else:
            height, width = (int(np.ceil(side * scale / divisibility)) * divisibility for side in base)
        return height, width

    def zoom(self, image_size: tuple[int, int], input_size: tuple[int, int], scale: float) -> float:
        """Return the input pixels per image pixel where both sides have the same; sizes are (height, width)."""
        if self.resize == "keep":
            return scale
        if self.resize == "short_side":
            return self._compute_short_side_zoom(image_size, scale)
        return compute_fitting_scale(image_size, input_size, self.fit_width)

    def _compute_short_side_zoom(self, image_size: tuple[int, int], scale: float) -> float:
        return compute_short_side_scale(image_size, (self.size[0] * scale, self.size[1] * scale))

    def group(self, image_sizes: Sequence[tuple[int, int]], divisibility: int) -> list[list[int]]:
        """Return groups of indices of images (height, width) that become inputs of one size."""
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i, size in enumerate(image_sizes):
            groups[self.compute_input_size(size, 1.0, divisibility)].append(i)
        return list(groups.values())

    def letterbox(
        self, images: Sequence[Tensor], scale: float, divisibility: int
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Fit images that share an input size into it.

        Args:
            images: (3, h, w) each, any real dtype, 0..255.

        Returns:
            uint8 (3, H, W) inputs, and the way back, float32 x and y: image pixels = input pixels * scale (N, 2) +
            shift (N, 2).

        Raises:
            TypeError, ValueError: as :func:`check_tensor`.
        """
        warped, scales, shifts = [], [], []
        for image in images:
            pixels = _convert_to_array(image)
            image_size = pixels.shape[:2]
            size = self.compute_input_size(image_size, scale, divisibility)
            if self.resize == "stretch":
                matrix, inputs = get_stretch_matrix(image_size, size), resize_image(pixels, size)
            else:
                matrix = build_letterbox_matrix(image_size, size, self.zoom(image_size, size, scale))
                inputs = warp_image(pixels, matrix, size, self.pixel_center)
            warped.append(torch.from_numpy(np.ascontiguousarray(inputs.transpose(2, 0, 1))))
            back = invert_matrix(matrix)
            scales.append(torch.tensor([back[0, 0], back[1, 1]], dtype=torch.float32))
            shifts.append(torch.tensor(back[:, 2], dtype=torch.float32))
        return warped, torch.stack(scales), torch.stack(shifts)

    def decode(self, model: MapModel, images: Tensor, scale: Tensor, shift: Tensor) -> list[Candidates]:
        """Return candidates in image pixels of one batch (N, 3, H, W) and, with ``flip``, of its flipped copies.

        Args:
            scale, shift: (N, 2) x, y, the way from input pixels to image pixels.
        """
        task, scale_of_cells = model.task, scale * model.stride
        if not self.flip:
            return [task.decode(model.run_network(images)).transform(scale_of_cells, shift)]
        maps, flipped = forward_with_flip(model.run_network, images, at_once=images.is_cuda)
        if task.flip_closed:
            return [task.decode(task.merge_flipped(maps, flipped)).transform(scale_of_cells, shift)]
        flip = make_constant([-1.0, 1.0], scale)
        far_side = shift + scale * make_constant([images.shape[-1], 0.0], scale)
        return [
            task.decode(maps).transform(scale_of_cells, shift),
            task.unflip_candidates(task.decode(flipped).transform(scale_of_cells * flip, far_side)),
        ]


class MapModel(Protocol):
    """What :meth:`TestTimeAugmentation.decode` needs of a model."""

    task: Task
    stride: int
    run_network: Callable[[Tensor], dict[str, Tensor]]


def forward_with_flip(
    network: Callable[[Tensor], dict[str, Tensor]], images: Tensor, at_once: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return ``network`` of ``images`` (N, 3, H, W) and of their flipped copies.

    Args:
        at_once: in one batch of 2N, which fills a GPU; on a CPU two are a little quicker where maps are large (less
            leaves the caches), and slower where they are small.
    """
    flipped = images.flip(-1)
    if not at_once:
        return network(images), network(flipped)
    both, count = network(torch.cat([images, flipped])), len(images)
    return {name: x[:count] for name, x in both.items()}, {name: x[count:] for name, x in both.items()}


def check_tensor(image: Any) -> Tensor:
    """Return ``image``, as Detectron2's dicts have it, as a (3, H, W) uint8 tensor.

    One channel becomes three. Floats may be the uint8 image that ``DefaultPredictor`` cast; they are looked at on the
    CPU, where the letterbox wants them anyway. The values of uint8 images are not looked at.

    Raises:
        TypeError: it is no tensor.
        ValueError: its shape, dtype or values are not those of an image, see :mod:`centernet_d2.runtime.images`.
    """
    if not isinstance(image, Tensor):
        raise TypeError(f'"image" must be a tensor (3, H, W) of 0..255, not a {type(image).__name__}')
    if image.dim() != 3 or image.shape[0] not in (1, 3) or image.numel() == 0:
        raise ValueError(
            f'"image" must be a tensor (3, H, W) of 0..255, not {tuple(image.shape)} {image.dtype}: give an image '
            "(H, W, 3), such as image[:, :, :3] of one with alpha"
        )
    if image.dtype != torch.uint8:
        pixels = (image.float() if image.is_floating_point() else image).detach().cpu().numpy()
        image = torch.from_numpy(to_uint8(pixels.transpose(1, 2, 0), was_cast=True)).permute(2, 0, 1)
    return image.expand(3, -1, -1)


def _convert_to_array(image: Tensor) -> np.ndarray:
    """Return (h, w, 3) uint8, contiguous."""
    return np.ascontiguousarray(check_tensor(image).cpu().numpy().transpose(1, 2, 0))
