"""Memory that a training no longer needs, given back to the system before the next part of it takes as much."""

from __future__ import annotations

import ctypes
import gc


def give_back_memory() -> None:
    """Free what only refers to itself, and return free pages to the system where its allocator can be told to."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # glibc keeps what threads of TensorFlow have freed
    except (OSError, AttributeError, TypeError):
        return
