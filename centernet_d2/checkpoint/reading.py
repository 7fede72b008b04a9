"""Reading weights without running code from the file.

``torch.load(weights_only=True)`` is sound from torch 2.10 on (older ones could be fooled: CVE-2025-32434,
CVE-2026-24747). Detectron2's own loader unpickles every ``.pkl`` freely; here only arrays, containers, strings and
numbers come out of one.
"""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections import OrderedDict
from typing import Any, Literal

import numpy as np
import torch

from centernet_d2.checkpoint.centerface import convert_centerface

_SAFE_WAY = (
    "A checkpoint needs only tensors: save `model.state_dict()` with torch.save, or use .safetensors. "
    "If you trust its author, convert it in a separate process and load the result here."
)
# First bytes of torch files before the zip format: a pickled number.
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


class UnsafeCheckpointError(ValueError):
    """The file would build objects other than plain data. No code of it has run."""


class CorruptCheckpointError(ValueError):
    """The file is damaged, cut off, or no checkpoint."""


def load_file(path: str | os.PathLike[str], *, mmap: bool = False) -> dict[str, Any]:
    """Return the contents of a checkpoint file as saved: tensors (CPU) or NumPy arrays, and plain values.

    Args:
        path: local ``.pkl`` (arrays only, unless it is a torch file, as ExtremeNet's), ``.safetensors``, ``.onnx``
            (that of CenterFace, under our names), or anything else as a torch file.
        mmap: leave tensors of a torch file on disk until they are read.

    Raises:
        FileNotFoundError: there is no such file.
        UnsafeCheckpointError: it holds anything but plain data. There is no option to load it anyway.
        CorruptCheckpointError: damaged (checksums are compared), cut off, or not a dictionary.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no checkpoint {path}")
    if path.endswith(".pkl") and not _is_torch_file(path):
        data = _load_pickle(path)
    elif path.endswith(".safetensors"):
        data = _load_safetensors(path)
    elif path.endswith(".onnx"):
        data = {"model": convert_centerface(path)}
    else:
        data = _load_torch(path, mmap)
    if not isinstance(data, dict):
        raise CorruptCheckpointError(f"{path} holds a {type(data).__name__}, not a dictionary of weights")
    return data


def _is_torch_file(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(len(_OLD_TORCH)) == _OLD_TORCH or zipfile.is_zipfile(file)


def _load_torch(path: str, mmap: bool) -> Any:
    is_zip = zipfile.is_zipfile(path)
    if is_zip:
        _check_sums(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and is_zip)
    except Exception as error:
        raise _explain(path, error) from None


def _check_sums(path: str) -> None:
    """Compare checksums, which torch's reader skips: a flipped byte would become a weight."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:
        raise CorruptCheckpointError(f"{path} is damaged or cut off: {error}") from None
    if damaged is not None:
        raise CorruptCheckpointError(f"{path} is damaged: the checksum of its record {damaged!r} is wrong")


def _explain(path: str, error: Exception) -> Exception:
    """Return an error with torch's message, without its advice to load unsafely."""
    text = str(error)
    if found := re.search(r"(?:Unsupported (?:global|class|type)\D*?|GLOBAL )([\w.]+\.[\w.]+)", text):
        return UnsafeCheckpointError(f"{path} is refused: it would build {found[1]}, which may run code. {_SAFE_WAY}")
    if found := re.search(r"legacy \.tar|TorchScript", text):
        return UnsafeCheckpointError(f"{path} is refused: reading {found[0]} files may run code. {_SAFE_WAY}")
    return CorruptCheckpointError(f"{path} is damaged, cut off or no checkpoint ({type(error).__name__})")


def _load_safetensors(path: str) -> dict[str, torch.Tensor]:
    try:
        from safetensors.torch import load_file as load_safetensors
    except ImportError:
        raise ImportError(f"reading {path} needs the package safetensors: pip install safetensors") from None
    try:
        return load_safetensors(path)
    except Exception as error:
        raise CorruptCheckpointError(f"{path} is damaged or no safetensors file: {error}") from None


def _load_pickle(path: str) -> Any:
    with open(path, "rb") as file:
        try:
            return _to_arrays(_PlainUnpickler(path, file).load())
        except (UnsafeCheckpointError, CorruptCheckpointError):
            raise
        except Exception as error:
            raise CorruptCheckpointError(f"{path} is damaged, cut off or no pickle: {error}") from None


class _PlainUnpickler(pickle.Unpickler):
    """Unpickler that builds placeholders for arrays and calls no function named by the file."""

    def __init__(self, path: str, file: Any) -> None:
        super().__init__(file, encoding="latin1")
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        known = _ADMITTED.get((module.replace("numpy._core", "numpy.core"), name))
        if known is None:
            raise UnsafeCheckpointError(
                f"{self.path} is refused: it would build {module}.{name}, which may run code. {_SAFE_WAY}"
            )
        # Bound methods: a pickle can set attributes on functions and classes that it is given, but not on these.
        return OrderedDict if known == "OrderedDict" else getattr(self, known)

    def persistent_load(self, pid: Any) -> Any:
        raise UnsafeCheckpointError(f"{self.path} is refused: it refers to objects outside itself. {_SAFE_WAY}")

    def make_array_type(self) -> None:
        """Stand in for numpy.ndarray, which pickles refer to by name."""

    def dtype(self, code: str, *_: Any) -> _Dtype:
        return _Dtype(code)

    def reconstruct(self, *_: Any) -> _Array:
        return _Array()

    def from_buffer(self, raw: Any, dtype: _Dtype, shape: tuple[int, ...], order: str) -> _Array:
        array = _Array()
        array.__setstate__((1, shape, dtype, order == "F", raw))
        return array

    def make_scalar(self, dtype: _Dtype, raw: bytes | str) -> _Array:
        return self.from_buffer(raw, dtype, (), "C")

    def make_empty_bytes(self) -> bytes:
        return b""

    def encode(self, text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise CorruptCheckpointError(f"{self.path} holds bytes written as {encoding!r}")
        return text.encode("latin1")


_ADMITTED = {
    ("collections", "OrderedDict"): "OrderedDict",
    ("numpy", "dtype"): "dtype",
    ("numpy", "ndarray"): "make_array_type",
    ("numpy.core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy.core.multiarray", "scalar"): "make_scalar",
    ("numpy.core.numeric", "_frombuffer"): "from_buffer",
    ("_codecs", "encode"): "encode",
    ("__builtin__", "bytes"): "make_empty_bytes",
}


class _Dtype:
    def __init__(self, code: str) -> None:
        if not re.fullmatch(r"[<>=|]?[biufc?]\d*", code):
            raise CorruptCheckpointError(f"arrays of type {code!r} are no weights")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, byte_order, *structure = state
        if any(part is not None for part in structure[:3]):
            raise CorruptCheckpointError("structured arrays are no weights")
        self.dtype = self.dtype.newbyteorder(byte_order)


class _Array:
    """The state of a pickled array; becomes one when everything is read."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.dtype, fortran, self.raw = state
        self.order: Literal["F", "C"] = "F" if fortran else "C"

    def build(self) -> np.ndarray:
        raw = self.raw.encode("latin1") if isinstance(self.raw, str) else self.raw
        array = np.frombuffer(bytes(raw), self.dtype.dtype).reshape(self.shape, order=self.order)
        return array.astype(array.dtype.newbyteorder("="))


def _to_arrays(data: Any) -> Any:
    if isinstance(data, _Array):
        return data.build()
    if isinstance(data, dict):
        return type(data)((key, _to_arrays(value)) for key, value in data.items())
    if isinstance(data, list | tuple):
        return type(data)(_to_arrays(value) for value in data)
    if data is None or isinstance(data, str | bytes | int | float):
        return data
    raise CorruptCheckpointError(f"a {type(data).__name__} among the weights")
