"""launch: start the workers of a cluster on this machine, and all of them again when one of them dies."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence

from amzrec import interrupts
from amzrec.errors import SILENT, AmzrecError, Progress, printable
from amzrec.training.cluster import VARIABLE

KEPT = 20  # last lines of a worker that are shown where it fails
PATIENCE = 60.0  # seconds that workers have to end by themselves, once the chief has
GLANCE = 0.2  # seconds between two looks at the workers
PROGRAM = [sys.executable, "-m", "amzrec"]


def launch(arguments: Sequence[str], workers: int = 2, *, restarts: int = 3, progress: Progress = SILENT) -> int:
    """Run `amzrec train …` as so many workers of one cluster on this machine, and return the exit code of the chief.

    `arguments` are the words after amzrec, train the first of them. What the chief prints is shown; of another worker
    the last lines, where it fails. Where a signal kills a worker, all are started again with --resume, at most
    `restarts` times. A Ctrl-C is passed on to the chief, which saves. Raises AmzrecError for another command than
    train, and where workers are killed more often than that.
    """
    words = checked(list(arguments), workers, restarts)
    for killed in range(restarts + 1):
        cluster = Cluster(words, workers)
        with cluster.running():
            code = cluster.wait()
        if code is not None:
            return code
        words = [*words, *([] if "--resume" in words else ["--resume"])]
        left = restarts - killed
        progress.say(f"{cluster.died}: " + (f"starting all {workers} again ({left} left)" if left else "giving up"))
    raise AmzrecError(
        f"{cluster.died}, after {restarts} restarts. Memory is the usual reason: try fewer --workers, or a smaller "
        "--batch-size. What was reached is kept: go on with --resume"
    )


def checked(words: list[str], workers: int, restarts: int) -> list[str]:
    """Return the words to run; AmzrecError where they cannot be run by several workers."""
    example = "amzrec launch --workers 2 -- train reviews.csv --epochs 10"
    if not words or words[0] != "train":
        found = f"found {words[0]!r}" if words else "found nothing"
        raise AmzrecError(f"launch runs amzrec train; {found} after --. For example: {example}")
    if "-" in words:
        raise AmzrecError("workers cannot share standard input (-): give the name of a file, which each of them reads")
    if not 1 <= workers <= 64:
        raise AmzrecError(f"--workers is {workers}; allowed: 1 to 64")
    if restarts < 0:
        raise AmzrecError(f"--restarts is {restarts}; allowed: 0 or more")
    given = [word for word in words if word.split("=")[0] == "--strategy"]
    return words if given or workers == 1 else [*words, "--strategy", "multi-worker"]


class Cluster:
    """The workers of one try: worker 0 is the chief."""

    def __init__(self, words: list[str], workers: int) -> None:
        self.words, self.size = words, workers
        self.workers: list[subprocess.Popen[str]] = []
        self.said = [collections.deque[str](maxlen=KEPT) for _ in range(workers)]
        self.readers: list[threading.Thread] = []
        self.died = ""  # which worker a signal killed

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start the workers for a `with` block; none of them is left at its end."""
        addresses = free_addresses(self.size)
        try:
            for number in range(self.size):
                self.start(number, addresses)
            yield
        finally:
            self.end(0.0)
            for reader in self.readers:
                reader.join(5)

    def start(self, number: int, addresses: list[str]) -> None:
        """Start a worker in a group of its own, so that a terminal's Ctrl-C reaches it by way of this process alone."""
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
        apart = None if number == 0 else subprocess.PIPE
        worker = subprocess.Popen(
            [*PROGRAM, *self.words],
            env=os.environ | {VARIABLE: json.dumps(task)},
            stdin=subprocess.DEVNULL,
            stdout=apart,
            stderr=apart and subprocess.STDOUT,
            process_group=0,
            text=True,
            errors="replace",
        )
        self.workers.append(worker)
        if worker.stdout:
            reader = threading.Thread(target=self.said[number].extend, args=(worker.stdout,), daemon=True)
            reader.start()
            self.readers.append(reader)

    def wait(self) -> int | None:
        """Wait until the workers have ended, and return their exit code; None where a signal killed one of them."""
        try:
            while (codes := self.codes())[0] is None and not any(codes):
                time.sleep(GLANCE)
                interrupts.let_through()
        except KeyboardInterrupt:
            return self.interrupt()
        if not any(codes):
            self.end(PATIENCE)
            return 0
        time.sleep(GLANCE)  # a worker that was killed takes others with it
        codes = self.codes()
        killed = {number: code for number, code in enumerate(codes) if code is not None and code < 0}
        if killed:
            number, code = next(iter(killed.items()))
            self.died = f"worker {number} was killed ({signal.Signals(-code).name})"
            return None
        number, code = next((number, code) for number, code in enumerate(codes) if code)
        self.end(0.0)
        if number:
            self.tell(number)
        return code

    def codes(self) -> list[int | None]:
        """Return the exit code of each worker that has ended."""
        return [worker.poll() for worker in self.workers]

    def interrupt(self) -> int:
        """Let the chief save and end, with the others still there, since it waits for them within a step."""
        asked = interrupts.asked() or signal.SIGINT
        interrupts.forget()
        with contextlib.suppress(ProcessLookupError):
            self.workers[0].send_signal(asked)
        with contextlib.suppress(KeyboardInterrupt, subprocess.TimeoutExpired):  # a second one does not wait
            self.workers[0].wait(PATIENCE)
        interrupts.forget()
        self.end(0.0)
        return 128 + asked

    def end(self, patience: float) -> None:
        """Wait so many seconds for the workers that are left, then kill them."""
        latest = time.monotonic() + patience
        for worker in self.workers:
            try:
                worker.wait(max(latest - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()

    def tell(self, number: int) -> None:
        """Show the last lines of a worker on standard error, with its number before each."""
        for reader in self.readers:
            reader.join(5)
        for line in self.said[number]:
            sys.stderr.write(f"[worker {number}] {printable(line.rstrip())}\n")


def free_addresses(number: int) -> list[str]:
    """Return so many addresses of this machine alone at which nobody listens."""
    with contextlib.ExitStack() as open_ones:
        found = [open_ones.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in found]
