"""Images of every kind are either read right or refused with one error that names the file."""

from __future__ import annotations

import pickle
import struct
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from centernet_d2.data.image_io import CorruptImageError, read_image, read_image_size, register_image_source


@pytest.fixture
def image() -> np.ndarray:
    """(6, 9, 3) RGB in blocks of strong colors; no two orientations look alike."""
    image = np.zeros((48, 72, 3), np.uint8)
    image[:24, :24] = (250, 10, 20)
    image[24:, :24] = (20, 240, 30)
    image[:24, 24:] = (30, 40, 230)
    return image


def _record(path: Path) -> dict[str, object]:
    return {"file_name": str(path)}


def test_png_is_exact_in_both_channel_orders(tmp_path: Path, image: np.ndarray) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(image).save(path)
    np.testing.assert_array_equal(read_image(_record(path), "RGB"), image)
    bgr = read_image(_record(path), "BGR")
    np.testing.assert_array_equal(bgr, image[:, :, ::-1])
    assert bgr.flags.c_contiguous and bgr.flags.writeable
    with pytest.raises(ValueError, match=r"INPUT\.FORMAT"):
        read_image(_record(path), "L")


@pytest.mark.parametrize(("mode", "suffix"), [("L", "png"), ("LA", "png"), ("P", "gif"), ("RGBA", "png"), ("1", "png")])
def test_other_modes_become_three_channels(tmp_path: Path, image: np.ndarray, mode: str, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    source = Image.fromarray(image)
    # Three colors and black are exact in a palette, too.
    source = source.quantize(4) if mode == "P" else source.convert(mode)
    source.save(path)
    expected = image if mode in ("P", "RGBA") else np.asarray(Image.fromarray(image).convert(mode).convert("RGB"))
    np.testing.assert_array_equal(read_image(_record(path), "RGB"), expected)


def test_cmyk_jpeg_has_the_right_colors(tmp_path: Path, image: np.ndarray) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(image).convert("CMYK").save(path, quality=100, subsampling=0)
    difference = np.abs(read_image(_record(path), "RGB").astype(int) - image)
    assert np.median(difference) <= 4 and difference.mean() < 8


def test_wrong_suffix_does_not_matter(tmp_path: Path, image: np.ndarray) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(image).save(path, format="PNG")
    np.testing.assert_array_equal(read_image(_record(path), "RGB"), image)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, image: np.ndarray, orientation: int) -> None:
    # How the stored image comes from the upright one, by the EXIF standard's "row 0 is, column 0 is".
    stored = {
        1: image,
        2: image[:, ::-1],
        3: image[::-1, ::-1],
        4: image[::-1],
        5: image.transpose(1, 0, 2),
        6: np.rot90(image, 1),
        7: image[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(image, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(np.ascontiguousarray(stored[orientation])).save(path, exif=exif)
    np.testing.assert_array_equal(read_image(_record(path), "RGB"), image)
    assert read_image_size(str(path)) == image.shape[:2]


@pytest.mark.parametrize("settings", [{}, {"subsampling": 0}, {"progressive": True}, {"quality": 5}, {"exif": None}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("format", ["RGB", "BGR"])
def test_jpeg_is_read_as_pil_reads_it(tmp_path: Path, settings: dict[str, object], mode: str, format: str) -> None:
    """To the last bit, whichever decoder it is; "exif" puts the end marker's bytes in front of the image, too."""
    smooth = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)).resize((131, 93))
    path = tmp_path / "a.jpg"
    if "exif" in settings:
        settings = {"exif": b"Exif\0\0" + b"\xff\xd9" * 20}
    smooth.convert(mode).save(path, **settings)
    expected = np.asarray(Image.open(path).convert("RGB"))
    image = read_image(_record(path), format)
    np.testing.assert_array_equal(image, expected if format == "RGB" else expected[:, :, ::-1])
    assert image.flags.c_contiguous and image.flags.writeable
    assert read_image_size(str(path)) == (93, 131)


def test_photos_are_read_as_pil_reads_them(shared_data: Path) -> None:
    paths = sorted(shared_data.glob("*/**/*.jpg"))[::40]
    assert len(paths) > 20
    for path in paths:
        np.testing.assert_array_equal(read_image(_record(path), "RGB"), np.asarray(Image.open(path).convert("RGB")))


def _corrupt_files(folder: Path, image: np.ndarray) -> dict[str, Path]:
    whole = folder / "whole.jpg"
    Image.fromarray(np.repeat(np.repeat(image, 8, 0), 8, 1)).save(whole)
    contents = {
        "truncated": whole.read_bytes()[: whole.stat().st_size // 2],
        "empty": b"",
        "text": b"<html>404 not found</html>",
        "zeros": bytes(1000),
    }
    paths = {name: folder / f"{name}.jpg" for name in (*contents, "absent", "folder", "deep", "float")}
    for name, content in contents.items():
        paths[name].write_bytes(content)
    paths["folder"].mkdir()
    Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30)).save(paths["deep"], format="PNG")
    Image.fromarray(np.zeros((20, 30), np.float32)).save(paths["float"], format="TIFF")
    return paths


def test_corrupt_files_are_named_with_the_reason(tmp_path: Path, image: np.ndarray) -> None:
    reasons = {
        "truncated": "truncated",
        "empty": "empty",
        "text": "not an image",
        "zeros": "not an image",
        "absent": "does not exist",
        "folder": "directory",
        "deep": "8 bits",
        "float": "8 bits",
    }
    for name, path in _corrupt_files(tmp_path, image).items():
        with pytest.raises(CorruptImageError) as caught:
            read_image(_record(path))
        assert str(path) in str(caught.value), name
        assert reasons[name] in caught.value.reason, (name, caught.value.reason)


def test_jpeg_cut_anywhere_is_read_whole_or_refused(tmp_path: Path, image: np.ndarray) -> None:
    whole = tmp_path / "whole.jpg"
    Image.fromarray(image).save(whole)
    content, expected = whole.read_bytes(), read_image(_record(whole))
    # The marker of the end stands at some other one's place, too, as that of a thumbnail does.
    start = content[:2] + b"\xff\xe1\x00\x08abcd\xff\xd9"
    content = start + content[2:]
    for length in [len(start), *range(0, len(content), 7)]:
        cut = tmp_path / "cut.jpg"
        cut.write_bytes(content[:length])
        try:
            image = read_image(_record(cut))
        except CorruptImageError:
            continue
        np.testing.assert_array_equal(image, expected)


def test_size_that_differs_from_the_dataset_dict_is_named(tmp_path: Path, image: np.ndarray) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(image).save(path)
    read_image({"file_name": str(path), "height": 48, "width": 72})
    with pytest.raises(CorruptImageError, match=r"a\.png.*72 wide and 48 high.*says 48 and 72"):
        read_image({"file_name": str(path), "height": 72, "width": 48})


def test_error_survives_the_way_out_of_a_worker() -> None:
    error = pickle.loads(pickle.dumps(CorruptImageError("a.jpg", "empty")))
    assert (error.file_name, error.reason, str(error)) == ("a.jpg", "empty", "a.jpg: empty")


def test_synthetic_images() -> None:
    image = np.zeros((2, 3, 3), np.uint8)
    image[..., 0] = 200
    register_image_source("test-drawn", lambda dataset_dict: image)
    np.testing.assert_array_equal(read_image({"file_name": "test-drawn://x/1"}, "RGB"), image)
    np.testing.assert_array_equal(read_image({"file_name": "test-drawn://x/1"}, "BGR"), image[:, :, ::-1])


def _png_bomb(path: Path, side: int) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    compressor = zlib.compressobj(9)
    rows = b"".join(compressor.compress(bytes(1 + side // 8)) for _ in range(side)) + compressor.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def test_decompression_bomb_is_refused_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    _png_bomb(path, 30000)
    assert path.stat().st_size < 1_000_000
    script = """
        import resource, sys, time
        from centernet_d2.data.image_io import CorruptImageError, read_image
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
        try:
            read_image({"file_name": sys.argv[1]})
        except CorruptImageError as error:
            print(error)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, time.monotonic() - start)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(path)]
    message, numbers = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=60
    ).stdout.splitlines()
    kibibytes, seconds = map(float, numbers.split())
    assert "bomb.png: too large" in message
    assert kibibytes < 50_000
    assert seconds < 2
