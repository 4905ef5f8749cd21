"""The one error that people see, and the one voice that long work speaks with."""

from __future__ import annotations

from typing import Protocol


class AmzrecError(Exception):
    """A mistake a person can mend: the text says what, where, what was found, what is allowed, what to type next.

    Raised anywhere, printed once by the command line (exit code 1, no traceback).
    """


class Progress(Protocol):
    """How a verb tells what it is doing; the command line draws it, Python callers may pass their own."""

    def say(self, line: str) -> None:
        """One finished sentence, kept on the screen."""

    def step(self, label: str, done: int, total: int, note: str = "") -> None:
        """`done` of `total` steps of `label`; `note` is a short live text such as "12,300 examples/s"."""


class Silent:
    """The default voice: none."""

    def say(self, line: str) -> None:
        """Say nothing."""

    def step(self, label: str, done: int, total: int, note: str = "") -> None:
        """Draw nothing."""


SILENT: Progress = Silent()
