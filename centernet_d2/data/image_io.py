"""Reads images from files or synthetic sources; every unreadable image raises one clear error."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, NamedTuple

import cv2
import numpy as np
from detectron2.data.detection_utils import _apply_exif_orientation
from detectron2.utils.file_io import PathManager
from PIL import Image, UnidentifiedImageError

from centernet_d2.data.validation.missing import explain_missing

DatasetDict = dict[str, Any]
ImageSource = Callable[[DatasetDict], np.ndarray]

_SOURCES: dict[str, ImageSource] = {}
# Settings of this process; see ``set_exif_orientation``.
_settings = {"exif_orientation": True}
_METADATA = {"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"}
_DEEP_MODES = ("I", "F")
# OpenCV's flags to decode a JPEG file at a half, a quarter and an eighth of its size.
_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


class Header(NamedTuple):
    """``height`` and ``width`` as stored, pixels; ``orientation`` of EXIF, 0 where upright."""

    height: int
    width: int
    orientation: int

    def get_size(self, upright: bool) -> tuple[int, int]:
        """Return (height, width), rotated as EXIF says if ``upright``."""
        rotated = upright and self.orientation in (5, 6, 7, 8)
        return (self.width, self.height) if rotated else (self.height, self.width)


def set_exif_orientation(applied: bool) -> None:
    """Set ``INPUT.EXIF_ORIENTATION`` for this process: whether images are rotated as their EXIF orientation says.

    "exif_orientation" in a dataset dict takes precedence.
    """
    _settings["exif_orientation"] = applied


def uses_exif_orientation(dataset_dict: DatasetDict) -> bool:
    """Whether the image of a dataset dict is rotated as its EXIF orientation says."""
    return bool(dataset_dict.get("exif_orientation", _settings["exif_orientation"]))


def is_drawn(file_name: str) -> bool:
    """Whether an image comes from a function (``register_image_source``), not from a file."""
    scheme, separator, _ = file_name.partition("://")
    return bool(separator) and scheme in _SOURCES


def get_datasets_root() -> str:
    """Return the folder of the datasets: the environment variable DETECTRON2_DATASETS, or "datasets"."""
    return os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))


class CorruptImageError(ValueError):
    """An image that cannot be used; ``file_name`` and ``reason`` say which and why."""

    def __init__(self, file_name: str, reason: str) -> None:
        super().__init__(file_name, reason)
        self.file_name = file_name
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.file_name}: {self.reason}"


def register_image_source(scheme: str, function: ImageSource) -> None:
    """Take images whose ``file_name`` starts with ``<scheme>://`` from ``function`` instead of a file.

    Args:
        function: called with the dataset dict, returns the (H, W, 3) uint8 image in *RGB* order. Registering again
            replaces.
    """
    _SOURCES[scheme] = function


def read_image(dataset_dict: DatasetDict, format: str = "BGR") -> np.ndarray:
    """Read the image of a dataset dict: (H, W, 3) uint8, contiguous, upright (unless ``set_exif_orientation`` is off).

    Any 8-bit file that PIL knows is converted to three channels (transparency is dropped, an animation gives its first
    frame); the suffix does not matter.

    Args:
        dataset_dict: needs ``file_name``; ``height`` and ``width``, if given, must be those of the image. With ``crop``
            (x1, y1, x2, y2, whole pixels) the result is that part of the image, black outside it, and
            ``source_size`` (height, width), if given, must be that of the whole image.
        format: "BGR" or "RGB".

    Raises:
        CorruptImageError: absent, truncated, empty, not an image, more than 8 bits a channel, too many pixels to
            decode safely, or of another size than the dataset dict says.
    """
    return read_reduced(dataset_dict, format, 1)[0]


def read_reduced(dataset_dict: DatasetDict, format: str, reduction: int) -> tuple[np.ndarray, int]:
    """Read like ``read_image``, but decode an upright JPEG file without crop at a fraction of its size.

    Args:
        reduction: 1, 2, 4 or 8.

    Returns:
        The image and its actual reduction r: pixel (x, y) is about the mean of the pixels r x to r (x + 1) across and
        r y to r (y + 1) down. Its sides are rounded up.

    Raises:
        As ``read_image``.
    """
    if format not in ("BGR", "RGB"):
        raise ValueError(f"INPUT.FORMAT must be BGR or RGB, not {format!r}")
    file_name = os.fspath(dataset_dict["file_name"])
    if is_drawn(file_name):
        image, reduction = _convert_channels(_SOURCES[file_name.partition("://")[0]](dataset_dict), format), 1
        size = image.shape[:2]
    else:
        with _add_file_to_errors(file_name):
            reduction = 1 if "crop" in dataset_dict else reduction
            image, size, reduction = _decode(file_name, format, reduction, uses_exif_orientation(dataset_dict))
    if size != _get_expected_size(dataset_dict, size):
        check_header(dataset_dict, Header(size[0], size[1], 0) if is_drawn(file_name) else read_header(file_name))
    return (crop_image(image, dataset_dict["crop"]) if "crop" in dataset_dict else image), reduction


def crop_image(image: np.ndarray, window: Sequence[int]) -> np.ndarray:
    """Copy the window x1, y1, x2, y2 of an image (H, W, 3), black outside the image."""
    x1, y1, x2, y2 = window
    result = np.zeros((y2 - y1, x2 - x1, image.shape[2]), image.dtype)
    inside = image[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)]
    top, left = max(-y1, 0), max(-x1, 0)
    result[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return result


def read_image_size(file_name: str) -> tuple[int, int]:
    """Read (height, width) as ``read_image`` would give them, from the header alone.

    Raises:
        CorruptImageError: as ``read_image``, if the header shows it.
    """
    return read_header(file_name).get_size(_settings["exif_orientation"])


def read_header(file_name: str) -> Header:
    """Read size and orientation without decoding; raises as ``read_image_size``."""
    with (
        _add_file_to_errors(file_name),
        PathManager.open(file_name, "rb") as file,
        _open_image(file_name, file) as image,
    ):
        # PIL decodes a whole PNG file to look for metadata at its end, so look there first.
        has_none = image.format == "PNG" and b"eXIf" not in _read_end(file) and not _METADATA & image.info.keys()
        return Header(image.height, image.width, 0 if has_none else _read_orientation(image))


def check_header(dataset_dict: DatasetDict, header: Header) -> None:
    """Check the size of an image against its dataset dict.

    Raises:
        CorruptImageError: they differ; the message mentions EXIF where that is the cause.
    """
    upright = uses_exif_orientation(dataset_dict)
    height, width = header.get_size(upright)
    expected = _get_expected_size(dataset_dict, (height, width))
    if expected == (height, width):
        return
    said = f"its annotation says {expected[1]} and {expected[0]}"
    if expected != header.get_size(not upright):
        problem = f"the image, upright, is {width} wide and {height} high; {said}"
    elif upright:
        problem = (
            f"rotated upright by its EXIF orientation ({header.orientation}), the image is {width} wide and {height} "
            f"high; {said}, its size without EXIF: it was annotated unrotated (set INPUT.EXIF_ORIENTATION to False), "
            "or the annotation is wrong"
        )
    else:
        problem = (
            f"the image without its EXIF orientation ({header.orientation}) is {width} wide and {height} high; {said}"
            ", its size upright (set INPUT.EXIF_ORIENTATION to True)"
        )
    raise CorruptImageError(os.fspath(dataset_dict["file_name"]), problem)


def _decode(file_name: str, format: str, reduction: int, upright: bool) -> tuple[np.ndarray, tuple[int, int], int]:
    """Return the upright image, the (height, width) of the full-size image, and the reduction."""
    with PathManager.open(file_name, "rb") as file:
        content = file.read()
    with _open_image(file_name, io.BytesIO(content)) as image:
        if not _is_plain_jpeg(image, content, upright):
            rotated = _apply_exif_orientation(image) if upright else image
            pixels = _convert_channels(np.asarray(rotated.convert("RGB")), format)
            return pixels, pixels.shape[:2], 1
        # The same values as PIL's, with fewer copies.
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), _REDUCED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION)
        if decoded is None:
            raise CorruptImageError(file_name, "damaged: it cannot be decoded")
        pixels = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB) if format == "RGB" else decoded
        return pixels, (image.height, image.width), reduction


def _convert_channels(image: np.ndarray, format: str) -> np.ndarray:
    """Copy an RGB image to the channel order ``format``."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if format == "BGR" else np.array(image)


def _is_plain_jpeg(image: Image.Image, content: bytes, upright: bool) -> bool:
    """Whether OpenCV decodes it correctly: a JPEG file, upright, gray or RGB, and not truncated.

    OpenCV fills the missing part of a truncated file with gray. The end marker cannot occur within the pixel data.
    """
    kind = image.format == "JPEG" and image.mode in ("L", "RGB")
    return kind and content.endswith(b"\xff\xd9") and not (upright and _read_orientation(image))


def _read_end(file: IO[bytes]) -> bytes:
    """Return the last bytes of a file; a PNG file may have metadata after its pixels."""
    position = file.tell()
    file.seek(max(file.seek(0, io.SEEK_END) - (1 << 16), 0))
    content = file.read()
    file.seek(position)
    return content


def _read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 0 if upright; unreadable metadata counts as none."""
    with contextlib.suppress(Exception):
        number = image.getexif().get(0x0112)
        return int(number) if number is not None and number in range(2, 9) else 0
    return 0


@contextlib.contextmanager
def _open_image(file_name: str, file: IO[bytes]) -> Iterator[Image.Image]:
    with warnings.catch_warnings():
        # No warnings about palette transparency and large (but permitted) images.
        warnings.simplefilter("ignore")
        with Image.open(file) as image:
            if image.mode.split(";")[0] in _DEEP_MODES:
                raise CorruptImageError(file_name, f"more than 8 bits a channel (mode {image.mode}): convert it")
            yield image


@contextlib.contextmanager
def _add_file_to_errors(file_name: str) -> Iterator[None]:
    try:
        yield
    except CorruptImageError:
        raise
    except FileNotFoundError:
        raise CorruptImageError(file_name, f"the file {explain_missing(file_name)}") from None
    except UnidentifiedImageError:
        empty = os.path.isfile(file_name) and os.path.getsize(file_name) == 0
        raise CorruptImageError(file_name, "the file is empty" if empty else "not an image") from None
    except Image.DecompressionBombError as error:
        raise CorruptImageError(file_name, f"too large to decode safely: {error}") from None
    except Exception as error:  # PIL's decoders raise almost anything on damaged files
        raise CorruptImageError(file_name, f"damaged: {error or type(error).__name__}") from error


def _get_expected_size(dataset_dict: DatasetDict, size: tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) of the file's image according to the dataset dict; ``size`` if that has none."""
    if "crop" in dataset_dict:
        height, width = dataset_dict.get("source_size", size)
    else:
        height, width = dataset_dict.get("height", size[0]), dataset_dict.get("width", size[1])
    return height, width
