"""Time and memory of steps that are taken in turn, so that a busy machine is busy for all of them."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tables import markdown

ROOT = Path(__file__).resolve().parents[2]
READ: dict[str, Any] = {"check": True, "capture_output": True, "text": True}  # of subprocess.run

Step = Callable[[], object]
Seconds = tuple[float, float]  # wall, CPU


def alternating(steps: Mapping[str, Step], rounds: int) -> dict[str, Seconds]:
    """Median wall and CPU seconds (those of children too) of each step, after one call of each to warm up."""
    for step in steps.values():
        step()
    found: dict[str, list[Seconds]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            found[name].append(timed(step))
    return {name: median(times) for name, times in found.items()}


def timed(step: Step) -> Seconds:
    """Wall and CPU seconds of one call, those of the processes that it waited for included."""
    wall, busy = time.perf_counter(), sum(os.times()[:4])
    step()
    return time.perf_counter() - wall, sum(os.times()[:4]) - busy


def median(times: list[Seconds]) -> Seconds:
    """The medians of wall and of CPU seconds."""
    wall, cpu = zip(*times, strict=True)
    return statistics.median(wall), statistics.median(cpu)


def compared(what: str, seconds: dict[str, Seconds], base: str) -> str:
    """A table of wall and CPU milliseconds, and of both divided by those of `base`."""
    first = seconds[base]
    rows = [
        [name, f"{1e3 * wall:,.1f}", f"{1e3 * cpu:,.1f}", f"{wall / first[0]:.2f}", f"{cpu / first[1]:.2f}"]
        for name, (wall, cpu) in seconds.items()
    ]
    return markdown([what, "wall ms", "CPU ms", "wall ratio", "CPU ratio"], rows)


def peak() -> float:
    """The most memory that this process held, in GB; ru_maxrss would start with that of its parent."""
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1e6
