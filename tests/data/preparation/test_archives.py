"""Archives in the layouts people download, and archives that mean harm."""

from __future__ import annotations

import io
import itertools
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from centernet_d2.data.preparation.archives import unpack_archives


def _zip(path: Path, entries: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_each_archive_gets_a_folder_and_its_own_name_is_not_repeated(tmp_path: Path) -> None:
    _zip(tmp_path / "afw.zip", {"afw/1.pts": b"a", "afw/deep/2.pts": b"b", "__MACOSX/afw/._1.pts": b"junk"})
    _zip(tmp_path / "helen.ZIP", {"trainset/1.pts": b"c", "trainset\\2.pts": b"d"})
    with tarfile.open(tmp_path / "aflw-db.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("aflw/data/aflw.sqlite")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"sql"))
    assert unpack_archives(tmp_path) == []
    for name in ("afw.zip", "helen.ZIP", "aflw-db.tar.gz"):
        (tmp_path / name).unlink()
    assert _files(tmp_path) == {
        "afw/1.pts": b"a",
        "afw/deep/2.pts": b"b",
        "helen/trainset/1.pts": b"c",
        "helen/trainset/2.pts": b"d",
        "aflw-db/aflw/data/aflw.sqlite": b"sql",
    }


def test_split_zip(tmp_path: Path) -> None:
    content = bytes(range(256)) * 40
    _zip(tmp_path / "whole.zip", {"300W/01_Indoor/a.png": content, "300W/b.pts": b"b"})
    data = (tmp_path / "whole.zip").read_bytes()
    (tmp_path / "whole.zip").unlink()
    cut = [0, 50, 51, len(data) - 30, len(data)]
    for number, (start, end) in enumerate(itertools.pairwise(cut), start=1):
        (tmp_path / f"300w.zip.{number:03d}").write_bytes(data[start:end])
    assert unpack_archives(tmp_path) == []
    assert _files(tmp_path / "300w") == {"300W/01_Indoor/a.png": content, "300W/b.pts": b"b"}
    shutil.rmtree(tmp_path / "300w")
    (tmp_path / "300w.zip.003").unlink()
    (issue,) = unpack_archives(tmp_path)
    assert str(issue).startswith("300w.zip, archive: is damaged or incomplete")


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil", "..\\evil", "C:\\evil", "a\0/../../../evil"])
def test_entries_that_climb_out_are_refused_and_the_rest_is_unpacked(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with tarfile.open(folder / "t.tar", "w") as archive:
        for entry in (name.replace("\0", "x"), "good"):
            info = tarfile.TarInfo(entry)
            info.size = 1
            archive.addfile(info, io.BytesIO(b"g"))
    _zip(folder / "z.zip", {name: b"evil", "good": b"g"})
    before = {"folder/t.tar", "folder/z.zip"}
    found = unpack_archives(folder)
    fine = {"folder/t/good", "folder/z/good"}
    # zipfile itself ends names at a NUL.
    assert set(_files(tmp_path)) - before - {"folder/z/a"} == fine
    assert all(issue.problem.startswith("leads out of the folder ") for issue in found)
    assert {issue.file for issue in found} == {"t.tar"} | ({"z.zip"} if "\0" not in name else set())


def test_links_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"link{kind.decode()}")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as zipped:
        entry = zipfile.ZipInfo("link")
        entry.external_attr = 0o120777 << 16
        zipped.writestr(entry, "/etc")
        zipped.writestr("link/file", b"inside")
    assert [str(issue) for issue in unpack_archives(tmp_path)] == [
        *(f"t.tar, link{k}: is a link or a device" for k in (2, 1, 6)),
        "z.zip, link: is a link",
    ]
    assert _files(tmp_path / "z") == {"link/file": b"inside"}
    assert not (tmp_path / "t").exists()


def test_bombs_and_damage(tmp_path: Path) -> None:
    _zip(tmp_path / "bomb.zip", {"good": b"g", "bomb": bytes(400 * 2**20), "last": b"l"})
    _zip(tmp_path / "damaged.zip", {"one": b"1" * 1000, "two": b"2" * 1000})
    data = bytearray((tmp_path / "damaged.zip").read_bytes())
    data[34] ^= 255
    (tmp_path / "damaged.zip").write_bytes(data)
    (tmp_path / "empty.zip").write_bytes(b"")
    (tmp_path / "text.tar.gz").write_bytes(b"text")
    found = unpack_archives(tmp_path)
    assert [(issue.file, issue.field) for issue in found] == [
        *(("bomb.zip", "bomb"), ("damaged.zip", "one"), ("empty.zip", "archive"), ("text.tar.gz", "archive"))
    ]
    assert "419430400 bytes, absurdly many" in found[0].problem
    assert set(_files(tmp_path / "bomb")) == {"good", "last"}
    assert set(_files(tmp_path / "damaged")) == {"two"}


def test_what_is_complete_is_not_unpacked_again(tmp_path: Path) -> None:
    _zip(tmp_path / "a.zip", {"1": b"one", "2": b"two", "3": b"three"})
    unpack_archives(tmp_path)
    kept = (tmp_path / "a/1").stat().st_mtime_ns
    # As a kill would leave it: one file cut off under its temporary name, one not reached.
    (tmp_path / "a/2").rename(tmp_path / "a/2.unpacking")
    (tmp_path / "a/2.unpacking").write_bytes(b"t")
    (tmp_path / "a/3").unlink()
    assert unpack_archives(tmp_path) == []
    assert _files(tmp_path / "a") == {"1": b"one", "2": b"two", "3": b"three"}
    assert (tmp_path / "a/1").stat().st_mtime_ns == kept


@pytest.mark.skipif(shutil.which("zip") is None, reason="no zip program, and Python cannot encrypt")
def test_encrypted_zip(tmp_path: Path) -> None:
    for name in ("1", "2"):
        (tmp_path / name).write_bytes(name.encode() * 100)
    subprocess.run(["zip", "-q", "-P", "secret", "a.zip", "1", "2"], cwd=tmp_path, check=True)
    (issue,) = unpack_archives(tmp_path)
    assert str(issue) == "a.zip, 1: is encrypted: the password is missing or wrong"
    # One byte tells, so that one wrong password in 256 is noticed only by the checksum.
    assert unpack_archives(tmp_path, "wrong")
    assert not _files(tmp_path / "a")
    assert unpack_archives(tmp_path, "secret") == []
    assert _files(tmp_path / "a") == {"1": b"1" * 100, "2": b"2" * 100}
