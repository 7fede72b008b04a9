"""Install Detectron2's Python tree into the environment of the Python that runs this; it is not on PyPI.

    centernet-d2 install-detectron2

Sources, in this order: one that can be imported already; the pinned upstream commit from GitHub; where GitHub cannot be
reached, the copy of Detectron2 inside the PyPI wheel of LabGym. The last two become a wheel of their own, whose version
says where it came from (``pip show detectron2``). Nothing is compiled: centernet_d2 needs none of Detectron2's ``_C``.
tools/install_detectron2.py is the same command.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from centernet_d2.cli.options import build_parser

UPSTREAM = "https://github.com/facebookresearch/detectron2"
COMMIT = "02b5c4e295e990042a714712c21dc79b731e8833"
GITHUB_TIMEOUT = 120  # seconds, for all of it; a connection that stalls is given up after 10

LABGYM = "3.1.2"
LABGYM_SHA256 = "a2900cff8a3fb508e1975f19b5f9abd9f261966db87b0c332697fb4138c1cb2b"

#: (file, text, replacement, reason): what the LabGym copy lacks of upstream, and nothing else.
PATCHES = [
    (
        "data/common.py",
        "self._rng.sample(self._fallback_candidates, k=1)",
        "self._rng.sample(list(self._fallback_candidates), k=1)",
        "Python 3.11 no longer samples from a set",
    ),
    (
        "layers/mask_ops.py",
        "np.array(mask, copy=False)",
        "np.asarray(mask)",
        "NumPy 2 raises where copy=False cannot be had",
    ),
]


def from_github(folder: Path, url: str = UPSTREAM, commit: str = COMMIT) -> Path:
    """Fetch ``commit``; git checks that the content is that of the hash. Returns the folder ``detectron2``."""
    checkout = folder / "github"
    stall = ["-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=10"]
    for command in (
        ["git", "init", "--quiet", str(checkout)],
        ["git", "-C", str(checkout), *stall, "fetch", "--quiet", "--depth", "1", url, commit],
        ["git", "-C", str(checkout), "checkout", "--quiet", "FETCH_HEAD"],
    ):
        environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=GITHUB_TIMEOUT, env=environment)
    tree = checkout / "detectron2"
    shutil.copytree(checkout / "configs", tree / "model_zoo" / "configs", dirs_exist_ok=True)
    return tree


def from_labgym(folder: Path) -> Path:
    """The folder ``detectron2`` out of the LabGym wheel, with the patches and its own name in the imports."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--ignore-requires-python"]
    subprocess.run([*command, "--only-binary=:all:", "--dest", str(folder), f"LabGym=={LABGYM}"], check=True)
    (wheel,) = folder.glob("*.whl")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != LABGYM_SHA256:
        raise RuntimeError(f"{wheel.name} has sha256 {digest}, expected {LABGYM_SHA256}: not used")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [n for n in archive.namelist() if n.startswith("LabGym/detectron2/")])
    tree = folder / "LabGym" / "detectron2"
    for path in tree.rglob("*.py"):
        path.write_text(path.read_text("utf-8").replace("LabGym.detectron2", "detectron2"), "utf-8")
    for name, text, replacement, _ in PATCHES:
        content = (tree / name).read_text("utf-8")
        if text not in content:
            raise RuntimeError(f"cannot patch detectron2/{name}: {text!r} is not in it")
        (tree / name).write_text(content.replace(text, replacement), "utf-8")
    return tree


def build_wheel(tree: Path, version: str, origin: str, folder: Path) -> Path:
    """Pack the folder ``detectron2`` as a pure Python wheel. What it imports is named in this project's setup.py."""
    info = f"detectron2-{version}.dist-info"
    metadata = ["Metadata-Version: 2.1", "Name: detectron2", f"Version: {version}", "License: Apache-2.0"]
    metadata += [f"Home-page: {UPSTREAM}", f"Summary: Detectron2 by FAIR, Python files only; {origin}"]
    files = {f"detectron2/{p.relative_to(tree).as_posix()}": p.read_bytes() for p in tree.rglob("*") if p.is_file()}
    files = {name: content for name, content in files.items() if "__pycache__" not in name}
    files[f"{info}/METADATA"] = "\n".join(metadata).encode() + b"\n"
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: centernet_d2\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/LICENSE"] = _find_license().read_bytes()
    files[f"{info}/RECORD"] = _make_record(files, info)
    wheel = folder / f"detectron2-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            archive.writestr(name, content)
    return wheel


def _find_license() -> Path:
    """Apache-2.0, of this project and of Detectron2: in the package where it is installed, else in the checkout."""
    package = Path(__file__).parents[1]
    return next(path for path in (package / "LICENSE", package.parent / "LICENSE") if path.is_file())


def _make_record(files: dict[str, bytes], info: str) -> bytes:
    lines = []
    for name, content in sorted(files.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}")
    return "\n".join([*lines, f"{info}/RECORD,,"]).encode() + b"\n"


def describe_importable() -> str | None:
    """What ``import detectron2`` finds, in words; None where it finds nothing."""
    script = """
import importlib.metadata as m, detectron2
try: version = m.version('detectron2')
except m.PackageNotFoundError: version = detectron2.__version__ + ', no package metadata'
print(version, 'at', detectron2.__path__[0])
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    return result.stdout.strip() or None


def install() -> str:
    """Install from the first source that works; returns which, in words."""
    predictions = describe_importable()
    if predictions:
        return f"already importable: {predictions}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            tree, version, origin = from_github(folder), f"0.6+git{COMMIT[:8]}", f"upstream commit {COMMIT}"
        except (OSError, subprocess.SubprocessError) as error:
            reason = re.sub(r"\s+", " ", getattr(error, "stderr", None) or str(error)).strip()
            print(f"  GitHub cannot be used ({reason[-200:]}): taking Detectron2 out of LabGym {LABGYM} on PyPI")
            patches = "; ".join(f"{file} changed because {why}" for file, _, _, why in PATCHES)
            origin = f"from LabGym {LABGYM} on PyPI, imports renamed, {patches}"
            tree, version = from_labgym(folder), f"0.6+labgym{LABGYM}"
        wheel = build_wheel(tree, version, origin, folder)
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)], check=True)
    predictions = describe_importable()
    if not predictions:
        raise RuntimeError("Detectron2 was installed but cannot be imported: run `python -c 'import detectron2'`")
    return predictions


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    build_parser(__doc__, prog).parse_args(arguments)  # there are no options but --help
    try:
        print(f"Detectron2 {install()}")
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        print(
            f"Detectron2 could not be installed: {error}\n"
            f"It needs either GitHub ({UPSTREAM}) or PyPI (LabGym=={LABGYM}). Or install it yourself into this "
            "environment, in any way that makes `import detectron2` work, and start again.",
            file=sys.stderr,
        )
        return 1
    return 0
