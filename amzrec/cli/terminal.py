"""The progress of long work: one live bar on a terminal, plain lines elsewhere; always on standard error."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TextIO

from amzrec.errors import printable
from amzrec.interrupts import let_through

WIDTH = 24  # characters of the bar
PAUSE = 2.0  # least seconds between two plain lines of progress


class Terminal:
    """The voice of the command line (errors.Progress)."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.live = self.stream.isatty()
        self.drawn = False  # a bar stands on the last line
        self.last = -PAUSE

    def say(self, line: str) -> None:
        """Print a finished sentence above the bar."""
        let_through()
        self._clear()
        self.last = time.monotonic()
        self._write(f"{printable(line)}\n")

    def step(self, label: str, done: int, total: int, note: str = "") -> None:
        """Draw the bar again, or print a line where there is none, if nothing was said for two seconds."""
        let_through()
        now = time.monotonic()
        if now - self.last < (0.1 if self.live and done < total else 0 if self.live else PAUSE):
            return
        self.last = now
        text = f"{done:,}/{total:,}" + (f"  {note}" if note else "")
        if not self.live:
            self._write(f"{label} {text}\n")
            return
        filled = WIDTH * done // max(total, 1)
        self._clear()
        self._write(f"{label} [{'#' * filled}{'.' * (WIDTH - filled)}] {text}")
        self.drawn = True

    def close(self) -> None:
        """Leave the last bar standing on a line of its own."""
        if self.drawn:
            self._write("\n")
        self.drawn = False

    def _clear(self) -> None:
        if self.drawn:
            self._write("\r\x1b[K")
        self.drawn = False

    def _write(self, text: str) -> None:
        """Write at once; a terminal that is gone, or a log on a full disk, does not end the work."""
        with contextlib.suppress(OSError, ValueError):
            self.stream.write(text)
            self.stream.flush()
