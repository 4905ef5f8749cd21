"""The one error that people see, the one way in which long work tells how far it is, and text that is safe to show."""

from __future__ import annotations

import re
from typing import Protocol

# Characters that steer a terminal: those of ASCII but line feeds, those above it, and those that turn the direction of
# writing round
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
BREAK = re.compile("[\n\r]")
LONE = re.compile("[\ud800-\udfff]")  # halves of characters, as Python has bytes of names that are not UTF-8


class AmzrecError(Exception):
    """A mistake that a person can mend.

    Its text says what is wrong and where, what was found, what is allowed, and what to type next, in one line: breaks
    in names that it quotes are written as \\n. Any function may raise it; the command line prints it once, without a
    traceback, and ends with exit code 1.
    """

    def __init__(self, *said: object) -> None:
        super().__init__(*(BREAK.sub(lambda found: repr(found[0])[1:-1], str(each)) for each in said))


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


def one_line(error: BaseException) -> str:
    """Return what a library says, which may be several lines, in one."""
    return " ".join(str(error).split())


def printable(text: str, json: bool = False) -> str:
    """Return text that cannot steer a terminal: control characters but line feeds as \\x1b, in JSON as \\u001b.

    Bytes of names that are not UTF-8 become \\xff, in JSON \\udcff.
    """

    def escaped(found: re.Match[str]) -> str:
        return f"\\u{ord(found[0]):04x}" if json else found[0].encode("unicode_escape").decode()

    def byte(found: re.Match[str]) -> str:
        code = ord(found[0])
        return f"\\u{code:04x}" if json or not 0xDC80 <= code <= 0xDCFF else f"\\x{code - 0xDC00:02x}"

    return LONE.sub(byte, CONTROL.sub(escaped, text))


def is_utf8(text: str) -> bool:
    """Tell whether text can be written as UTF-8."""
    return text.isascii() or LONE.search(text) is None
