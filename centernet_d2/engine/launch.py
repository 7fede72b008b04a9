"""Starting one process per GPU, or several on the CPU, on one machine or many."""

from __future__ import annotations

import functools
import gc
import multiprocessing.connection
import os
import signal
import socket
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed
from detectron2.utils import comm
from torch.multiprocessing import _prctl_pr_set_pdeathsig  # type: ignore[attr-defined]
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from centernet_d2.engine.errors import USER_ERRORS, hide_tracebacks
from centernet_d2.stop_signals import SIGNALS, STOP, blocked_signals, get_exit_status, start_resource_tracker

_TIMEOUT = timedelta(minutes=30)


def launch(
    main: Callable[..., Any],
    args: tuple[Any, ...] = (),
    *,
    device: str = "cuda",
    processes: int = 1,
    machines: int = 1,
    machine_rank: int = 0,
    url: str = "auto",
) -> Any:
    """Call ``main(*args)`` in ``processes`` processes on this machine, and join those of the other machines.

    Under ``torchrun`` (known by ``LOCAL_WORLD_SIZE``) this process is one of them already and joins the rest.

    Args:
        main: importable by name where more than one process is started.
        device: ``MODEL.DEVICE``; "cpu" uses gloo, "cuda" uses NCCL.
        url: where all machines meet, ``tcp://host:port`` of machine 0; "auto" on a single machine.

    Returns:
        What ``main`` returned, where it ran in this process.

    Raises:
        ValueError: more processes than GPUs, or several machines without a place to meet.
        USER_ERRORS: what ``main`` raised in one of the started processes.
        ProcessException: any other error in one of them, with its traceback in the message.
    """
    if "LOCAL_WORLD_SIZE" in os.environ:
        return _join_torchrun(main, args, device)
    world = processes * machines
    if world == 1:
        return main(*args)
    if device != "cpu" and processes > torch.cuda.device_count():
        raise ValueError(
            f"{processes} processes were requested, but this machine has {torch.cuda.device_count()} GPUs "
            "(several processes on the CPU need MODEL.DEVICE cpu)"
        )
    if url == "auto":
        if machines > 1:
            raise ValueError("several machines need --dist-url tcp://<address of machine 0>:<port>")
        url = f"tcp://127.0.0.1:{_find_free_port()}"
    how = (main, args, device, processes, world, machine_rank, url)
    if processes == 1:
        return _run(0, *how)
    _start_processes(processes, how)
    return None


def _start_processes(processes: int, how: tuple[Any, ...]) -> None:
    """Call ``_run`` in started processes, and raise the first error of them; those of ``USER_ERRORS`` as they are."""
    context = torch.multiprocessing.get_context("spawn")
    if STOP.installed:
        start_resource_tracker()
    errors, begun = context.SimpleQueue(), context.RawValue("b", 0) if STOP.installed else None
    shared = (multiprocessing.get_start_method(), errors, begun)
    started: list[Any] = [context.Process(target=_run_started, args=(i, *shared, *how)) for i in range(processes)]
    with blocked_signals() if STOP.installed else nullcontext():
        for process in started:
            process.start()
    with STOP.launching([process.pid for process in started], begun):
        failed = _wait_for_all(started)
    first = None if errors.empty() else errors.get()
    if isinstance(first, SystemExit):
        raise SystemExit(get_exit_status(STOP.received) if STOP.received else first.code)
    if failed is None and first is None:
        return
    index = 0 if failed is None else failed
    if isinstance(first, str):
        # The process that ended first may only have lost its connection to the one that failed.
        raise ProcessRaisedException(first, index, started[index].pid)
    if first is not None:
        raise first
    _raise_exit(index, started[index], STOP.received)


def _wait_for_all(started: list[Any]) -> int | None:
    """Wait for all processes; when one fails, end the others, and return its index."""
    running = {process.sentinel: index for index, process in enumerate(started)}
    failed = None
    while running:
        for sentinel in multiprocessing.connection.wait(list(running)):
            index = running.pop(sentinel)
            started[index].join()
            if started[index].exitcode and failed is None:
                failed = index
                for process in started:
                    process.kill()
    return failed


def _raise_exit(index: int, process: Any, received: int) -> NoReturn:
    """Raise what the end of a process without an error of its own means."""
    number = received or process.exitcode - 128
    if received or number in SIGNALS:
        raise SystemExit(get_exit_status(number))
    name = signal.Signals(-process.exitcode).name if process.exitcode < 0 else None
    how = f"by signal {name}" if name else f"with exit code {process.exitcode}"
    raise ProcessExitedException(
        f"process {index} ended {how}", index, process.pid, exit_code=process.exitcode, signal_name=name
    )


def _run_started(
    local_rank: int, start_method: str, errors: Any, begun: Any, main: Callable[..., Any], *how: Any
) -> None:
    # Loaders' workers start as they do where one process trains.
    multiprocessing.set_start_method(start_method, force=True)
    # Ends with the process that started it.
    _prctl_pr_set_pdeathsig(signal.SIGKILL)
    if begun is not None:
        STOP.install(begun)
    hide_tracebacks(lambda: not errors.empty())
    try:
        _run(local_rank, functools.partial(_report_errors, errors, main), *how)
    except KeyboardInterrupt:
        pass
    except Exception:
        if errors.empty():
            errors.put(traceback.format_exc())
        raise SystemExit(1) from None


def _report_errors(errors: Any, main: Callable[..., Any], *args: Any) -> Any:
    """Call ``main``. Its error is known to the others before the process group ends, which fails in them, too."""
    try:
        return main(*args)
    except USER_ERRORS as error:
        errors.put(error)
        raise
    except SystemExit as end:
        # All processes end together. The one that started them exits with the status.
        errors.put(SystemExit(end.code))
        return None
    except Exception:
        errors.put(traceback.format_exc())
        raise


def _run(
    local_rank: int,
    main: Callable[..., Any],
    args: tuple[Any, ...],
    device: str,
    processes: int,
    world: int,
    machine_rank: int,
    url: str,
) -> Any:
    if device == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max((os.cpu_count() or 1) // processes, 1))
    _join(device, local_rank, processes, init_method=url, world_size=world, rank=machine_rank * processes + local_rank)
    return _run_joined(main, args)


def _run_joined(main: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    try:
        result = main(*args)
        # Wait until no process uses the group any more.
        comm.synchronize()
        return result
    except SystemExit as end:
        status = end.code
    finally:
        # Objects kept alive by cycles own threads of the group. Delete them before the group.
        gc.collect()
        torch.distributed.destroy_process_group()
    raise SystemExit(status)


def _join_torchrun(main: Callable[..., Any], args: tuple[Any, ...], device: str) -> Any:
    _join(device, int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"]), init_method="env://")
    return _run_joined(main, args)


def _join(device: str, local_rank: int, local_size: int, **where: Any) -> None:
    backend = "gloo" if device == "cpu" else "nccl"
    try:
        torch.distributed.init_process_group(backend, timeout=_TIMEOUT, **where)
    except Exception as error:
        raise RuntimeError(f"the processes could not meet ({backend}, {where}): {error}") from error
    comm.create_local_process_group(local_size)
    if device != "cpu":
        torch.cuda.set_device(local_rank)
    comm.synchronize()


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
