"""Colors, noise and compression by torchvision's transforms (its second version), chosen by name; nothing moves."""

# What is random is seeded from NumPy's global state, which the loader seeds for each image.
# ruff: noqa: NPY002

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data.transforms import Augmentation
from fvcore.transforms.transform import NoOpTransform, Transform
from torch import nn
from torchvision.transforms import v2

from centernet_d2.data.transforms.pixel import PixelTransform

#: Those that leave every pixel's place, the image's size and its channels alone.
NAMES = (
    "ColorJitter",
    "GaussianBlur",
    "GaussianNoise",
    "JPEG",
    "RandomAdjustSharpness",
    "RandomAutocontrast",
    "RandomChannelPermutation",
    "RandomEqualize",
    "RandomGrayscale",
    "RandomInvert",
    "RandomPhotometricDistort",
    "RandomPosterize",
    "RandomSolarize",
)
# Some arguments are found to be wrong only where the transform happens to be applied.
_TRIALS = 8


class SeededTransform(PixelTransform):
    """A random torchvision transform with its chance drawn beforehand: every image gets the same change."""

    def __init__(self, transform: nn.Module, seed: int, format: str) -> None:
        """
        Args:
            transform: of (3, H, W) uint8 tensors in RGB order; draws from torch's generator.
            format: "BGR" or "RGB", the order of the images' channels.
        """
        super().__init__()
        self.transform, self.seed, self.format = transform, seed, format

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """Transform (H, W, 3) uint8; the result has the same shape. torch's random state does not change."""
        order = [2, 1, 0] if self.format == "BGR" else [0, 1, 2]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            changed = self.transform(torch.from_numpy(img).permute(2, 0, 1)[order])
        return changed[order].permute(1, 2, 0).contiguous().numpy()


class RandomPhotometric(Augmentation):
    """One of torchvision's transforms, applied with a probability of its own besides what it does at random itself."""

    def __init__(self, name: str, arguments: dict[str, Any], prob: float = 1.0, format: str = "BGR") -> None:
        """
        Args:
            name: one of ``NAMES``, a class of ``torchvision.transforms.v2``.
            arguments: its own, in its units (some are of 0..255, some of 0..1).
            format: "BGR" or "RGB", the order of the image's channels.

        Raises:
            ValueError: a name that is unknown or moves pixels, or arguments the transform does not take or work with.
        """
        super().__init__()
        if name not in NAMES:
            why = (
                "moves or hides pixels, or makes something else of them"
                if hasattr(v2, name)
                else "is not one of torchvision's"
            )
            raise ValueError(
                f"INPUT.PHOTOMETRIC: {name} {why}. These can be used: {', '.join(NAMES)}; "
                "geometry is INPUT.AFFINE's, patches are INPUT.RANDOM_ERASING's"
            )
        if not 0 <= prob <= 1:
            raise ValueError(f"INPUT.PHOTOMETRIC: the probability of {name} must be in [0, 1], not {prob}")
        try:
            transform = getattr(v2, name)(**arguments)
            for seed in range(_TRIALS):
                SeededTransform(transform, seed, format).apply_image(np.zeros((32, 32, 3), np.uint8))
        except Exception as error:  # torchvision raises almost anything
            raise ValueError(f"INPUT.PHOTOMETRIC: {name} with {arguments}: {error}") from error
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        if np.random.rand() >= self.prob:
            return NoOpTransform()
        return SeededTransform(self.transform, int(np.random.randint(2**31)), self.format)


def build_photometric(entries: Sequence[Sequence[Any]], format: str) -> list[Augmentation]:
    """Build the augmentations of ``INPUT.PHOTOMETRIC``: (name, arguments) or (name, arguments, probability) each.

    Raises:
        ValueError: an entry of another form; and ``RandomPhotometric``'s.
    """
    augmentations: list[Augmentation] = []
    for entry in entries:
        match entry:
            case [str(name), dict(arguments)]:
                augmentations.append(RandomPhotometric(name, arguments, format=format))
            case [str(name), dict(arguments), float(prob) | int(prob)]:
                augmentations.append(RandomPhotometric(name, arguments, prob, format))
            case _:
                raise ValueError(f"INPUT.PHOTOMETRIC: {entry!r} is not [name, {{arguments}}(, probability)]")
    return augmentations
