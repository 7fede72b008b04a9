"""What a user names as input (files, folders, glob patterns, datasets, cameras) becomes images, in order."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from centernet_d2.video import VIDEO_SUFFIXES, Frame, is_video

_NUM_NAMED = 10
# Where Detectron2 may be absent.
_PLAIN_SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))


class Sources:
    """Finds and reads images.

    Args:
        with_detectron2: registered datasets are inputs, and images are read as in training. Otherwise only PIL is
            needed.
    """

    def __init__(self, with_detectron2: bool) -> None:
        self.with_detectron2 = with_detectron2

    def read(self, dataset_dict: dict[str, Any]) -> np.ndarray:
        """(H, W, 3) uint8, BGR, upright as its EXIF orientation says.

        Raises:
            ValueError: it cannot be read; the message names the file.
        """
        if self.with_detectron2:
            from centernet_d2.data.image_io import read_image

            return read_image(dataset_dict)
        try:
            with Image.open(dataset_dict["file_name"]) as image:
                rgb = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise ValueError(f"{dataset_dict['file_name']}: {error}") from None
        return np.ascontiguousarray(rgb[:, :, ::-1])

    def read_all(self, dataset_dicts: list[dict[str, Any]]) -> Iterator[Frame]:
        """The images of dataset dicts, numbered as these; unreadable ones print a line on stderr.

        Dataset dicts with the same "video_id" that follow each other are frames of one video.
        """
        video = None
        for index, dataset_dict in enumerate(dataset_dicts):
            try:
                image = self.read(dataset_dict)
            except ValueError as error:
                print(f"left out: {error}", file=sys.stderr)
                continue
            starts = dataset_dict.get("video_id") is None or dataset_dict["video_id"] != video
            video = dataset_dict.get("video_id")
            yield Frame(index, 0.0, image, starts, dataset_dict)

    def find(self, source: str, skip: Path | None = None) -> list[dict[str, Any]]:
        """Dataset dicts (``file_name`` at least) of a file, the images and videos of a folder and its sub-folders, a
        glob pattern, a registered dataset or a camera.

        Raises:
            FileNotFoundError: it is none of these, or holds no image.
        """
        path = Path(source)
        if path.is_dir():
            names = self.find_files(path, skip)
        elif path.is_file():
            names = [source]
        elif self.with_detectron2 and (registered := _load_registered(source)) is not None:
            return registered
        elif is_video(source) and not path.suffix:
            names = [source]
        else:
            names = sorted(name for name in glob.glob(source, recursive=True) if Path(name).is_file())
        if not names:
            raise FileNotFoundError(
                f"{source}: no image there (a file, a folder, a quoted glob pattern, a dataset or webcam)"
            )
        return [{"file_name": name} for name in names]

    def find_all(self, sources: list[str], skip: Path | None = None) -> list[dict[str, Any]]:
        """The dataset dicts of all inputs; an input without images prints a line on stderr.

        Raises:
            FileNotFoundError: no input is left.
        """
        dataset_dicts, reasons = [], []
        for source in sources:
            try:
                dataset_dicts += self.find(source, skip)
            except (FileNotFoundError, ValueError) as error:
                reasons.append(str(error))
        if not dataset_dicts:
            raise FileNotFoundError("\n".join(reasons))
        for reason in reasons:
            print(f"left out: {reason}", file=sys.stderr)
        return dataset_dicts

    def find_files(self, folder: Path, skip: Path | None = None) -> list[str]:
        """The images and videos of a folder and its sub-folders, sorted; hidden files are left out.

        Files of other kinds are counted and named on stderr.

        Args:
            skip: a folder below that is not searched, such as that of the output.
        """
        known, seen = self._list_image_suffixes() | VIDEO_SUFFIXES, set()
        names: list[str] = []
        unread: list[str] = []
        for parent, folders, files in os.walk(folder, followlinks=True):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            real = Path(parent).resolve()
            if real in seen or (real == skip and real != folder.resolve()):
                folders.clear()
                continue
            seen.add(real)
            for file in sorted(name for name in files if not name.startswith(".")):
                (names if Path(file).suffix.lower() in known else unread).append(str(Path(parent, file)))
        if unread:
            shown = ", ".join(unread[:_NUM_NAMED]) + ", ..." * (len(unread) > _NUM_NAMED)
            print(f"left out: {len(unread)} files that are no images or videos read here: {shown}", file=sys.stderr)
        return names

    def _list_image_suffixes(self) -> frozenset[str]:
        if not self.with_detectron2:
            return _PLAIN_SUFFIXES
        from centernet_d2.data.formats.image_files import list_image_suffixes

        return list_image_suffixes()


def _load_registered(name: str) -> list[dict[str, Any]] | None:
    """The dataset dicts of a registered dataset; None where there is none of this name."""
    from detectron2.data import DatasetCatalog

    return DatasetCatalog.get(name) if name in DatasetCatalog else None
