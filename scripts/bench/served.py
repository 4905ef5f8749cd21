"""A service under load: `amzrec serve` as a process of its own, its memory, and wrk, which asks it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from timing import ROOT

ASKS = Path(__file__).with_name("load.lua")


@dataclasses.dataclass(frozen=True)
class Service:
    """A running service."""

    process: subprocess.Popen[bytes]
    address: str
    seconds: float  # from the start of the process until /readyz answered
    log: Path

    def processes(self) -> list[int]:
        """Itself and its workers."""
        pid = self.process.pid
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def busy(self) -> float:
        """Seconds of CPU that it took so far."""
        stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self.processes()]
        return sum(int(fields[11]) + int(fields[12]) for fields in stats) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> tuple[float, float, float]:
        """Its memory in MB: now, of that its own, and at most; the rest are files that are mapped and shared."""
        found = [0.0, 0.0, 0.0]
        for pid in self.processes():
            status = Path(f"/proc/{pid}/status").read_text()
            for place, name in enumerate(("VmRSS", "RssAnon", "VmHWM")):
                found[place] += int(re.findall(rf"{name}:\s+(\d+) kB", status)[0]) / 1e3
        return found[0], found[1], found[2]


@contextlib.contextmanager
def serving(run: Path, log: Path, *words: str, root: Path = ROOT) -> Iterator[Service]:
    """Start the service of a run on a free port, wait until it is ready, and stop it in the end.

    `root` is the checkout whose code answers.
    """
    started = time.perf_counter()
    command = [sys.executable, "-m", "amzrec", "serve", str(run), "--port", "0", *words]
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stderr=errors, cwd=root, env=os.environ | {"PYTHONPATH": str(root)})
    try:
        while not (found := re.search(r"serving .* at (http://\S+)", log.read_text(errors="replace"))):
            if process.poll() is not None:
                raise SystemExit(f"the service did not start: {log.read_text()}")
            time.sleep(0.01)
        ready(found[1])
        yield Service(process, found[1], time.perf_counter() - started, log)
    finally:
        process.terminate()
        process.wait()


def ready(address: str) -> None:
    """Wait until /readyz says so."""
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/readyz"):
            return
        time.sleep(0.01)


@dataclasses.dataclass(frozen=True)
class Load:
    """What wrk found."""

    seconds: float
    requests: int
    p50: float  # ms
    p99: float  # ms
    max: float  # ms
    busy: float  # ms of CPU that the service took for each
    refused: int  # answers from 400 on
    broken: int  # connections that failed, and answers that did not come

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


def load(
    service: Service,
    kind: str,
    rate: float,
    seconds: float,
    customers: int,
    products: int,
    connections: int = 0,
    lines: tuple[str, ...] = (),
) -> Load:
    """Ask with wrk for some seconds at a rate (0: as fast as it goes), each connection after random times.

    `lines` are a file of bodies and the path that they are sent to, for the kind of that name.
    """
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")
    connections = connections or max(16, min(900, round(rate / 2)))
    words = [kind, str(rate), str(connections), str(customers), str(products), str(int(time.time())), *lines]
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s", "-s", str(ASKS)]
    before = service.busy()
    done = subprocess.run([*command, service.address, "--", *words], capture_output=True, text=True, check=False)
    found = re.search(r"^FOUND (.*)$", done.stdout, re.MULTILINE)
    if not found:
        raise SystemExit(f"wrk failed: {done.stdout} {done.stderr}")
    document = json.loads(found[1])
    return Load(**document, busy=1e3 * (service.busy() - before) / max(1, document["requests"]))
