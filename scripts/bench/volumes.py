"""What the service keeps over many kills, swaps and requests: the volumes that are too long for the tests.

    python scripts/bench/volumes.py --out benchmarks/serve.md        # 20 minutes
    python scripts/bench/volumes.py --kills 5 --swaps 4 --requests 4000 --asked 5000     # a look

The checkerboard of the tests as a run, and the clients of the tests.
  kills      SIGKILL while four clients send events, each until it is acknowledged, and start again: every acknowledged
             event is stored, and none twice
  swaps      runs are swapped (SIGHUP) while four connections ask: every request is answered, by one run or the other
  memory     what the process itself holds after a tenth of the requests, and after all of them, from 16 connections

It ends with an error where one of these does not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np

from served import Service, load
from tables import described_by, markdown, section
from timing import ROOT

sys.path.insert(0, str(ROOT / "tests"))
from amzrec.commands.recommend import recommend
from amzrec.store.dataset import open_dataset
from amzrec.store.run import Run
from conftest import write_checkerboard
from runs import parity_vectors, random_vectors, write_run
from services import started
from test_events import Sender
from test_reload import link

SLACK = 5.0  # MB by which a process that keeps nothing may still grow


def two_runs(folder: Path) -> tuple[Run, Run]:
    """Runs of the checkerboard whose answers differ."""
    write_checkerboard(folder / "dataset")
    dataset = open_dataset(folder / "dataset")
    vectors = parity_vectors(dataset), random_vectors(dataset, np.random.default_rng(2))
    a, b = (write_run(folder / name, dataset, each) for name, each in zip("ab", vectors, strict=True))
    return a, b


@contextlib.contextmanager
def process(run: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A service, which is told to stop in the end, and must end well."""
    service, address = started(run, "--no-access-log", *words)
    try:
        yield service, address
    finally:
        service.terminate()
        service.communicate()


def kills(run: Run, folder: Path, rounds: int) -> list[str]:
    """Kill the service while it stores events."""
    senders, begun = [Sender(f"c{number}") for number in range(4)], time.perf_counter()
    events = folder / "events.db"
    try:
        for life in range(rounds):
            service, address = started(run.path, "--events", str(events), "--no-access-log")
            before = sum(len(sender.acknowledged) for sender in senders)
            for sender in senders:
                sender.address = address
                if not life:
                    sender.thread.start()
            while sum(len(sender.acknowledged) for sender in senders) < before + 20:
                time.sleep(0.002)
            service.kill()
            service.communicate()
    finally:
        for sender in senders:
            sender.stop.set()
    for sender in senders:
        sender.thread.join()
    with contextlib.closing(sqlite3.connect(events)) as connection:
        stored = Counter(key for (key,) in connection.execute("SELECT key FROM events"))
        sound = connection.execute("PRAGMA integrity_check").fetchone()[0]
    acknowledged = {key for sender in senders for key in sender.acknowledged}
    lost, twice = len(acknowledged - set(stored)), sum(count > 1 for count in stored.values())
    assert sound == "ok", sound
    assert not lost, lost
    assert not twice, twice
    said = f"{len(acknowledged):,} events acknowledged, {lost} lost, {twice} twice"
    return [f"{rounds} kills", said, f"{time.perf_counter() - begun:,.0f}"]


def swaps(runs: tuple[Run, Run], folder: Path, count: int, requests: int) -> list[str]:
    """Swap the runs while the service is asked."""
    path, begun = link(folder / "latest", runs[0]), time.perf_counter()
    customers = [f"u{number:02}" for number in range(20)]
    wanted = {
        (run.path.name, customer): recommend(customer, run) | {"run": run.path.name}
        for run in runs
        for customer in customers
    }
    wrong, counts, stop = list[str](), Counter[str](), threading.Event()

    def ask(address: str) -> None:
        with httpx.Client(base_url=address, timeout=60) as client:
            while not stop.is_set():
                for customer in customers:
                    try:
                        document = client.get(f"/recommend/{customer}").json()
                        name = document.get("run", "")
                    except (httpx.HTTPError, ValueError) as error:
                        wrong.append(repr(error))
                        return
                    counts[name] += 1
                    if document != wanted.get((name, customer)):
                        wrong.append(str(document))
                        return

    with process(path, "--events", "none") as (service, address):
        threads = [threading.Thread(target=ask, args=(address,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for swap in range(count):
            link(path, runs[1 - swap % 2])
            service.send_signal(signal.SIGHUP)
            name, before = "ba"[swap % 2], counts.total()
            had = counts[name]
            while not wrong and (counts.total() < before + requests // count or counts[name] == had):
                time.sleep(0.01)
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong[0]
    by = f"{counts['a']:,} answered by a, {counts['b']:,} by b"
    said = f"{counts.total():,} requests, {by}, {len(wrong)} failed or mixed"
    return [f"{count} swaps", said, f"{time.perf_counter() - begun:,.0f}"]


def memory(run: Run, folder: Path, requests: int) -> list[str]:
    """Ask many times, and look at the memory."""
    begun, held, asked = time.perf_counter(), list[tuple[int, float]](), 0
    with process(run.path, "--events", str(folder / "memory.db")) as (service, address):
        watched = Service(service, address, 0.0, folder)  # type: ignore[arg-type]
        while asked < requests or not held:
            found = load(watched, "recommend", 0, 10, 1000, 1, 16)
            assert not found.refused + found.broken, found
            asked += found.requests
            if asked >= requests / 10:
                held.append((asked, watched.memory()[1]))
    (early, first), (late, last) = held[0], held[-1]
    assert last - first <= SLACK, held
    said = f"{first:.1f} MB after {early:,} requests, {last:.1f} MB after {late:,}"
    return ["memory of its own", said, f"{time.perf_counter() - begun:,.0f}"]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--requests", type=int, default=20_000, help="while runs are swapped")
    parser.add_argument("--asked", type=int, default=200_000, help="requests over which memory is watched")
    parser.add_argument("--out", type=Path, help="Markdown file whose section is replaced; default: print")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = two_runs(folder)
        section(a.out, "Volumes", described_by(__doc__), "The service")
        for name, rows in (
            ("kills", [kills(runs[0], folder, a.kills)] if a.kills else []),
            ("swaps", [swaps(runs, folder, a.swaps, a.requests)] if a.swaps else []),
            ("memory", [memory(runs[0], folder, a.asked)] if a.asked else []),
        ):
            if rows:
                section(a.out, f"Volumes: {name}", markdown(["", "what came", "s"], rows), "The service")


if __name__ == "__main__":
    main()
