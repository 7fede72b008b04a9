"""Starting one process per GPU, or several on the CPU, on one machine or many."""

from __future__ import annotations

import functools
import gc
import logging
import os
import socket
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed
from detectron2.utils import comm
from torch.multiprocessing.spawn import ProcessException, ProcessRaisedException

from centernet_d2.engine.errors import USER_ERRORS, hide_tracebacks

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
    errors = torch.multiprocessing.get_context("spawn").SimpleQueue()
    # It warns of each process that it ends because another one failed.
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    try:
        torch.multiprocessing.start_processes(_run_started, nprocs=processes, args=(errors, *how))
    except ProcessException as ended:
        if errors.empty():
            raise
        first = errors.get()
        if isinstance(first, str):
            # The process that torch noticed first may only have lost its connection to the one that failed.
            raise ProcessRaisedException(first, ended.error_index, ended.error_pid) from None
        raise first from None


def _run_started(local_rank: int, errors: Any, main: Callable[..., Any], *how: Any) -> None:
    hide_tracebacks(lambda: not errors.empty())
    _run(local_rank, functools.partial(_report_errors, errors, main), *how)


def _report_errors(errors: Any, main: Callable[..., Any], *args: Any) -> Any:
    """Call ``main``. Its error is known to the others before the process group ends, which fails in them, too."""
    try:
        return main(*args)
    except USER_ERRORS as error:
        errors.put(error)
        raise
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
    finally:
        # Objects kept alive by cycles own threads of the group. Delete them before the group.
        gc.collect()
        torch.distributed.destroy_process_group()


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
