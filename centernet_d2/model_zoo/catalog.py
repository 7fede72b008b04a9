"""The catalog of trained models: what each one is, and where its weights are."""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from urllib.parse import urlparse

from centernet_d2.checkpoint.download import RemoteFile, fetch

_FILE = Path(__file__).parent / "catalog.toml"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")
_PACKAGED = re.compile(r"model_zoo/weights/[A-Za-z0-9][A-Za-z0-9_-]*\.pth")
_WHEEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SUFFIXES = (".onnx", ".pkl", ".pt", ".pth", ".safetensors")
#: Bytes of a file of weights at most.
MAX_SIZE = 2 * 2**30


@dataclass(frozen=True, kw_only=True)
class Entry(RemoteFile):
    """A trained model: its file, and what it is. Models of which nobody has noted the hash have only a ``page``.

    Attributes:
        config: see ``model_zoo.get_config_file``.
        description: one line.
        license: of the weights.
        published: figures of the authors.
        measured: figures of this project.
        command: that made the weights, of models that were trained here.

    Raises:
        ValueError: a value is not of this kind, or there is no source.
    """

    config: str
    description: str
    license: str
    published: str = ""
    measured: str = ""
    command: str = ""

    def __post_init__(self) -> None:
        kinds = {one.name: int if one.name == "size" else str for one in fields(self)}
        self._refuse([name for name, kind in kinds.items() if type(getattr(self, name)) is not kind])
        config = PurePosixPath(self.config)
        checks = {
            "name": _NAME.fullmatch(self.name),
            "config": config.suffix == ".yaml" and not config.is_absolute() and ".." not in config.parts,
            "page": not self.page or _is_web_address(self.page),
            "url": not self.url or _is_web_address(self.url),
            "url, wheel, file or page": (sources := sum(map(bool, (self.url, self.wheel, self.file)))) == 1
            or (self.page and not sources),
            "file": not self.file or _PACKAGED.fullmatch(self.file),
        }
        if checks["url"] and (self.has_download or self.file):
            checks["sha256"] = _SHA256.fullmatch(self.sha256)
            checks["size"] = 0 < self.size <= MAX_SIZE
            checks["url, member or file"] = self.suffix in _SUFFIXES
        if self.wheel:
            checks["wheel"] = _WHEEL.fullmatch(self.wheel) and _SHA256.fullmatch(self.wheel_sha256)
        self._refuse([name for name, good in checks.items() if not good])

    def _refuse(self, wrong: list[str]) -> None:
        if wrong:
            raise ValueError(f"model {self.name!r} of the catalog: {', '.join(wrong)} cannot be used")


def read_catalog(path: Path = _FILE) -> dict[str, Entry]:
    """Return the models of a TOML file, by name.

    Raises:
        ValueError: an entry cannot be used, see :class:`Entry`.
    """
    with path.open("rb") as file:
        tables = tomllib.load(file)
    try:
        return {name: Entry(name=name, **values) for name, values in tables.items()}
    except TypeError as error:
        raise ValueError(f"{path}: {error}") from None


def list_models() -> list[Entry]:
    """Return all models of the catalog."""
    return list(read_catalog().values())


def find_model(name: str) -> Entry:
    """Return the model of this name.

    Raises:
        KeyError: there is none (the closest are named).
    """
    models = read_catalog()
    if name in models:
        return models[name]
    close = ", ".join(difflib.get_close_matches(name, models, n=3, cutoff=0.5)) or "centernet-d2 models lists them"
    raise KeyError(f"there is no model {name!r} in the catalog ({close})")


def get_weights(name: str) -> str:
    """Return the path of the weights of a model of the catalog; downloaded where they are missing.

    Raises:
        KeyError: there is no such model.
        DownloadError: see :func:`~centernet_d2.checkpoint.download.fetch`.
    """
    return str(fetch(find_model(name)))


def _is_web_address(text: str) -> bool:
    try:
        address = urlparse(text)
    except ValueError:
        return False
    return address.scheme in ("http", "https") and bool(address.netloc)
