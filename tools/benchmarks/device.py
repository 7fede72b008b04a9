"""A device: its name and peaks, seconds of a call, waits of the host, and the tables of tools/device_report.py."""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

# Dense peaks by a part of the device's name: operations per second of float32 (TF32) and of 16 bits, bytes per second.
# From the makers' data sheets.
PEAKS = {
    "H200": (494.7e12, 989.4e12, 4.8e12),
    "H100": (494.7e12, 989.4e12, 3.35e12),
    "A100": (156e12, 312e12, 1.555e12),
    "L4": (60e12, 121e12, 0.3e12),
    "V100": (15.7e12, 125e12, 0.9e12),
    "T4": (8.1e12, 65e12, 0.32e12),
}


def describe(device: torch.device) -> dict[str, Any]:
    """Return names and versions, and the device's peaks, which are measured where the table lacks it."""
    name = platform.processor() or platform.machine() if device.type == "cpu" else torch.cuda.get_device_name(device)
    known = next((peaks for part, peaks in PEAKS.items() if device.type == "cuda" and part in name), None)
    peaks = known or (measure_peak(device, torch.float32), measure_peak(device, torch.bfloat16), measure_copy(device))
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "peaks": dict(zip(("float32", "16 bits", "bytes"), peaks, strict=True)),
        "peaks_from": "data sheet" if known else "measured: matrix product, copy",
    }


def measure_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Return operations per second (2 of each multiply-add) of a square matrix product."""
    side = 512 if device.type == "cpu" else 8192
    a = torch.ones(side, side, dtype=dtype, device=device)
    return 2 * side**3 / measure(lambda: a @ a, device, 0.2)


def measure_copy(device: torch.device) -> float:
    """Return bytes per second that are read and written."""
    a = torch.ones(1 << (24 if device.type == "cpu" else 28), device=device)
    b = torch.empty_like(a)
    return 8 * a.numel() / measure(lambda: b.copy_(a), device, 0.2)


def measure(f: Callable[[], Any], device: torch.device, seconds: float) -> float:
    """Return seconds of a call: of at least 2, after 2 others, and of at least ``seconds`` in all."""
    for _ in range(2):
        f()
    count, total = 0, 0.0
    while total < seconds or count < 2:
        count = max(2 * count, 2)
        synchronize(device)
        start = time.perf_counter()
        for _ in range(count):
            f()
        synchronize(device)
        total = time.perf_counter() - start
    return total / count


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def count_waits(f: Callable[[], Any], device: torch.device) -> int | None:
    """Return how often PyTorch warns of an operation that waits; None on a CPU."""
    if device.type != "cuda":
        return None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        f()
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(x.message) for x in caught)


def write_markdown(results: dict[str, Any]) -> str:
    """Return the tables that go into docs/benchmarks.md."""
    machine = results["machine"]
    lines = [f"{machine['device']}, PyTorch {machine['torch']}; peaks ({machine['peaks_from']}): " + ", ".join(
        f"{name} {value / 1e12:.3g}e12/s" for name, value in machine["peaks"].items()), ""]  # fmt: skip
    lines += [
        "| CPU and device, largest relative difference | maps | losses | gradient | equal |",
        "|---|---|---|---|---|",
    ]
    for row in results["equality"]:
        numbers = [f"{row[key]:.0e}" if key in row else "" for key in ("maps", "losses", "gradient")]
        lines.append(f"| {row['what']} | {' | '.join(numbers)} | {row.get('error') or row['equal']} |")
    lines += [
        "",
        "| what | images | precision | images/s | peak MiB | share of peak | waits |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in results["speed"]:
        if "error" in row:
            lines.append(f"| {row['what']} | | | {row['error']} | | | |")
            continue
        memory, waits = (row[key] if row[key] is not None else "-" for key in ("peak_mib", "waits"))
        memory = memory if isinstance(memory, str) else f"{memory:.0f}"
        lines.append(
            f"| {row['what']} | {row['images']} x {row['side']}x{row['side']} | {row['precision']} "
            f"| {row['images_per_second']:.1f} | {memory} | {100 * row['share_of_peak']:.1f} % | {waits} |"
        )
    if results["left_out"]:
        lines += ["", "Left out for lack of time: " + ", ".join(results["left_out"])]
    return "\n".join(lines) + "\n"
