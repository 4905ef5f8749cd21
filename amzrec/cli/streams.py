"""What a command needs of its process before it begins: standard streams that are open, and text as UTF-8."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TextIO

NAMES = ("stdin", "stdout", "stderr")


def prepare_process() -> None:
    """Open standard streams that are closed, and begin again in UTF-8 where the locale says that text is ASCII.

    A file that is opened while standard error is closed would take its place, and get what libraries print there.
    """
    for number, name in enumerate(NAMES):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w" if number else "r", encoding="utf-8"))  # noqa: SIM115
    if sys.getfilesystemencoding() != "utf-8" and not sys.flags.utf8_mode and sys.executable:
        os.environ["PYTHONUTF8"] = "1"  # for the processes that this one starts
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def silence(stream: TextIO) -> None:
    """Let what is still to be written into a stream go nowhere, so that the end of the process says nothing of it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def let_go(stream: TextIO) -> None:
    """Write what waits in a stream, or drop it: Python ends with code 120 where it cannot write it in the end."""
    try:
        stream.flush()
    except OSError:
        silence(stream)


def be_done() -> None:
    """Let Ctrl-C and what libraries say of it go nowhere from now on: the work is done, and the process ends soon."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def speaks_unicode() -> bool:
    """Tell whether standard output can hold every character."""
    return (sys.stdout.encoding or "").lower().replace("_", "-") in ("utf-8", "utf8")
