"""Initializers as the package onnx reads them, and files that are damaged or hostile."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from centernet_d2.checkpoint.onnx_initializers import OnnxFormatError, read_initializers

onnx = pytest.importorskip("onnx")


def field(number: int, content: bytes | int) -> bytes:
    """One field of a protobuf message."""
    if isinstance(content, int):
        return bytes([number << 3, content])
    return bytes([number << 3 | 2, len(content) % 128 | 128, len(content) // 128]) + content


def model_of(*tensors: bytes) -> bytes:
    return field(7, b"".join(field(5, tensor) for tensor in tensors))


def write_model(path: Path) -> dict[str, np.ndarray]:
    """Write a model with several kinds of initializers, and return them."""
    rng = np.random.default_rng(0)
    arrays = {
        "weight": rng.normal(size=(4, 3, 2, 2)).astype(np.float32),
        "scalar": np.array(7, dtype=np.int64),
        "negative": np.array([-1, 2**40], dtype=np.int64),
        "é": np.array([0.5], dtype=np.float32),
    }
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    tensors.append(onnx.helper.make_tensor("typed", onnx.TensorProto.FLOAT, (2, 2), [1.0, 2.0, 3.0, 4.5]))
    assert tensors[-1].float_data and not tensors[-1].raw_data
    arrays["typed"] = np.array([[1, 2], [3, 4.5]], dtype=np.float32)
    node = onnx.helper.make_node("Identity", ["weight"], ["y"], doc_string="x" * 300)
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = onnx.helper.make_graph([node], "graph", [], [output], tensors)
    onnx.save(onnx.helper.make_model(graph), path)
    return arrays


def assert_equal(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape, name
        assert np.array_equal(found[name], array), name
        assert found[name].flags.writeable


def test_arrays_come_back(tmp_path):
    expected = write_model(tmp_path / "model.onnx")
    assert_equal(read_initializers(tmp_path / "model.onnx"), expected)


def test_the_published_file(shared_data):
    path = shared_data.parent / "models" / "centerface" / "centerface.onnx"
    if not path.is_file():
        pytest.skip(f"no published model at {path}")
    initializers = onnx.load(path).graph.initializer
    assert_equal(read_initializers(path), {x.name: onnx.numpy_helper.to_array(x).copy() for x in initializers})


def test_a_damaged_file_is_refused_or_read_but_nothing_else_happens(tmp_path):
    path = tmp_path / "model.onnx"
    write_model(path)
    whole = path.read_bytes()
    damaged = [whole[:size] for size in range(len(whole))]
    rng = np.random.default_rng(1)
    for _ in range(2000):
        content = bytearray(whole)
        for position in rng.integers(0, len(whole), rng.integers(1, 4)):
            content[position] = rng.integers(0, 256)
        damaged.append(bytes(content))
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            read_initializers(path)
        except OnnxFormatError:
            refused += 1
    assert refused > len(whole) / 2


NAME, FLOAT = field(8, b"w"), field(2, 1)
HUGE = bytes([0x08]) + b"\xff" * 9 + b"\x01"  # the dimension 2**64 - 1
HOSTILE = {
    "empty": b"",
    "text": b"this is no model",
    "no graph": field(1, 4),
    "a graph that is a number": field(7, 4),
    "an initializer that is a number": field(7, field(5, 4)),
    "a length beyond the end": bytes([7 << 3 | 2]) + b"\xff\xff\xff\xff\x7f",
    "an endless integer": bytes([7 << 3]) + b"\x80" * 30,
    "an unknown type": bytes([7 << 3 | 3]),
    "a huge dimension": model_of(NAME + FLOAT + HUGE),
    "many huge dimensions": model_of(NAME + FLOAT + HUGE * 8),
    "a huge dimension times none": model_of(NAME + FLOAT + HUGE + field(1, 0)),
    "countless dimensions": model_of(NAME + FLOAT + field(1, b"\x01" * 60)),
    "countless fields": model_of(NAME + FLOAT + field(2, 1) * 80),
    "more bytes than its shape": model_of(NAME + FLOAT + field(1, 1) + field(9, struct.pack("<2f", 1, 2))),
    "fewer bytes than its shape": model_of(NAME + FLOAT + field(1, 2) + field(9, struct.pack("<f", 1))),
    "half a number": model_of(NAME + FLOAT + field(1, 1) + field(9, b"\0\0")),
    "text for numbers": model_of(NAME + field(2, 8) + field(1, 1) + field(6, b"abc")),
    "another file": model_of(NAME + FLOAT + field(1, 1) + field(14, 1)),
    "numbers for bytes": model_of(NAME + FLOAT + field(1, 1) + field(9, 3)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_without_much_memory(name, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(HOSTILE[name])
    tracemalloc.start()
    try:
        with pytest.raises(OnnxFormatError):
            read_initializers(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200_000


def test_limits(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    write_model(path)
    monkeypatch.setattr("centernet_d2.checkpoint.onnx_initializers._MAX_FILE", path.stat().st_size - 1)
    with pytest.raises(OnnxFormatError, match="2 GiB"):
        read_initializers(path)
    monkeypatch.undo()
    monkeypatch.setattr("centernet_d2.checkpoint.onnx_initializers._MAX_INITIALIZERS", 4)
    with pytest.raises(OnnxFormatError, match="more than 4 initializers"):
        read_initializers(path)
