"""Memory that a training no longer needs, given back to the system before the next part of it takes as much."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Set
from typing import Any

from amzrec import heap


def give_back_memory() -> None:
    """Free what only refers to itself, and return free pages to the system where its allocator can be told to."""
    gc.collect()
    heap.give_back()


def gradients_known() -> frozenset[str]:
    """Return the names of the gradients of functions of our own that TensorFlow keeps, each with what it reads."""
    return frozenset(name for name in _registry() if name.startswith("CustomGradient-"))


def forget_gradients(known: Set[str]) -> None:
    """Let TensorFlow forget such gradients but those that were known before.

    Each graph that is traced with a function of tf.custom_gradient leaves one for good, which holds the tables that
    the function read; it is asked while a graph is traced, and never again.
    """
    for name in gradients_known() - known:
        del _registry()[name]


def _registry() -> dict[str, Any]:
    """Return where TensorFlow keeps gradients by name; nothing where it keeps them elsewhere."""
    with contextlib.suppress(ImportError, AttributeError):
        from tensorflow.python.framework import ops

        found: dict[str, Any] = ops.gradient_registry._registry
        return found
    return {}
