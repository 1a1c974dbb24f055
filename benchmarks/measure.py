"""Time and memory of several ways to do one thing, in turn, so that what else the machine does hits all of them."""

import ctypes
import gc
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.rows import Measurement
from paramdiff.runs.environment import peak_rss_bytes


@dataclass(frozen=True)
class Candidate:
    """A variant to be measured.

    Attributes:
        name: for the table.
        work: does it; returns what the work gives, or an :class:`Estimate`.
        scale: from ``work`` to the whole.
        note: for the table.
    """

    name: str
    work: Callable[[], Any]
    scale: float = 1.0
    note: str = ""


class Estimate(float):
    """Seconds that a candidate worked out itself, where only a part of the work is done."""


def measured(
    *candidates: Candidate, rounds: int, device: str = "cpu", warm: bool = True
) -> tuple[list[Measurement], list[Any]]:
    """Every candidate once per round, in turn.

    Args:
        warm: call each once before, untimed: first calls load libraries and choose kernels.

    Returns:
        the measurements, and what the last call of each gave.
    """
    seconds: list[list[float]] = [[] for _ in candidates]
    results: list[Any] = [None] * len(candidates)
    memory: list[tuple[int, int]] = []
    for number in range(rounds + warm):
        for index, candidate in enumerate(candidates):
            results[index] = None  # its memory is not the next call's
            before = started_watching(device) if number == 0 else 0
            took, results[index] = timed(candidate.work, device)
            if number == 0:
                memory.append((before, peak_bytes(device)))
            if number or not warm:
                seconds[index].append(took)
    measurements = [
        Measurement(one.name, took, one.scale, one.note, *bytes_)
        for one, took, bytes_ in zip(candidates, seconds, memory, strict=True)
    ]
    return measurements, results


def timed(work: Callable[[], Any], device: str = "cpu") -> tuple[float, Any]:
    """Seconds of a call, until the device has finished, and what it gave."""
    started = time.perf_counter()
    result = work()
    if device != "cpu":
        torch.accelerator.synchronize()
    took = time.perf_counter() - started
    return (float(result) if isinstance(result, Estimate) else took), result


def started_watching(device: str = "cpu") -> int:
    """Bytes in use now; :func:`peak_bytes` is the largest number from here on.

    Memory that was freed is given back to the system first, so that a call is not charged for the one before,
    nor spared what that one left.
    """
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    if sys.platform != "linux":
        return peak_rss_bytes()
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak to what is in use
    return status_bytes("VmRSS")


def peak_bytes(device: str = "cpu") -> int:
    """Largest memory since :func:`started_watching`; of the whole process where the system cannot tell."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    return status_bytes("VmHWM") if sys.platform == "linux" else peak_rss_bytes()


def status_bytes(key: str) -> int:
    """A line of Linux's ``/proc/self/status``."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def exponent(x: Sequence[float], seconds: Sequence[float]) -> float:
    """The p of ``seconds = a x^p``, by least squares of the logarithms.

    Args:
        x: at least two different positive numbers.
    """
    across, up = [math.log(value) for value in x], [math.log(value) for value in seconds]
    centre, level = math.fsum(across) / len(across), math.fsum(up) / len(up)
    slope = math.fsum((a - centre) * (b - level) for a, b in zip(across, up, strict=True))
    return slope / math.fsum((a - centre) ** 2 for a in across)
