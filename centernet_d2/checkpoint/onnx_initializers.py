"""Reads the weights in an ONNX file without the package onnx.

An ONNX file is a protobuf message. Its wire format is a sequence of fields: a number, a type, and an integer or some
bytes, which may hold another message (https://protobuf.dev/programming-guides/encoding). No code of the file runs,
and sizes are compared with what the file has before anything is allocated.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

# Field numbers of onnx.proto, and TensorProto's data types that are weights.
_MODEL_GRAPH, _GRAPH_INITIALIZER = 7, 5
_DIMS, _DATA_TYPE, _FLOAT_DATA, _NAME, _RAW_DATA, _DATA_LOCATION = 1, 2, 4, 8, 9, 14
_DTYPES: dict[Any, np.dtype[Any]] = {1: np.dtype("<f4"), 7: np.dtype("<i8")}
# Wire types.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# Limits, so that a file of countless tiny fields does not become many times larger in memory.
_MAX_FILE = 2**31  # protobuf's own
_MAX_INITIALIZERS, _MAX_FIELDS, _MAX_DIMS = 10_000, 64, 16


class OnnxFormatError(ValueError):
    """The bytes are no ONNX model, or its weights are not float32 or int64 numbers in the file itself."""


def read_initializers(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Return the float32 and int64 initializers by name, as arrays of their own.

    Raises:
        OSError: the file can't be read.
        OnnxFormatError: see there.
    """
    if os.path.getsize(path) > _MAX_FILE:
        raise OnnxFormatError("it has more than 2 GiB")
    with open(path, "rb") as file:
        model = memoryview(file.read())
    graphs = (graph for number, graph in _read_fields(model) if number == _MODEL_GRAPH)
    tensors = (tensor for graph in graphs for number, tensor in _read_fields(graph) if number == _GRAPH_INITIALIZER)
    initializers: dict[str, np.ndarray] = {}
    for tensor in tensors:
        name, values = _read_tensor(tensor)
        initializers[name] = values
        if len(initializers) > _MAX_INITIALIZERS:
            raise OnnxFormatError(f"it has more than {_MAX_INITIALIZERS} initializers")
    if not initializers:
        raise OnnxFormatError("it has no initializers")
    return initializers


def _read_tensor(message: int | memoryview) -> tuple[str, np.ndarray]:
    fields: dict[int, list[int | memoryview]] = {}
    for count, (number, value) in enumerate(_read_fields(message)):
        fields.setdefault(number, []).append(value)
        if count == _MAX_FIELDS:
            raise OnnxFormatError(f"an initializer has more than {_MAX_FIELDS} fields")
    name = b"".join(_expect_bytes(x) for x in fields.get(_NAME, [])).decode("utf-8", errors="replace")
    kind = fields.get(_DATA_TYPE, [0])[-1]
    if fields.get(_DATA_LOCATION, [0])[-1] != 0 or kind not in _DTYPES:
        raise OnnxFormatError(f"initializer {name!r} is not float32 or int64, or lies in another file")
    dims, dtype = _read_dims(fields.get(_DIMS, [])), _DTYPES[kind]
    data = b"".join(_expect_bytes(x) for key in (_RAW_DATA, _FLOAT_DATA) for x in fields.get(key, []))
    if math.prod(dims) * dtype.itemsize != len(data) or max(dims, default=0) > len(data):
        raise OnnxFormatError(f"initializer {name!r} has {len(data)} bytes, which its shape {dims} does not")
    return name, np.frombuffer(data, dtype).reshape(dims).astype(dtype.newbyteorder("="))


def _read_fields(message: int | memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field: an unsigned integer, or bytes."""
    data, position = _expect_bytes(message), 0
    while position < len(data):
        key, position = _read_varint(data, position)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, position = _read_varint(data, position)
            yield number, value
            continue
        if wire == _BYTES:
            length, position = _read_varint(data, position)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise OnnxFormatError(f"a field has the unknown type {wire}")
        if length > len(data) - position:
            raise OnnxFormatError(f"a field of {length} bytes is cut off")
        yield number, data[position : position + length]
        position += length


def _read_varint(data: memoryview, position: int) -> tuple[int, int]:
    """Return the integer at ``position``, 7 bits per byte, and the position behind it."""
    value = 0
    for shift, byte in zip(range(0, 70, 7), data[position : position + 10], strict=False):
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (2**64 - 1), position + shift // 7 + 1
    raise OnnxFormatError("an integer is cut off or has more than 64 bits")


def _read_dims(values: list[int | memoryview]) -> list[int]:
    """Return a shape: one integer per field, or several packed into bytes."""
    dims: list[int] = []
    for value in values:
        if isinstance(value, int):
            dims.append(value)
            continue
        position = 0
        while position < len(value) and len(dims) <= _MAX_DIMS:
            dim, position = _read_varint(value, position)
            dims.append(dim)
    if len(dims) > _MAX_DIMS:
        raise OnnxFormatError(f"an initializer has more than {_MAX_DIMS} dimensions")
    return dims


def _expect_bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise OnnxFormatError("there is an integer where a message is expected")
    return value
