"""Several processes that answer at one port: started, told what the first one is told, and replaced when they die."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from amzrec.errors import AmzrecError

METRICS = "PROMETHEUS_MULTIPROC_DIR"  # the variable that makes prometheus_client keep figures of several processes
READY, FAILED = b"+", b"-"  # how what a worker says begins

LOG = logging.getLogger("amzrec.service")

Ready = Callable[[str], None]


class Workers:
    """The processes of one service; the one that made them answers nothing itself."""

    def __init__(self, work: Callable[[Ready, int], None]) -> None:
        """`work` answers until its process is told to stop; it calls what it is given once it is ready, with a text.

        The other thing that it is given is a file that ends when the process that made it is gone.
        """
        self.work = work
        self.living = set[int]()
        self.stopping = False
        self.alive, self.life = os.pipe()  # nobody writes: its end tells workers that this process is gone

    def run(self, count: int, ready: Ready) -> None:
        """Start workers, keep as many of them until the process is told to stop, and wait for their last answers.

        Raises AmzrecError where the first ones cannot work.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self.hear)
        try:
            texts = [self.start() for _ in range(count) if not self.stopping]
            if not self.stopping:
                ready(texts[0])
            while self.living:
                self.replace(os.waitpid(-1, 0)[0])
        finally:
            self.tell(signal.SIGTERM)

    def hear(self, number: int, _: FrameType | None) -> None:
        """Tell the workers what this process is told; Ctrl-C as SIGTERM, for they hear Ctrl-C themselves."""
        if number != signal.SIGHUP:
            self.stopping, number = True, signal.SIGTERM
        self.tell(number)

    def tell(self, number: int) -> None:
        """Send a signal to all workers."""
        for process in list(self.living):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def replace(self, process: int) -> None:
        """Start a worker in the place of one that ended, unless all shall."""
        self.living.discard(process)
        forget(process)
        while not self.stopping:
            try:
                self.start()
                return
            except AmzrecError as error:
                LOG.error("a worker died and cannot be replaced yet: %s", error)
                time.sleep(1)

    def start(self) -> str:
        """Start a worker and return what it says when it is ready; AmzrecError where it cannot work."""
        hears, says = os.pipe()
        process = os.fork()
        if not process:
            os.close(hears)
            os.close(self.life)
            self.answer(says)
        os.close(says)
        self.living.add(process)
        with open(hears, "rb") as pipe:
            said = pipe.read()
        if said[:1] == READY or self.stopping:
            return said[1:].decode()
        self.living.discard(process)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process, 0)
        raise AmzrecError(said[1:].decode() or "a worker ended before it was ready; its last words stand above")

    def answer(self, says: int) -> None:
        """Be a worker, to the end of the process."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

        def ready(text: str) -> None:
            os.write(says, READY + text.encode())
            os.close(says)

        code = 1
        try:
            self.work(ready, self.alive)
            code = 0
        except AmzrecError as error:
            os.write(says, FAILED + str(error).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)  # what the process that made it would do at its end is not for a worker to do


@contextlib.contextmanager
def shared_figures() -> Iterator[None]:
    """Let the figures of all workers be told together; to be entered before prometheus_client is imported."""
    folder = tempfile.mkdtemp(prefix="amzrec-figures-")
    os.environ[METRICS] = folder
    try:
        yield
    finally:
        os.environ.pop(METRICS, None)
        shutil.rmtree(folder, ignore_errors=True)


def forget(process: int) -> None:
    """Leave out what a process that ended said of now."""
    for file in Path(os.environ[METRICS]).glob(f"gauge_live*_{process}.db") if METRICS in os.environ else ():
        file.unlink(missing_ok=True)
