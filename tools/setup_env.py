"""Build ``.venv`` once: pinned packages, Detectron2, and this checkout in editable mode. ``make setup`` runs this.

A second run finds the marker that the first one left, a hash of all that decides the result, and does nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
INPUTS = ("constraints.txt", "setup.py", "tools/setup_env.py", "centernet_d2/cli/install_detectron2.py")
OLDEST_PYTHON = (3, 11)
FREE_GIGABYTES = 8


def compute_fingerprint() -> str:
    """Hash of the files that decide what is installed."""
    return hashlib.sha256(b"\0".join((ROOT / name).read_bytes() for name in INPUTS)).hexdigest()


def is_complete(venv: Path) -> bool:
    """Whether a set-up with today's inputs came to its end there."""
    marker = venv / ".complete"
    return (
        marker.is_file() and (venv / "bin" / "python").exists() and marker.read_text().strip() == compute_fingerprint()
    )


def run(what: str, advice: str, *command: str) -> None:
    """Run one step, or stop with a sentence."""
    print(f"set-up: {what}", flush=True)
    if subprocess.run(command, cwd=ROOT).returncode:
        sys.exit(f"\nSet-up stopped while {what}.\n{advice}\nThen start again: what is done already is kept.")


def check_machine() -> None:
    """Stop early where the rest could not work."""
    if sys.version_info < OLDEST_PYTHON:
        needed, predictions = ".".join(map(str, OLDEST_PYTHON)), ".".join(map(str, sys.version_info[:2]))
        sys.exit(
            f"Python {needed} or newer is needed, this is {predictions}. Name one: make setup PYTHON=python{needed}"
        )
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < FREE_GIGABYTES:
        sys.exit(f"{free:.1f} GB are free at {ROOT}; PyTorch and the rest need {FREE_GIGABYTES}. Make room first.")


def main() -> None:
    venv = ROOT / ".venv"
    if is_complete(venv):
        return
    check_machine()
    start = time.monotonic()
    python = str(venv / "bin" / "python")
    pip = (python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--constraint", "constraints.txt")
    advice = "The lines above say why; without a connection to a Python package index it cannot work."
    if not os.access(python, os.X_OK):
        hint = "Python's venv module is missing (on Debian and Ubuntu: apt install python3-venv)?"
        run("creating .venv", hint, sys.executable, "-m", "venv", str(venv))
    run("installing the build tools", advice, *pip, "pip", "setuptools", "wheel")
    packages = "installing PyTorch and the other packages (some 3 GB the first time)"
    run(packages, advice, *pip, "--no-build-isolation", "--editable", ".[dev]")
    run("installing Detectron2", "The lines above say why.", python, "-m", "centernet_d2", "install-detectron2")
    (venv / ".complete").write_text(compute_fingerprint() + "\n")
    print(f"set-up: done in {time.monotonic() - start:.0f} s; .venv/bin/python has everything")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()  # there are no options but --help
    main()
