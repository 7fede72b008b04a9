"""Nothing in a file is run, whatever it says (25 payloads); plain files come back as they were saved."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import tarfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.engine import DefaultPredictor

from centernet_d2.checkpoint.reading import CorruptCheckpointError, UnsafeCheckpointError, load_file
from centernet_d2.config import get_cfg
from tests.helpers.tiny import tiny_cfg, tiny_model


class Payload:
    """Calls ``function(*arguments)`` when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def nested(payload) -> bytes:
    return pickle.dumps(payload)


def payloads(mark: Path) -> list[Payload]:
    touch = f"touch {mark}"
    return [
        Payload(os.system, touch),
        Payload(subprocess.call, ["touch", str(mark)]),
        Payload(eval, f"open({str(mark)!r}, 'w').close()"),
        Payload(Path.touch, mark),
        # Loaders inside loaders: how checks of the outermost pickle are evaded.
        Payload(pickle.loads, nested(Payload(os.system, touch))),
    ]


FORMATS = (".pth", ".pkl", ".tar", ".pyth")


def write_malicious(path: Path, payload: Payload) -> None:
    holder = {"model": OrderedDict(weight=payload), "model_state": payload}
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(holder))
    elif path.suffix == ".tar":
        with tarfile.open(path, "w") as archive:
            for name in ("storages", "tensors", "pickle"):
                content = pickle.dumps(holder)
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    else:
        torch.save(holder, path, _use_new_zipfile_serialization=path.suffix == ".pth")


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("number", range(5))
def test_no_checkpoint_runs_code(suffix, number, tmp_path):
    mark = tmp_path / "executed"
    payload = payloads(mark)[number]
    path = tmp_path / f"weights{suffix}"
    write_malicious(path, payload)
    with pytest.raises(UnsafeCheckpointError) as error:
        load_file(path)
    assert not mark.exists()
    assert "state_dict" in str(error.value) and "weights_only" not in str(error.value), "it names the safe way alone"
    pickle.loads(pickle.dumps(payload))
    assert mark.exists(), "the payload is a real one"


YAML = [
    "!!python/object/apply:os.system ['touch {}']",
    "!!python/object/apply:subprocess.call [['touch', '{}']]",
    "!!python/object/apply:builtins.eval [\"open('{}', 'w').close()\"]",
    "!!python/object/new:os.system ['touch {}']",
    "!!python/object/apply:subprocess.Popen [['touch', '{}']]",
]


@pytest.mark.parametrize("text", YAML)
@pytest.mark.parametrize("as_base", [False, True])
def test_no_config_runs_code(text, as_base, tmp_path):
    mark = tmp_path / "executed"
    path = tmp_path / "config.yaml"
    path.write_text("OUTPUT_DIR: " + text.format(mark))
    if as_base:
        (tmp_path / "own.yaml").write_text("_BASE_: config.yaml\nSEED: 1")
        path = tmp_path / "own.yaml"
    with pytest.raises(Exception, match="could not determine a constructor"):
        get_cfg().merge_from_file(str(path))
    assert not mark.exists()


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_predictor_refuses_what_detectron2_would_run(suffix, tmp_path):
    mark = tmp_path / "executed"
    path = tmp_path / f"weights{suffix}"
    write_malicious(path, payloads(mark)[0])
    for query in ("", "?matching_heuristics=True"):
        with pytest.raises(UnsafeCheckpointError, match=str(path)):
            DefaultPredictor(tiny_cfg("MODEL.WEIGHTS", str(path) + query, "DATASETS.TEST", ()))
    assert not mark.exists()


def test_the_predictor_reads_our_files(tmp_path):
    cfg = tiny_cfg("MODEL.WEIGHTS", str(tmp_path / "model.pth"), "DATASETS.TEST", ())
    model = tiny_model()
    torch.save({"model": model.state_dict(), "iteration": 3}, tmp_path / "model.pth")
    loaded = DefaultPredictor(cfg).model.state_dict()
    assert all(torch.equal(loaded[name], x) for name, x in model.state_dict().items())


ARRAYS = {
    "float": np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
    "big endian": np.arange(3, dtype=">f4"),
    "scalar": np.float32(0.1),
    "empty": np.zeros((0, 3), np.float16),
    "flag": np.array([True, False]),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_a_pickle(protocol, tmp_path):
    path = tmp_path / "zoo.pkl"
    data = {"model": OrderedDict(ARRAYS), "__author__": "someone", "matching_heuristics": True, "epoch": 3}
    path.write_bytes(pickle.dumps(data, protocol=protocol))
    loaded = load_file(path)
    for name, x in ARRAYS.items():
        got = loaded["model"][name]
        assert got.dtype == x.dtype.newbyteorder("=") and np.array_equal(got, x), name
        torch.from_numpy(got)
    assert {k: v for k, v in loaded.items() if k != "model"} == {k: v for k, v in data.items() if k != "model"}


def test_arrays_of_python_2(tmp_path):
    """As the oldest files of Detectron2's model zoo: protocol 2, data as byte strings."""
    path = tmp_path / "old.pkl"
    dtype = b"cnumpy\ndtype\n(U\x02f4K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01(K\x02t" + dtype + b"\x89"
    path.write_bytes(b"\x80\x02}U\x06conv_w" + array + b"U\x08\x00\x00\x80?\x00\x00\x00\xc0tbs.")
    assert load_file(path)["conv_w"].tolist() == [1.0, -2.0]


@pytest.mark.parametrize("value", [np.array([object()]), np.zeros(2, dtype="f4,i4"), np.array(["a"]), {1, 2}])
def test_a_pickle_of_anything_else_is_refused(value, tmp_path):
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"model": {"x": value}}))
    with pytest.raises((UnsafeCheckpointError, CorruptCheckpointError)):
        load_file(path)


def test_the_refused_class_is_named(tmp_path):
    torch.save({"model": {}, "best": np.float64(1)}, tmp_path / "x.pth")
    with pytest.raises(UnsafeCheckpointError, match=r"numpy\.\w+\.multiarray\.scalar"):
        load_file(tmp_path / "x.pth")


@pytest.mark.parametrize("suffix", [".pt", ".pkl"])
@pytest.mark.parametrize("new_format", [True, False])
def test_torch_files(new_format, suffix, tmp_path):
    """Also under the name of a pickle, as ExtremeNet was published."""
    path = tmp_path / f"x{suffix}"
    data = {"model": OrderedDict(weight=torch.randn(3)), "iteration": 7}
    torch.save(data, path, _use_new_zipfile_serialization=new_format)
    loaded = load_file(path)
    assert torch.equal(loaded["model"]["weight"], data["model"]["weight"]) and loaded["iteration"] == 7
    torch.save({"model": Payload(os.system, "true")}, path, _use_new_zipfile_serialization=new_format)
    with pytest.raises(UnsafeCheckpointError):
        load_file(path)


def test_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file({"weight": torch.ones(2)}, tmp_path / "x.safetensors")
    assert torch.equal(load_file(tmp_path / "x.safetensors")["weight"], torch.ones(2))


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x04", bytes(range(256)) * 40, b"PK\x03\x04" * 9])
def test_garbage_is_one_clear_error(suffix, content, tmp_path):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    with pytest.raises(CorruptCheckpointError, match=str(path)):
        load_file(path)


def test_no_dictionary_and_no_file(tmp_path):
    torch.save([torch.ones(2)], tmp_path / "x.pth")
    with pytest.raises(CorruptCheckpointError, match="list"):
        load_file(tmp_path / "x.pth")
    with pytest.raises(FileNotFoundError, match=r"y\.pth"):
        load_file(tmp_path / "y.pth")


def test_damage_is_never_silent(tmp_path):
    """20 cuts and 20 flipped bytes: an error, or exactly what was saved (bytes between the records mean nothing)."""
    path, damaged = tmp_path / "x.pth", tmp_path / "damaged.pth"
    data = {"model": OrderedDict(a=torch.randn(3000), b=torch.randn(500)), "iteration": 7}
    torch.save(data, path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    variants = [content[:cut] for cut in np.linspace(0, len(content) - 1, 20).astype(int)]
    for position in rng.integers(len(content), size=20):
        flipped = bytearray(content)
        flipped[position] ^= 1 << int(rng.integers(8))
        variants.append(bytes(flipped))
    errors = 0
    for variant in variants:
        damaged.write_bytes(variant)
        try:
            loaded = load_file(damaged)
        except (CorruptCheckpointError, UnsafeCheckpointError):
            errors += 1
        else:
            assert loaded["iteration"] == 7 and list(loaded["model"]) == ["a", "b"]
            assert all(torch.equal(loaded["model"][name], x) for name, x in data["model"].items())
    assert errors >= 35
