"""Ctrl-C and SIGTERM: heard at once, or at the end of a block that they must not tear apart."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

ASK_TO_END = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """An interrupt of work that can go on: what is kept of it, and the run folder that it was to become."""

    def __init__(self, kept: str, run: Path) -> None:
        super().__init__(f"{kept}: go on with --resume")
        self.kept, self.run = kept, run


class _Ear:
    """What the process was asked: signals belong to a process, so there is one."""

    asked = 0  # the last signal that was heard
    waits = False  # whether it is still to be raised, at the end of a block
    held = 0  # such blocks that we are in


def hear(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt; in a `held` block only for a second signal, the first waits for its end."""
    first = not _Ear.waits
    _Ear.asked, _Ear.waits = number, bool(_Ear.held)
    if not _Ear.held or not first:
        _Ear.waits = False
        raise KeyboardInterrupt


def listen() -> None:
    """Hear Ctrl-C and SIGTERM from now on, unless the process was begun so that it ignores them."""
    forget()
    sys.unraisablehook = quiet
    for number in ASK_TO_END:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, hear)


def let_through() -> None:
    """Raise a KeyboardInterrupt again that was swallowed, as some callbacks of libraries do; for long work to call."""
    if _Ear.asked and not _Ear.held and sys.exc_info()[0] is None:
        raise KeyboardInterrupt


def quiet(unraisable: sys.UnraisableHookArgs) -> None:
    """Say nothing of what an interrupt breaks in a place that cannot raise it."""
    if not _Ear.asked:
        sys.__unraisablehook__(unraisable)


def forget() -> None:
    """Begin anew: what was asked before is over."""
    _Ear.asked, _Ear.waits = 0, False


def asked() -> int:
    """Return the number of the signal that asked the process to end; 0 where none did."""
    return _Ear.asked


def waits() -> bool:
    """Tell whether a signal waits for the end of the `held` block."""
    return _Ear.waits


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Let a signal wait for the end of the block; a second one does not wait.

    Also where nothing but Python listens for Ctrl-C, as in a notebook; outside of the main thread it does nothing.
    """
    alone = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    try:
        before = signal.signal(signal.SIGINT, hear) if alone else None
    except ValueError:  # signals are for the main thread
        alone = False
    _Ear.held += 1
    try:
        yield
    finally:
        _Ear.held -= 1
        if alone:
            signal.signal(signal.SIGINT, before)
        waited, _Ear.waits = _Ear.waits, _Ear.waits and _Ear.held > 0
        if alone:
            forget()
    if waited and not _Ear.held:
        raise KeyboardInterrupt
