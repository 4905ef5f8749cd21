"""The heap of a process that trains: kept from step to step, and given back when the training is over."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator

TRAINS = ("train", "compare", "tune", "backtest")  # commands
ARENAS, MAPPED, TRIMMED = -8, -4, -1  # M_ARENA_MAX, M_MMAP_MAX and M_TRIM_THRESHOLD of mallopt(3)
IN_USE = {MAPPED: 0, TRIMMED: -1}
BY_ITSELF = {MAPPED: 65536, TRIMMED: 128 * 1024}
FLAG = "TF_ONEDNN_USE_SYSTEM_ALLOCATOR"
CHILDREN = "MALLOC_ARENA_MAX"  # which glibc reads when a process starts: those of `tune` see FLAG as well


def share() -> None:
    """Let all threads of this process take from one heap, TensorFlow's too, where the system has glibc.

    It does so for threads that are not there yet: called before any library is imported. TensorFlow's allocator for
    oneDNN keeps the most that it ever held for good, half of what a training of 10 million reviews takes (LOG.md,
    2026-11-30); arrays of the system's can be given back.
    """
    if tell(ARENAS, 1):
        os.environ.setdefault(FLAG, "1")
        os.environ.setdefault(CHILDREN, "1")


@contextlib.contextmanager
def reused() -> Iterator[None]:
    """Keep what is freed in this block for what comes next, in a process that has one heap.

    By itself glibc maps large arrays one by one and unmaps them when they are freed, so that their pages are faulted
    in again at each step, at half as much CPU again. At the end the heap is as it is by itself.
    """
    if os.environ.get(FLAG) != "1":
        yield
        return
    for option, value in IN_USE.items():
        tell(option, value)
    try:
        yield
    finally:
        for option, value in BY_ITSELF.items():
            tell(option, value)
        give_back()


def give_back() -> None:
    """Return free pages to the system, where its allocator can be told to: glibc keeps what threads have freed."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def tell(option: int, value: int) -> bool:
    """Give glibc a setting of mallopt(3), and tell whether it took it."""
    if sys.platform != "linux":
        return False
    with contextlib.suppress(OSError, AttributeError, TypeError):
        return bool(ctypes.CDLL(None).mallopt(option, value))
    return False
