"""Trainings in processes of their own, to send signals to. Their first process is forked from one that has imported
everything, so that it starts at once."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger

from centernet_d2.data.build import build_test_loader, build_train_loader
from centernet_d2.data.dataset_mapper import CenterNetDatasetMapper
from centernet_d2.engine import Trainer, launch
from centernet_d2.stop_signals import STOP
from tests.helpers.runs import engine_cfg

FOREVER = 3600


class StallingMapper(CenterNetDatasetMapper):
    """Never gives image 7."""

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        if dataset_dict["image_id"] == getattr(self, "stall_at", 7):
            print("stalled", flush=True)
            time.sleep(FOREVER)
        return super().__call__(dataset_dict)


class ReportingTrainer(Trainer):
    """Prints each finished step. Its steps take at least 30 ms."""

    stall_in = ""

    def run_step(self) -> None:
        super().run_step()
        print(f"done {self.iter}", flush=True)
        time.sleep(0.03)

    @classmethod
    def build_train_loader(cls, cfg, start_iteration=0):
        mapper = StallingMapper(cfg, is_train=True) if cls.stall_in == "training" else None
        return build_train_loader(cfg, start_iteration, mapper)

    @classmethod
    def build_test_loader(cls, cfg, dataset_name):
        loader = super().build_test_loader(cfg, dataset_name)
        if cls.stall_in == "evaluation":
            mapper = StallingMapper(cfg, is_train=False)
            mapper.stall_at = 2
            loader.loader = build_test_loader(cfg, dataset_name, mapper)
        return loader


def train(folder: Path, opts: tuple[Any, ...], stall_in: str = "", resume: bool = False) -> None:
    setup_logger(str(folder), distributed_rank=comm.get_rank(), name="centernet_d2")
    folder.mkdir(exist_ok=True)
    cfg = engine_cfg(folder, *opts)
    seed_all_rng(cfg.SEED)
    print(f"rank in process {os.getpid()}", flush=True)
    ReportingTrainer.stall_in = stall_in
    trainer = ReportingTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()


def _start(output: Path, arguments: tuple[Any, ...], how: dict[str, Any]) -> None:
    os.setsid()
    multiprocessing.set_start_method("fork", force=True)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ["OMP_NUM_THREADS"] = "1"
    STOP.install()
    launch(train, arguments, device="cpu", **how)


class Training:
    """A running training.

    Args:
        how: of ``launch``.
    """

    def __init__(self, folder: Path, *opts: Any, stall_in: str = "", resume: bool = False, **how: Any) -> None:
        self.folder, self.output = folder, folder.with_name(f"{folder.name}-{how.get('machine_rank', 0)}.txt")
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.helpers.stops"])
        arguments = (self.output, (folder, opts, stall_in, resume), how)
        self.process = context.Process(target=_start, args=arguments)
        self.process.start()

    def wait_for(self, text: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while text not in self.read():
            assert time.monotonic() < end and self.process.is_alive(), self.read()[-3000:]
            time.sleep(0.02)

    def read(self) -> str:
        return self.output.read_text() if self.output.exists() else ""

    def signal(self, number: int, group: bool = False) -> None:
        (os.killpg if group else os.kill)(self.process.pid, number)

    def finish(self, seconds: float = 30) -> int:
        """Return the exit status; fails if that takes long, or leaves processes behind."""
        started = [self.process.pid, *list_descendants(self.process.pid)]
        try:
            self.process.join(seconds)
            assert self.process.exitcode is not None, self.read()[-3000:]
            end = time.monotonic() + 2
            while any(map(is_running, started)):
                assert time.monotonic() < end, f"orphans: {[pid for pid in started if is_running(pid)]}"
                time.sleep(0.02)
        finally:
            for pid in filter(is_running, started):
                os.kill(pid, 9)
        return self.process.exitcode


@contextmanager
def training(*args: Any, **kwargs: Any):
    """Context manager: a :class:`Training` that is ended in any case."""
    one = Training(*args, **kwargs)
    try:
        yield one
    finally:
        if one.process.is_alive():
            started = [one.process.pid, *list_descendants(one.process.pid)]
            for pid in filter(is_running, started):
                os.kill(pid, 9)


def list_descendants(pid: int) -> list[int]:
    lines = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout.splitlines()
    pairs = [tuple(map(int, line.split())) for line in lines]
    found = [child for child, parent in pairs if parent == pid]
    return found + [below for child in found for below in list_descendants(child)]


def is_running(pid: int) -> bool:
    """Return False for a process that has ended, whoever has to collect it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
