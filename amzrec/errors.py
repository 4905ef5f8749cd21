"""The one error that people see, and the one way in which long work tells how far it is."""

from __future__ import annotations

from typing import Protocol


class AmzrecError(Exception):
    """A mistake that a person can mend.

    Its text says what is wrong and where, what was found, what is allowed, and what to type next. Any function may
    raise it; the command line prints it once, without a traceback, and ends with exit code 1.
    """


class Progress(Protocol):
    """What a command reports its progress to: the command line draws it, callers from Python may pass their own."""

    def say(self, line: str) -> None:
        """Show one finished sentence, which stays on the screen."""

    def step(self, label: str, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` steps of `label` are done.

        `note` is a short text that changes with each step, such as "12,300 examples/s".
        """


class Silent:
    """A Progress that shows nothing: the default for callers from Python."""

    def say(self, line: str) -> None:
        """Show nothing."""

    def step(self, label: str, done: int, total: int, note: str = "") -> None:
        """Show nothing."""


SILENT: Progress = Silent()
