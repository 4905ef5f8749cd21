"""Commands in forked processes: the libraries are imported once, and each command is killed, or ends, on its own."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import gc
import os
import pickle
import re
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

LIMIT = 300.0  # seconds after which a command counts as hanging
FILE_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.truncate")
NEW_MOUNTS, NEW_PROCESSES = 0x00020000, 0x20000000  # of unshare(2): namespaces of their own


@dataclasses.dataclass
class Ended:
    """How a process ended, and what it said."""

    code: int | None  # None: by a signal
    signal: int | None
    said: str
    seconds: float
    files: list[str] = dataclasses.field(default_factory=list)  # of its file events in its folder, in order

    @property
    def events(self) -> int:
        """How many file events there were in its folder."""
        return len(self.files)

    @property
    def last(self) -> str:
        """The last line that it said."""
        return (self.said.strip().splitlines() or [""])[-1]

    @property
    def traced(self) -> bool:
        """Whether it said a traceback."""
        return "Traceback (most recent call last)" in self.said


class Child:
    """A command that runs in a folder."""

    def __init__(
        self,
        words: Sequence[str] | Callable[[], object],
        folder: Path,
        at_event: int | None = None,
        before: Callable[[], None] | None = None,
        with_signal: int = signal.SIGKILL,
        within: str = "",
    ) -> None:
        """`words` are typed after amzrec, or a function to call; at its `at_event`-th file event it gets a signal.

        Only events of files whose name matches the pattern `within` count for that.
        """
        self.log = tempfile.TemporaryFile()  # noqa: SIM115
        self.heard = tempfile.TemporaryFile()  # noqa: SIM115
        self.begun = time.monotonic()
        self.pid = os.fork()
        if not self.pid:
            self._be(words, folder, at_event, before, with_signal, within)

    def _be(
        self,
        words: Sequence[str] | Callable[[], object],
        folder: Path,
        at_event: int | None,
        before: Callable[[], None] | None,
        with_signal: int,
        within: str,
    ) -> NoReturn:
        code = 70
        try:
            os.setsid()
            for number in (1, 2):
                os.dup2(self.log.fileno(), number)
            sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.chdir(folder)
            if before:
                before()
            self._listen(folder, at_event, with_signal, within)
            if callable(words):
                words()
            else:
                typed(words)
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except BaseException:
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(code)

    def _listen(self, folder: Path, at_event: int | None, with_signal: int, within: str) -> None:
        """Write down the file events in the folder, and count those within."""
        root, me, count = str(folder), os.getpid(), 0

        def hear(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal count
            if event not in FILE_EVENTS or os.getpid() != me or not isinstance(arguments[0], (str, os.PathLike)):
                return
            name = os.fspath(arguments[0])
            if isinstance(name, str) and (not os.path.isabs(name) or name.startswith(root)):
                os.write(self.heard.fileno(), name.removeprefix(root).encode("utf-8", "replace") + b"\n")
                count += bool(re.search(within, name))
                if count == at_event:
                    os.kill(me, with_signal)

        sys.addaudithook(hear)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it and what it started a signal."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:  # before it is a group of its own, or after its end
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def ended(self, within: float | None = None) -> bool:
        """Wait for its end, but no longer than this."""
        stop = None if within is None else time.monotonic() + within
        while True:
            done, self.status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                return True
            if stop is not None and time.monotonic() >= stop:
                return False
            time.sleep(0.002)

    def wait(self) -> Ended:
        """Wait for its end; after LIMIT it is killed, which counts as SIGALRM."""
        hangs = not self.ended(LIMIT)
        if hangs:
            self.kill()
            self.ended()
        return self.end(hangs)

    def end(self, hangs: bool = False) -> Ended:
        """Tell how it ended."""
        self.kill()  # what it started and left
        self.log.seek(0)
        said = self.log.read().decode("utf-8", "replace")
        self.log.close()
        self.heard.seek(0)
        files = self.heard.read().decode().split("\n")[:-1]
        self.heard.close()
        by = os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else None
        code = os.WEXITSTATUS(self.status) if by is None else None
        return Ended(code, signal.SIGALRM if hangs else by, said, time.monotonic() - self.begun, files)


def typed(words: Sequence[str]) -> None:
    """Do what the command line does with these words."""
    from amzrec.__main__ import main

    sys.argv = ["amzrec", *words]
    main()


def run(words: Sequence[str] | Callable[[], object], folder: Path, **more: Any) -> Ended:
    """Run a command to its end."""
    return Child(words, folder, **more).wait()


def succeed(words: Sequence[str], folder: Path, **more: Any) -> Ended:
    """Run a command that must do well."""
    ended = run(words, folder, **more)
    if ended.code != 0:
        raise RuntimeError(f"{' '.join(words)} in {folder}: {ended.code} {ended.signal}\n{ended.said}")
    return ended


@dataclasses.dataclass
class Answer:
    """What a function gave in a process of its own."""

    kind: str  # value, error (an AmzrecError), traceback, signal
    value: Any = None


def isolated(ask: Callable[[], Any]) -> Answer:
    """Call a function in a forked process, which it may kill."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(read)
        answer = Answer("traceback", "")
        try:
            from amzrec.errors import AmzrecError

            null = os.open(os.devnull, os.O_WRONLY)
            for number in (1, 2):
                os.dup2(null, number)
            try:
                answer = Answer("value", ask())
            except AmzrecError as error:
                answer = Answer("error", str(error))
            except BaseException:
                answer = Answer("traceback", traceback.format_exc())
            with open(write, "wb") as stream:
                pickle.dump(answer, stream)
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as stream:
        content = stream.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) or not content:
        return Answer("signal", os.WTERMSIG(status) if os.WIFSIGNALED(status) else None)
    found: Answer = pickle.loads(content)
    return found


def unshare(what: int) -> bool:
    """Give this process namespaces of its own; False where that is not permitted."""
    return bool(ctypes.CDLL(None, use_errno=True).unshare(what) == 0)


def mount_small(folder: Path, size: int, again: bool = False) -> bool:
    """Put a disk of so many bytes at a folder, in a process that has mounts of its own; `again` changes its size."""
    libc = ctypes.CDLL(None, use_errno=True)
    private, remount = 0x44000, 0x20  # MS_PRIVATE | MS_REC
    if not again and libc.mount(b"none", b"/", None, private, None):
        return False
    options = f"size={size}".encode()
    done: int = libc.mount(b"none", str(folder).encode(), b"tmpfs", remount if again else 0, options)
    return done == 0


def load_libraries() -> None:
    """Import what commands need, and begin nothing: a fork has none of the threads of its parent."""
    import duckdb
    import ibis
    import matplotlib.backends.backend_agg
    import matplotlib.figure
    import pandas
    import pyarrow.parquet  # noqa: F401

    import amzrec.cli.app
    import amzrec.cli.reports
    import amzrec.commands.evaluate
    import amzrec.commands.export
    import amzrec.commands.load
    import amzrec.commands.prepare
    import amzrec.commands.recommend_all
    import amzrec.commands.train
    import amzrec.commands.update
    import amzrec.service.sqlite  # noqa: F401
    from amzrec.evaluation import pictures
    from amzrec.training import phases  # noqa: F401

    pictures.DPI = 20  # nobody looks at them

    del duckdb, ibis, matplotlib, pandas
    gc.collect()
    gc.freeze()  # or each fork would look at all of this again
